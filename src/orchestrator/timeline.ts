/**
 * Items in the order in which they were appended, each under a number of its own that is never given again. Taking one
 * out leaves a hole; holes are closed when they are more than half, so that every operation stays O(log n), amortised.
 */
export class Timeline<Item> {
  #ordinals: number[] = []
  #items: (Item | undefined)[] = []
  #next = 1
  #size = 0
  /** No item lies before this index. */
  #head = 0

  get size(): number {
    return this.#size
  }

  append(item: Item): number {
    this.#ordinals.push(this.#next)
    this.#items.push(item)
    this.#size++
    return this.#next++
  }

  delete(ordinal: number): void {
    const index = this.#indexAfter(ordinal - 1)
    if (this.#ordinals[index] !== ordinal || this.#items[index] === undefined) return
    this.#items[index] = undefined
    this.#size--
    if (this.#items.length > 64 && this.#items.length > 2 * this.#size) this.#closeHoles()
  }

  oldest(): Item | undefined {
    while (this.#head < this.#items.length && this.#items[this.#head] === undefined) this.#head++
    return this.#items[this.#head]
  }

  /** Those appended after the one of this number, whether that one is still here or not. Not to be changed meanwhile. */
  *after(ordinal: number): Generator<Item> {
    for (let index = this.#indexAfter(ordinal); index < this.#items.length; index++) {
      const item = this.#items[index]
      if (item !== undefined) yield item
    }
  }

  #indexAfter(ordinal: number): number {
    let low = 0
    let high = this.#ordinals.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#ordinals[middle] ?? Number.POSITIVE_INFINITY) <= ordinal) low = middle + 1
      else high = middle
    }
    return low
  }

  #closeHoles(): void {
    this.#ordinals = this.#ordinals.filter((_, index) => this.#items[index] !== undefined)
    this.#items = this.#items.filter((item) => item !== undefined)
    this.#head = 0
  }
}

import { Timeline } from './timeline.ts'

/** One life of one worker, as its line of descent sees it. */
class Life {
  readonly workerId: string
  parent: Life | undefined
  readonly children = new Set<Life>()
  /** Its place among the links, where it has a parent. */
  ordinal = 0
  /** A record of it is known; or was, or is still to come. */
  record: 'expected' | 'known' | 'forgotten' = 'expected'

  constructor(workerId: string) {
    this.workerId = workerId
  }
}

/**
 * Who descends from whom, life by life, also through parents that have ended and were forgotten: a life is kept while it
 * has a record or children that are kept. A worker that is launched again under another parent begins a new line; the
 * children of its earlier life stay in the earlier one.
 */
export class Lineage {
  readonly #limit: number
  readonly #onDropped: (child: string, parent: string) => void
  readonly #links = new Timeline<Life>()
  /** The lives of an id that are kept, the latest last. */
  readonly #lives = new Map<string, Life[]>()

  /** Keeps `limit` links; the oldest is dropped for a new one, and `onDropped` hears of it. */
  constructor(limit: number, onDropped: (child: string, parent: string) => void) {
    this.#limit = limit
    this.#onDropped = onDropped
  }

  /** Links between a child and its parent that are kept. */
  get size(): number {
    return this.#links.size
  }

  /** A new life of `workerId` has a record from now on. */
  hold(workerId: string, parentId: string | null): void {
    const latest = this.#latest(workerId)
    const life = latest?.record === 'expected' ? latest : this.#begin(workerId)
    life.record = 'known'
    if (parentId === null) return
    const parent = this.#latest(parentId) ?? this.#begin(parentId)
    life.parent = parent
    parent.children.add(life)
    life.ordinal = this.#links.append(life)
    if (this.#links.size > this.#limit) this.#dropOldest()
  }

  /** The record of the latest life of `workerId` but `later` ones is no longer known. */
  release(workerId: string, later = 0): void {
    const life = this.#lives.get(workerId)?.at(-1 - later)
    if (life === undefined) return
    life.record = 'forgotten'
    this.#letGo(life)
  }

  /** The worker itself, and every id whose latest life descends from one of its lives. A cycle ends the walk. */
  descent(root: string): Set<string> {
    const reached = new Set(this.#lives.get(root))
    for (const life of reached) for (const child of life.children) reached.add(child)
    const ids = new Set([root])
    for (const life of reached) if (this.#latest(life.workerId) === life) ids.add(life.workerId)
    return ids
  }

  #latest(workerId: string): Life | undefined {
    return this.#lives.get(workerId)?.at(-1)
  }

  #begin(workerId: string): Life {
    const life = new Life(workerId)
    const earlier = this.#lives.get(workerId)
    if (earlier === undefined) this.#lives.set(workerId, [life])
    else earlier.push(life)
    return life
  }

  /** Takes out a life that nobody needs any more, then those above it that were kept for its sake. */
  #letGo(first: Life): void {
    for (let life: Life | undefined = first; life !== undefined; ) {
      if (life.record === 'known' || life.children.size > 0) return
      const { parent }: Life = life
      this.#unlink(life)
      this.#remove(life)
      life = parent
    }
  }

  #unlink(life: Life): void {
    if (life.parent === undefined) return
    this.#links.delete(life.ordinal)
    life.parent.children.delete(life)
    life.parent = undefined
  }

  #remove(life: Life): void {
    const lives = this.#lives.get(life.workerId)?.filter((other) => other !== life) ?? []
    if (lives.length === 0) this.#lives.delete(life.workerId)
    else this.#lives.set(life.workerId, lives)
  }

  #dropOldest(): void {
    const oldest = this.#links.oldest()
    const parent = oldest?.parent
    if (oldest === undefined || parent === undefined) return
    this.#unlink(oldest)
    this.#onDropped(oldest.workerId, parent.workerId)
    this.#letGo(parent)
  }
}

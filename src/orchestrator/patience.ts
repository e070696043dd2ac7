/** Runs out when nothing renews it for so long. */
export class Patience {
  readonly exhausted: Promise<void>
  readonly #timer: NodeJS.Timeout
  #over = false

  constructor(milliseconds: number) {
    let exhaust = () => {}
    this.exhausted = new Promise((resolve) => {
      exhaust = resolve
    })
    this.#timer = setTimeout(() => {
      this.#over = true
      exhaust()
    }, milliseconds)
  }

  /** It ran out, or is no longer needed. */
  get isOver(): boolean {
    return this.#over
  }

  renew(): void {
    if (!this.#over) this.#timer.refresh()
  }

  stop(): void {
    this.#over = true
    clearTimeout(this.#timer)
  }
}

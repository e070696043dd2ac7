/** Runs out when nothing renews it for so long. */
export class Patience {
  readonly exhausted: Promise<void>
  readonly #timer: NodeJS.Timeout
  #exhaust = () => {}
  #over = false

  constructor(milliseconds: number) {
    this.exhausted = new Promise((resolve) => {
      this.#exhaust = resolve
    })
    this.#timer = setTimeout(() => this.exhaust(), milliseconds)
  }

  /** It ran out, or is no longer needed. */
  get isOver(): boolean {
    return this.#over
  }

  renew(): void {
    if (!this.#over) this.#timer.refresh()
  }

  exhaust(): void {
    this.stop()
    this.#exhaust()
  }

  stop(): void {
    this.#over = true
    clearTimeout(this.#timer)
  }
}

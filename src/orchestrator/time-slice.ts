import { setImmediate } from 'node:timers/promises'

/** How long work on many may hold the event loop before it lets others through. */
const SLICE_MS = 2

/** Shared by all that works on one thing, so that together they hold the event loop for one slice. */
export class TimeSlice {
  #end = performance.now() + SLICE_MS
  #turn: Promise<void> | undefined

  /** Settles at once within the slice, else when the event loop has had its turn. */
  pause(): Promise<void> | undefined {
    if (this.#turn === undefined && performance.now() >= this.#end) this.#turn = this.#giveTurn()
    return this.#turn
  }

  async #giveTurn(): Promise<void> {
    await setImmediate()
    this.#turn = undefined
    this.#end = performance.now() + SLICE_MS
  }
}

import type { Cause } from '../../schemas/worker.ts'

/** Told of durations, which no event holds. */
export interface Observer {
  /** From the first request to kill to the confirmed death, in milliseconds. */
  died(cause: Cause, milliseconds: number): void
  killAllEnded(milliseconds: number): void
}

export const NO_OBSERVER: Observer = { died() {}, killAllEnded() {} }

import { randomUUID } from 'node:crypto'
import type { EventFields, EventName } from '../../schemas/event.ts'
import { OrchestratorError } from './errors.ts'

/** Who made something happen, for the log; empty for what happens by itself. */
export interface Caller {
  readonly requestId?: string
}

export const NOBODY: Caller = {}

/** An event as it is kept: serialised once, with what filters look at beside it. */
export interface LoggedEvent {
  readonly seq: number
  readonly name: EventName
  readonly workerId: string | null
  /** The wire's `Event`. */
  readonly json: string
}

/** What happened, as a subscriber is told. */
export interface Occurrence {
  readonly name: EventName
  readonly seq: number
  readonly timestamp: string
  readonly fields: EventFields[EventName]
}

export type Subscriber = (occurrence: Occurrence, caller: Caller) => void

export interface EventFilter {
  readonly workerId?: string | undefined
  readonly name?: string | undefined
}

export interface EventSlice {
  readonly events: readonly LoggedEvent[]
  /** The last `seq` that was looked at. */
  readonly lookedAt: number
}

/** How many events one slice looks at, so that no filter makes another request wait. */
const MAX_LOOKED_AT = 10_000

const matches = (event: LoggedEvent, { workerId, name }: EventFilter) =>
  (workerId === undefined || event.workerId === workerId) && (name === undefined || event.name === name)

/** Numbers what happens without a gap and keeps the newest of it. */
export class EventLog {
  /** Names this log: its numbers mean nothing in another. */
  readonly id = randomUUID()
  readonly #capacity: number
  /** A ring: the event of number `seq` lies at `(seq - 1) % capacity`. */
  readonly #ring: LoggedEvent[] = []
  readonly #subscribers = new Set<Subscriber>()
  #newest = 0

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  get newestSeq(): number {
    return this.#newest
  }

  /** The oldest that is kept; before the first event the one that will be. */
  get oldestSeq(): number {
    return Math.max(1, this.#newest - this.#capacity + 1)
  }

  append<Name extends EventName>(name: Name, fields: EventFields[Name], caller: Caller): void {
    const seq = ++this.#newest
    const timestamp = new Date().toISOString()
    const json = JSON.stringify({ seq, event: name, timestamp, ...fields })
    const workerId = 'worker_id' in fields ? fields.worker_id : null
    this.#ring[(seq - 1) % this.#capacity] = { seq, name, workerId, json }
    for (const subscriber of this.#subscribers) subscriber({ name, seq, timestamp, fields }, caller)
  }

  /** Hears of each event after it was kept, in order. Returns how to stop. */
  subscribe(subscriber: Subscriber): () => void {
    this.#subscribers.add(subscriber)
    return () => this.#subscribers.delete(subscriber)
  }

  /** Up to `limit` matching events after `after`, which is kept or just before what is kept. */
  slice(after: number, limit: number, filter: EventFilter): EventSlice {
    const events: LoggedEvent[] = []
    const last = Math.min(this.#newest, after + MAX_LOOKED_AT)
    let seq = after
    while (seq < last && events.length < limit) {
      seq++
      const event = this.#ring[(seq - 1) % this.#capacity]
      if (event !== undefined && matches(event, filter)) events.push(event)
    }
    return { events, lookedAt: seq }
  }

  /** The wire's `EventPage`. */
  page(after: number | undefined, limit: number, filter: EventFilter): string {
    const { events, lookedAt } = this.slice(this.#position(after ?? 0), limit, filter)
    const items = events.map(({ json }) => json).join(',')
    return (
      `{"items":[${items}],"has_more":${lookedAt < this.#newest},"next_after":${lookedAt},` +
      `"oldest_seq":${this.oldestSeq},"newest_seq":${this.#newest},"log_id":"${this.id}"}`
    )
  }

  /** Where reading goes on after `after`: 0 is the oldest kept. What is no longer, or not yet, here is refused. */
  #position(after: number): number {
    const beforeOldest = this.oldestSeq - 1
    if (after === 0) return beforeOldest
    if (after >= beforeOldest && after <= this.#newest) return after
    throw new OrchestratorError(
      'events_expired',
      `after=${after} is not in this log: oldest_seq is ${this.oldestSeq}, newest_seq is ${this.#newest}; start again with after=0`,
    )
  }
}

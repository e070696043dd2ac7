import { Readable } from 'node:stream'
import { OrchestratorError } from '../orchestrator/errors.ts'
import type { EventFilter, EventLog } from '../orchestrator/event-log.ts'

/** A comment so often keeps a connection open; who took nothing in between is too slow. */
const HEARTBEAT_MS = 15_000
const HEARTBEAT = ': keep-alive\n\n'
const EVENTS_AT_ONCE = 100

/** Where a stream resumes: what the header says goes before the parameter. */
export function resumePoint(lastEventId: string | undefined, after: number | undefined): number | undefined {
  if (lastEventId === undefined || lastEventId === '') return after
  if (/^\d{1,16}$/.test(lastEventId)) return Number(lastEventId)
  throw new OrchestratorError('request_invalid', 'last-event-id must be the id of an event: decimal digits')
}

/** One reader of the log, as server-sent events (WHATWG HTML, section 9.2). It pulls, so a slow one costs no memory. */
class EventStream extends Readable {
  readonly #log: EventLog
  readonly #filter: EventFilter
  #position: number
  #wanted = false
  #idleSinceHeartbeat = false
  #scheduled = false

  constructor(log: EventLog, position: number, filter: EventFilter) {
    super({ highWaterMark: 64 * 1024 })
    this.#log = log
    this.#position = position
    this.#filter = filter
  }

  override _read(): void {
    this.#wanted = true
    this.#idleSinceHeartbeat = false
    this.advance()
  }

  /** Hands over what happened since, a slice a turn: a reader far behind must not make others wait. */
  advance(): void {
    if (!this.#scheduled && this.#handOver()) this.#advanceLater()
  }

  beat(): void {
    if (this.#wanted) this.#wanted = this.push(HEARTBEAT)
    else if (this.#idleSinceHeartbeat) this.destroy()
    else this.#idleSinceHeartbeat = true
  }

  /** Ends with what happened so far; at once where the reader does not take it. */
  finish(): void {
    while (this.#handOver());
    if (this.#wanted) this.push(null)
    else this.destroy()
    this.#wanted = false
  }

  /** One slice; false where nothing is wanted or there is nothing. Who fell behind what is kept is cut off: it can resume. */
  #handOver(): boolean {
    if (!this.#wanted || this.destroyed) return false
    if (this.#position < this.#log.oldestSeq - 1) {
      this.destroy()
      return false
    }
    const { events, lookedAt } = this.#log.slice(this.#position, EVENTS_AT_ONCE, this.#filter)
    if (lookedAt === this.#position) return false
    this.#position = lookedAt
    const text = events.map(({ seq, name, json }) => `id: ${seq}\nevent: ${name}\ndata: ${json}\n\n`).join('')
    if (text !== '') this.#wanted = this.push(text)
    return true
  }

  #advanceLater(): void {
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.advance()
    })
  }
}

/** All who read the log as it grows. */
export class EventStreams {
  readonly #log: EventLog
  readonly #open = new Set<EventStream>()
  readonly #heartbeat: NodeJS.Timeout
  readonly #stopListening: () => void
  #scheduled = false
  #closed = false

  constructor(log: EventLog, heartbeatMs = HEARTBEAT_MS) {
    this.#log = log
    this.#stopListening = log.subscribe(() => this.#schedule())
    this.#heartbeat = setInterval(() => this.beat(), heartbeatMs).unref()
  }

  /** Streams that are read now. */
  get size(): number {
    return this.#open.size
  }

  /** Resumes after `after`; without it, starts with what happens next. What is missing is told by a first event `gap`. */
  open(after: number | undefined, filter: EventFilter): Readable {
    const { newestSeq, oldestSeq } = this.#log
    const known = after === undefined ? newestSeq : after > newestSeq ? 0 : after
    const position = Math.max(known, oldestSeq - 1)
    const stream = new EventStream(this.#log, position, filter)
    stream.push(`: log ${this.#log.id}\n\n`)
    if (known > 0 && known < position) {
      stream.push(`event: gap\ndata: ${JSON.stringify({ from: known + 1, to: position })}\n\n`)
    }
    if (this.#closed) stream.push(null)
    else this.#open.add(stream)
    stream.once('close', () => this.#open.delete(stream))
    return stream
  }

  /** Keeps every stream open, and cuts off who took nothing since the last time. */
  beat(): void {
    for (const stream of this.#open) stream.beat()
  }

  /** Ends every stream, so that nothing waits for them. */
  close(): void {
    this.#closed = true
    clearInterval(this.#heartbeat)
    this.#stopListening()
    for (const stream of this.#open) stream.finish()
  }

  /** Once for all that happens in one turn: readers must not slow what makes things happen. */
  #schedule(): void {
    if (this.#scheduled || this.#open.size === 0) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      for (const stream of this.#open) stream.advance()
    })
  }
}

import { createHmac, randomBytes } from 'node:crypto'
import type { WorkerStatus } from '../../schemas/worker.ts'
import { OrchestratorError } from './errors.ts'
import type { Registry } from './registry.ts'

export interface ListQuery {
  readonly status?: WorkerStatus | undefined
  readonly parentId?: string | undefined
  readonly limit: number
  readonly cursor?: string | undefined
}

/** The wire's `WorkerPage`, its records as JSON. */
export interface RecordPage {
  readonly items: readonly string[]
  readonly nextCursor: string | null
}

const MAX_PAGE_LENGTH = 4 * 1024 * 1024
const MAX_LOOKED_AT = 10_000

/** Pages through records in the order in which their launches were accepted. */
export class Listing {
  readonly #registry: Registry
  /** A cursor that was not made with it was not issued here. */
  readonly #key = randomBytes(32)

  constructor(registry: Registry) {
    this.#registry = registry
  }

  page({ status, parentId, limit, cursor }: ListQuery): RecordPage {
    const items: string[] = []
    let length = 0
    let lookedAt = 0
    let last = cursor === undefined ? 0 : this.#position(cursor)
    for (const record of this.#registry.acceptedAfter(last)) {
      if (items.length === limit || lookedAt === MAX_LOOKED_AT)
        return { items, nextCursor: this.#cursor(last) }
      lookedAt++
      const wanted =
        (status === undefined || record.status === status) &&
        (parentId === undefined || record.parentId === parentId)
      if (wanted) {
        const json = record.toJson()
        length += Buffer.byteLength(json) + 1
        if (items.length > 0 && length > MAX_PAGE_LENGTH) return { items, nextCursor: this.#cursor(last) }
        items.push(json)
      }
      last = record.acceptedOrdinal
    }
    return { items, nextCursor: null }
  }

  #cursor(ordinal: number): string {
    return `${ordinal}.${this.#seal(String(ordinal))}`
  }

  #position(cursor: string): number {
    const [ordinal = '', seal] = cursor.split('.')
    if (seal === this.#seal(ordinal) && this.#cursor(Number(ordinal)) === cursor) return Number(ordinal)
    throw new OrchestratorError(
      'request_invalid',
      'cursor was not issued by this service: start again without it, then pass on next_cursor as it is',
    )
  }

  #seal(ordinal: string): string {
    return createHmac('sha256', this.#key).update(ordinal).digest('base64url').slice(0, 22)
  }
}

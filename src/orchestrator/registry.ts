import type { WorkerStatus } from '../../schemas/worker.ts'
import type { SandboxId } from '../drivers/driver.ts'
import type { Lineage } from './lineage.ts'
import { type LiveStatus, mayFollow, type WorkerRecord } from './record.ts'
import { Timeline } from './timeline.ts'

export interface RegistryLimits {
  /** Records of ended workers that are kept. */
  readonly retainedRecords: number
  /** Bytes of manifests that are held, those of live workers included. */
  readonly stateBytes: number
  readonly liveWorkers: number
}

/** Who is known: live workers, and as many ended ones as are retained, the oldest ended going first. */
export class Registry {
  readonly #limits: RegistryLimits
  readonly #lineage: Lineage
  readonly #byId = new Map<string, WorkerRecord>()
  readonly #liveBySandbox = new Map<SandboxId, WorkerRecord>()
  readonly #accepted = new Timeline<WorkerRecord>()
  readonly #ended = new Timeline<WorkerRecord>()
  readonly #counts: Record<LiveStatus, number> = { pending: 0, running: 0, killing: 0 }
  #liveBytes = 0
  #endedBytes = 0

  constructor(limits: RegistryLimits, lineage: Lineage) {
    this.#limits = limits
    this.#lineage = lineage
  }

  get(workerId: string): WorkerRecord | undefined {
    return this.#byId.get(workerId)
  }

  liveInSandbox(sandbox: SandboxId): WorkerRecord | undefined {
    return this.#liveBySandbox.get(sandbox)
  }

  get counts(): Readonly<Record<LiveStatus, number>> {
    return this.#counts
  }

  get liveCount(): number {
    return this.#liveBySandbox.size
  }

  /** What a manifest of so many bytes lacks to be accepted, once `replaced` has ended; undefined where nothing. */
  missingCapacity(bytes: number, replaced?: WorkerRecord): string | undefined {
    const { liveWorkers, stateBytes } = this.#limits
    if (this.liveCount - (replaced === undefined ? 0 : 1) >= liveWorkers) {
      return `${this.liveCount} workers are alive and MAX_WORKERS is ${liveWorkers}: kill some, or raise it`
    }
    if (this.#liveBytes - (replaced?.manifestBytes ?? 0) + bytes > stateBytes) {
      return `the manifests of live workers hold ${this.#liveBytes} bytes and MAX_STATE_BYTES is ${stateBytes}: kill some, or raise it`
    }
    return undefined
  }

  /** Takes in a new record, in the place of an ended one of its id. */
  add(record: WorkerRecord): void {
    const previous = this.#byId.get(record.workerId)
    this.#lineage.hold(record.workerId, record.parentId)
    if (previous !== undefined) this.#forget(previous, 1)
    this.#byId.set(record.workerId, record)
    this.#liveBySandbox.set(record.sandbox, record)
    record.acceptedOrdinal = this.#accepted.append(record)
    this.#liveBytes += record.manifestBytes
    this.#count(record.status, 1)
    this.#forgetOldest()
  }

  /** The only place where a status changes. */
  move(record: WorkerRecord, status: WorkerStatus): void {
    if (!mayFollow(status, record.status)) {
      throw new Error(`worker ${record.workerId} cannot go from ${record.status} to ${status}`)
    }
    this.#count(record.status, -1)
    record.status = status
    this.#count(status, 1)
    if (record.isLive) return
    this.#liveBySandbox.delete(record.sandbox)
    this.#liveBytes -= record.manifestBytes
    this.#endedBytes += record.manifestBytes
    record.endedOrdinal = this.#ended.append(record)
    this.#forgetOldest()
  }

  /** In order of acceptance, those accepted after the one of this number. Not to be held across an `await`. */
  acceptedAfter(ordinal: number): Iterable<WorkerRecord> {
    return this.#accepted.after(ordinal)
  }

  live(): WorkerRecord[] {
    return [...this.#liveBySandbox.values()]
  }

  #count(status: WorkerStatus, change: 1 | -1): void {
    if (status === 'pending' || status === 'running' || status === 'killing') this.#counts[status] += change
  }

  #forgetOldest(): void {
    const { retainedRecords, stateBytes } = this.#limits
    while (this.#ended.size > retainedRecords || this.#liveBytes + this.#endedBytes > stateBytes) {
      const oldest = this.#ended.oldest()
      if (oldest === undefined) return
      this.#forget(oldest)
      this.#byId.delete(oldest.workerId)
    }
  }

  /** `laterLives` of the worker have begun since. */
  #forget(ended: WorkerRecord, laterLives = 0): void {
    this.#accepted.delete(ended.acceptedOrdinal)
    this.#ended.delete(ended.endedOrdinal)
    this.#endedBytes -= ended.manifestBytes
    this.#lineage.release(ended.workerId, laterLives)
  }
}

import type { Cause, EffectiveResourceSpec, WorkerStatus } from '../../schemas/worker.ts'
import type { Ending, SandboxId } from '../drivers/driver.ts'
import { type AcceptedManifest, limitsOf } from '../manifest/manifest.ts'

/** Which status may follow which. A record leaves `running` once and never returns to it. */
export const TRANSITIONS: Readonly<Record<WorkerStatus, readonly WorkerStatus[]>> = {
  pending: ['running', 'killing'],
  running: ['killing', 'exited'],
  killing: ['killed', 'failed'],
  killed: [],
  exited: [],
  failed: [],
}

export type LiveStatus = 'pending' | 'running' | 'killing'

export const mayFollow = (next: WorkerStatus, status: WorkerStatus): boolean =>
  TRANSITIONS[status].includes(next)

/** Something under way on a worker: its launch, or an enforcement. */
export interface Activity {
  /** A kill came: end at once. */
  interrupt(): void
  /** The sandbox is told to have ended by itself. */
  ended(ending: Ending): void
}

const time = (at: number | null): string => (at === null ? 'null' : `"${new Date(at).toISOString()}"`)

/**
 * One life of one worker. Only the {@link Registry} changes its status; times are milliseconds since 1970.
 * Flat, and the manifest only as its text: there may be 100,000 of these.
 */
export class WorkerRecord {
  readonly sandbox: SandboxId
  readonly manifest: string
  readonly manifestBytes: number
  readonly workerId: string
  readonly parentId: string | null
  readonly depth: number
  readonly cpuLimit: string
  readonly memoryLimitMb: number
  readonly allowController: boolean
  readonly allowExternal: boolean
  status: WorkerStatus = 'pending'
  startedAt: number | null = null
  killRequestedAt: number | null = null
  finishedAt: number | null = null
  removedAt: number | null = null
  reason: string | null = null
  cause: Cause | null = null
  exitCode: number | null = null
  /** Its place in the order of acceptance, and once it has ended in that of ends. */
  acceptedOrdinal = 0
  endedOrdinal = 0
  /** What is under way: its launch or an enforcement, nothing while it only runs. */
  activity: Activity | null = null

  constructor(sandbox: SandboxId, manifest: AcceptedManifest) {
    this.sandbox = sandbox
    this.manifest = manifest.text
    this.manifestBytes = manifest.bytes
    this.workerId = manifest.worker_id
    this.parentId = manifest.parent_id
    this.depth = manifest.depth
    this.cpuLimit = manifest.cpu_limit
    this.memoryLimitMb = manifest.memory_limit_mb
    this.allowController = manifest.allow_controller
    this.allowExternal = manifest.allow_external
  }

  get isLive(): boolean {
    return this.status === 'pending' || this.status === 'running' || this.status === 'killing'
  }

  get limits(): EffectiveResourceSpec {
    return limitsOf({
      text: this.manifest,
      bytes: this.manifestBytes,
      worker_id: this.workerId,
      parent_id: this.parentId,
      depth: this.depth,
      cpu_limit: this.cpuLimit,
      memory_limit_mb: this.memoryLimitMb,
      allow_controller: this.allowController,
      allow_external: this.allowExternal,
    })
  }

  /** The wire's `ContainerRecord`. Written by hand, so that the manifest and its numbers stay as they were sent. */
  toJson(): string {
    return (
      `{"manifest":${this.manifest},"resources":{"cpu_limit":${this.cpuLimit},"memory_limit_mb":${this.memoryLimitMb},` +
      `"network_policy":{"allow_controller":${this.allowController},"allow_external":${this.allowExternal}}},` +
      `"status":"${this.status}","started_at":${time(this.startedAt)},"kill_requested_at":${time(this.killRequestedAt)},` +
      `"finished_at":${time(this.finishedAt)},"removed_at":${time(this.removedAt)},"reason":${JSON.stringify(this.reason)},` +
      `"cause":${JSON.stringify(this.cause)},"exit_code":${this.exitCode}}`
    )
  }
}

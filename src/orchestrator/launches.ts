import { DriverError, type Ending, type Launched, type SandboxDriver } from '../drivers/driver.ts'
import { type AcceptedManifest, sameManifest } from '../manifest/manifest.ts'
import { BoundedCall, bounded, DeadlineExceeded } from './bounded-call.ts'
import type { Deaths } from './deaths.ts'
import { OrchestratorError } from './errors.ts'
import type { Caller, EventLog } from './event-log.ts'
import type { Gate } from './gate.ts'
import { checkEnforceable } from './limits.ts'
import type { Pursuit } from './pursuit.ts'
import { type Activity, WorkerRecord } from './record.ts'
import type { Registry } from './registry.ts'
import type { SandboxIds } from './sandbox-ids.ts'
import type { Settings } from './settings.ts'

export interface Launch {
  /** False where exactly this manifest ran already. */
  readonly created: boolean
  readonly record: WorkerRecord
}

interface Parts {
  readonly driver: SandboxDriver
  readonly settings: Settings
  readonly registry: Registry
  readonly events: EventLog
  readonly gate: Gate
  readonly deaths: Deaths
  readonly sandboxIds: SandboxIds
}

const killed = (workerId: string) =>
  new OrchestratorError('worker_killed', `worker ${workerId} was killed while its launch was under way`)

/** A start under way: retries of the same manifest wait for its outcome. */
class Start implements Activity {
  readonly call: BoundedCall<Launched>
  /** Told before the driver said that it runs. */
  ending: Ending | null = null
  readonly outcome: Promise<WorkerRecord>

  constructor(call: BoundedCall<Launched>, settle: (start: Start) => Promise<WorkerRecord>) {
    this.call = call
    this.outcome = settle(this)
  }

  interrupt(): void {
    this.call.interrupt(new Error('a kill came'))
  }

  ended(ending: Ending): void {
    this.ending = ending
  }
}

/** What a launch that failed is refused with, once it is cleaned up. */
function refusalOf(workerId: string, error: unknown): OrchestratorError {
  const refuse = (code: ConstructorParameters<typeof OrchestratorError>[0], message: string) =>
    new OrchestratorError(code, `worker ${workerId}: ${message}`, { cause: error })
  if (error instanceof DeadlineExceeded) return refuse('launch_timeout', `it did not start: ${error.message}`)
  if (!(error instanceof DriverError)) return refuse('launch_failed', 'the driver failed unexpectedly')
  switch (error.failure) {
    case 'unreachable':
      return refuse('runtime_unavailable', `the runtime does not answer: ${error.message}`)
    case 'no_capacity':
      return refuse('capacity_exhausted', `the runtime is full: ${error.message}`)
    case 'not_enforceable':
      return refuse('limit_not_enforceable', error.message)
    case 'refused':
      return refuse('launch_failed', `the runtime refused: ${error.message}`)
  }
}

/** From a manifest to a running worker. */
export class Launches {
  readonly #parts: Parts

  constructor(parts: Parts) {
    this.#parts = parts
  }

  async launch(manifest: AcceptedManifest, replace: boolean, caller: Caller): Promise<Launch> {
    const known = this.#knownLaunch(manifest)
    if (known !== undefined) return known
    let predecessor: WorkerRecord | undefined
    try {
      predecessor = this.#admit(manifest, replace)
    } catch (error) {
      throw this.#rejected(manifest, error, caller)
    }
    if (predecessor !== undefined) return this.#launchAfter(predecessor, manifest, caller)
    return { created: true, record: await this.#start(manifest, caller).outcome }
  }

  /** Kills what stands in the way, as often as another launch gets there first. */
  async #launchAfter(first: WorkerRecord, manifest: AcceptedManifest, caller: Caller): Promise<Launch> {
    const { gate } = this.#parts
    const waiting = gate.enter(manifest)
    let start: Start | undefined
    try {
      for (let predecessor: WorkerRecord | undefined = first; predecessor !== undefined; ) {
        const failure = await this.#replace(predecessor, caller)
        if (waiting.overtaken) throw killed(manifest.worker_id)
        if (failure !== undefined) throw failure
        const known = this.#knownLaunch(manifest)
        if (known !== undefined) return known
        predecessor = this.#admit(manifest, true)
      }
      start = this.#start(manifest, caller)
    } catch (error) {
      throw this.#rejected(manifest, error, caller)
    } finally {
      gate.leave(waiting)
    }
    return { created: true, record: await start.outcome }
  }

  /** The same manifest runs, or starts: the retry shares what comes of it. */
  #knownLaunch(manifest: AcceptedManifest): Promise<Launch> | undefined {
    const record = this.#parts.registry.get(manifest.worker_id)
    if (record === undefined || !record.isLive || !sameManifest(record.manifest, manifest.text))
      return undefined
    if (record.status === 'running') return Promise.resolve({ created: false, record })
    if (!(record.activity instanceof Start)) return undefined
    return record.activity.outcome.then((started) => ({ created: false, record: started }))
  }

  /**
   * Who has to die first, or undefined: the manifest may have a record, for as long as nobody else has a turn. Throws
   * why it may not, in the order in which callers can act on it.
   */
  #admit(manifest: AcceptedManifest, replace: boolean): WorkerRecord | undefined {
    const { driver, registry, gate } = this.#parts
    checkEnforceable(manifest, driver.capabilities)
    this.#checkHoldable(manifest)
    const record = registry.get(manifest.worker_id)
    const current = record?.isLive ? record : undefined
    gate.checkKillAll()
    gate.checkCascades(manifest)
    this.#checkNoStray(manifest)
    if (current !== undefined) this.#checkReplaceable(current, manifest, replace)
    const missing = registry.missingCapacity(manifest.bytes, current)
    if (missing !== undefined) throw new OrchestratorError('capacity_exhausted', missing)
    gate.checkRuntime()
    return current
  }

  async #replace(predecessor: WorkerRecord, caller: Caller): Promise<OrchestratorError | undefined> {
    const reason = 'replaced by another manifest'
    const failure = await this.#parts.deaths.kill(predecessor, { cause: 'replaced', reason, caller })
    if (failure === undefined) return undefined
    return new OrchestratorError(
      'kill_unconfirmed',
      `worker ${predecessor.workerId} will not die: ${failure.detail}`,
    )
  }

  /** Two sandboxes of one worker never live at once, also where an earlier process made the other. */
  #checkNoStray({ worker_id }: AcceptedManifest): void {
    if (this.#parts.deaths.straysOf(worker_id).length === 0) return
    throw new OrchestratorError(
      'worker_killed',
      `what the runtime still had of worker ${worker_id} is being killed: launch it again when that is dead`,
    )
  }

  /** No waiting would ever make room for it. */
  #checkHoldable({ worker_id, bytes }: AcceptedManifest): void {
    const { maxStateBytes } = this.#parts.settings
    if (bytes <= maxStateBytes) return
    throw new OrchestratorError(
      'body_too_large',
      `worker ${worker_id}: its manifest is ${bytes} bytes long and MAX_STATE_BYTES is ${maxStateBytes}`,
    )
  }

  #checkReplaceable(current: WorkerRecord, manifest: AcceptedManifest, replace: boolean): void {
    const id = manifest.worker_id
    if (sameManifest(current.manifest, manifest.text)) {
      throw new OrchestratorError(
        'worker_killed',
        `worker ${id} is being killed: launch it again when it has ended`,
      )
    }
    if (!replace) {
      throw new OrchestratorError(
        'worker_exists',
        `worker ${id} is ${current.status} with another manifest: add replace=true to kill it first`,
      )
    }
  }

  #start(manifest: AcceptedManifest, caller: Caller): Start {
    const { driver, settings, registry, sandboxIds } = this.#parts
    const record = new WorkerRecord(sandboxIds.issue(), manifest)
    registry.add(record)
    const request = {
      sandbox: record.sandbox,
      worker_id: record.workerId,
      parent_id: record.parentId,
      depth: record.depth,
      limits: record.limits,
      manifest: record.manifest,
    }
    const call = new BoundedCall(settings.launchTimeoutMs, (signal) => driver.launch(request, signal))
    const start = new Start(call, (self) => this.#settle(record, self, caller))
    record.activity = start
    return start
  }

  async #settle(record: WorkerRecord, start: Start, caller: Caller): Promise<WorkerRecord> {
    const { registry, events, deaths } = this.#parts
    let launched: Launched
    try {
      launched = await start.call.result
    } catch (error) {
      if (record.activity !== start) throw killed(record.workerId)
      throw await this.#cleanUp(record, error, caller)
    }
    if (record.activity !== start) throw killed(record.workerId)
    record.activity = null
    record.startedAt = launched.started_at.getTime()
    registry.move(record, 'running')
    const { cpu_limit, memory_limit_mb, network_policy } = record.limits
    const fields = { worker_id: record.workerId, parent_id: record.parentId, cpu_limit, memory_limit_mb }
    events.append('container_launched', { ...fields, allow_external: network_policy.allow_external }, caller)
    const ending = launched.ended ?? start.ending
    if (ending !== null) deaths.ended(record, ending)
    return record
  }

  /** What the caller is told after nothing of the failed launch is left, or nobody can say that. */
  async #cleanUp(record: WorkerRecord, error: unknown, caller: Caller): Promise<OrchestratorError> {
    const { deaths } = this.#parts
    record.activity = null
    const refusal = refusalOf(record.workerId, error)
    const pursuit = deaths.condemn(record, { cause: 'launch_failed', reason: null, caller })
    void pursuit.attempt()
    const answer = await this.#unlessUnconfirmed(pursuit, refusal)
    if (answer === refusal) await deaths.cleanup(record)
    return this.#rejected({ worker_id: record.workerId }, answer, caller)
  }

  async #unlessUnconfirmed(pursuit: Pursuit, refusal: OrchestratorError): Promise<OrchestratorError> {
    // Only the deadline can reject it: whether anything lives is unknown then, and that is the news.
    await bounded(this.#parts.settings.killTimeoutMs, () => pursuit.over).catch(() => {})
    if (pursuit.outcome === undefined) return refusal
    const message = `${refusal.message}; and what was started is not confirmed dead yet`
    return new OrchestratorError('kill_unconfirmed', message, { cause: refusal })
  }

  /** Tells of the refusal, and hands it back. */
  #rejected<Failure>(
    { worker_id }: Pick<AcceptedManifest, 'worker_id'>,
    error: Failure,
    caller: Caller,
  ): Failure {
    if (error instanceof OrchestratorError) {
      this.#parts.events.append('launch_rejected', { worker_id, code: error.code }, caller)
    }
    return error
  }
}

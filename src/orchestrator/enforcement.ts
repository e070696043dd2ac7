import type { Drift, EnforcementReport } from '../../schemas/enforcement.ts'
import { DriverError, type Observation, type SandboxDriver } from '../drivers/driver.ts'
import { BoundedCall, DeadlineExceeded } from './bounded-call.ts'
import type { Deaths } from './deaths.ts'
import { OrchestratorError } from './errors.ts'
import type { Caller, EventLog } from './event-log.ts'
import { driftOf, isReadable } from './limits.ts'
import type { Activity, WorkerRecord } from './record.ts'
import type { Registry } from './registry.ts'
import type { Settings } from './settings.ts'

interface Parts {
  readonly driver: SandboxDriver
  readonly settings: Settings
  readonly registry: Registry
  readonly events: EventLog
  readonly deaths: Deaths
}

/** One enforcement of one worker; another waits for it, a kill ends it. */
class Turn implements Activity {
  readonly over: Promise<void>
  #settle: () => void = () => {}
  #call: BoundedCall<unknown> | undefined
  #interrupted = false

  constructor() {
    this.over = new Promise((resolve) => {
      this.#settle = resolve
    })
  }

  call<Result>(milliseconds: number, verb: (signal: AbortSignal) => Promise<Result>): Promise<Result> {
    if (this.#interrupted) throw new Error('the worker ends')
    const call = new BoundedCall(milliseconds, verb)
    this.#call = call
    return call.result
  }

  interrupt(): void {
    this.#interrupted = true
    this.#call?.interrupt(new Error('the worker ends'))
  }

  /** Its record is no longer running by then, which interrupts this. */
  ended(): void {}

  end(): void {
    this.#settle()
  }
}

interface Finding {
  readonly found: Drift[]
  readonly remaining: Drift[]
  readonly deferred: boolean
  readonly observation: Observation
}

const notRunning = (record: WorkerRecord) =>
  new OrchestratorError(
    'worker_not_running',
    `worker ${record.workerId} is ${record.status}: only a running worker has limits to enforce`,
  )

/** Holds running workers to their manifests. */
export class Enforcement {
  readonly #parts: Parts

  constructor(parts: Parts) {
    this.#parts = parts
  }

  async enforce(workerId: string, caller: Caller): Promise<EnforcementReport> {
    const { record, turn } = await this.#takeTurn(workerId)
    try {
      const finding = await this.#repair(record, turn)
      return await this.#conclude(record, finding, caller)
    } catch (error) {
      throw this.#refusalOf(record, error)
    } finally {
      if (record.activity === turn) record.activity = null
      turn.end()
    }
  }

  /** The only turn at a running worker; it has to be ended. */
  async #takeTurn(workerId: string): Promise<{ record: WorkerRecord; turn: Turn }> {
    for (;;) {
      const record = this.#parts.registry.get(workerId)
      if (record === undefined)
        throw new OrchestratorError('worker_not_found', `worker ${workerId} is not known`)
      if (record.status !== 'running') throw notRunning(record)
      if (record.activity instanceof Turn) {
        await record.activity.over
        continue
      }
      const turn = new Turn()
      record.activity = turn
      return { record, turn }
    }
  }

  async #repair(record: WorkerRecord, turn: Turn): Promise<Finding> {
    const { driver, settings } = this.#parts
    const { limits, sandbox } = record
    const read = () => turn.call(settings.runtimeTimeoutMs, (signal) => driver.readLimits(sandbox, signal))
    const before = await read()
    const found = driftOf(limits, before.limits, driver.capabilities)
    if (found.length === 0) return { found, remaining: [], deferred: false, observation: before }
    const applied = await turn.call(settings.runtimeTimeoutMs, (signal) => this.#apply(record, signal))
    const observation = await read()
    const remaining = driftOf(limits, observation.limits, driver.capabilities)
    return { found, remaining, deferred: applied === 'deferred', observation }
  }

  /** A runtime that refuses to apply a limit has answered: what it then shows decides. */
  async #apply(record: WorkerRecord, signal: AbortSignal): Promise<'applied' | 'deferred' | 'refused'> {
    try {
      return await this.#parts.driver.applyLimits(record.sandbox, record.limits, signal)
    } catch (error) {
      if (error instanceof DriverError && error.failure !== 'unreachable') return 'refused'
      throw error
    }
  }

  async #conclude(record: WorkerRecord, finding: Finding, caller: Caller): Promise<EnforcementReport> {
    if (record.status !== 'running') throw notRunning(record)
    const { found, remaining, deferred, observation } = finding
    const enforced = remaining.length === 0 && isReadable(observation.limits)
    if (enforced) this.#tellEnforced(record, caller)
    else if (remaining.length > 0 && !deferred) await this.#killUnenforceable(record, remaining, caller)
    return {
      worker_id: record.workerId,
      enforced,
      limits: record.limits,
      observed: observation.limits,
      drift: found,
      usage: observation.usage,
    }
  }

  #tellEnforced(record: WorkerRecord, caller: Caller): void {
    const fields = { worker_id: record.workerId, cpu: record.cpuLimit, memory: String(record.memoryLimitMb) }
    this.#parts.events.append('resource_enforced', { value: 1, ...fields }, caller)
  }

  async #killUnenforceable(record: WorkerRecord, remaining: readonly Drift[], caller: Caller): Promise<void> {
    const reason = `limits could not be enforced: ${remaining.map(({ field }) => field).join(', ')}`
    await this.#parts.deaths.kill(record, { cause: 'enforcement_failed', reason, caller })
  }

  #refusalOf(record: WorkerRecord, error: unknown): unknown {
    if (error instanceof OrchestratorError) return error
    if (record.status !== 'running') return notRunning(record)
    if (error instanceof DriverError || error instanceof DeadlineExceeded) {
      const message = `worker ${record.workerId}: its limits could not be read or applied: ${error.message}`
      return new OrchestratorError('runtime_unavailable', message, { cause: error })
    }
    return error
  }
}

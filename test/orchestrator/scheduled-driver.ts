import type fc from 'fast-check'
import {
  type Capabilities,
  DriverError,
  type Launched,
  type LaunchRequest,
  type Observation,
  type OwnedSandbox,
  type SandboxDriver,
  type SandboxExit,
  type SandboxId,
} from '../../src/drivers/driver.ts'
import { openMemoryDriver } from '../../src/drivers/memory/driver.ts'
import { NO_FAULTS } from '../../src/drivers/memory/faults.ts'
import type { SimulatedRuntime } from '../../src/drivers/memory/runtime.ts'
import { collect } from '../drivers/trial.ts'

/** What becomes of each call in turn; what is not scripted goes well. */
export interface Script {
  /** `half made`: fails, and leaves something that does not run. `lost answer`: fails, and runs. */
  readonly launches: readonly ('ok' | 'refused' | 'half made' | 'lost answer' | 'slow')[]
  /** `lost call`: fails, and nothing died. `lost answer`: fails, and it is dead. */
  readonly kills: readonly ('ok' | 'lost call' | 'lost answer' | 'slow')[]
  readonly removals: readonly ('ok' | 'fails')[]
  readonly lists: readonly ('ok' | 'fails')[]
  readonly exits: readonly ('told' | 'gap')[]
  readonly limits: readonly ('ok' | 'unreachable' | 'refused')[]
}

/** So many turns of others pass before a slow call fails, unless it is aborted. */
const SLOW_TURNS = 8

function* outcomes<Outcome>(script: readonly Outcome[], otherwise: Outcome): Generator<Outcome, never> {
  yield* script
  for (;;) yield otherwise
}

const lost = (what: string) => new DriverError('unreachable', `${what}: no answer`)

/**
 * The memory driver on a machine where each step of each verb happens when the scheduler says so, and every call may go
 * wrong. It keeps a driver's guarantees, and notes of whom the core has its word that they are dead.
 */
export class ScheduledDriver implements SandboxDriver {
  readonly name = 'scheduled'
  readonly capabilities: Capabilities
  readonly confirmedDead = new Set<SandboxId>()
  readonly #inner: SandboxDriver
  readonly #runtime: SimulatedRuntime
  readonly #scheduler: fc.Scheduler
  readonly #launched: (request: LaunchRequest) => void
  readonly #killed = new Set<SandboxId>()
  readonly #asked = new Set<SandboxId>()
  readonly #outcomes
  #closed = false

  constructor(
    runtime: SimulatedRuntime,
    scheduler: fc.Scheduler,
    script: Script,
    launched: (request: LaunchRequest) => void,
  ) {
    this.#inner = openMemoryDriver(NO_FAULTS, runtime)
    this.capabilities = { ...this.#inner.capabilities, usefulConcurrency: 2 }
    this.#runtime = runtime
    this.#scheduler = scheduler
    this.#launched = launched
    this.#outcomes = {
      launches: outcomes(script.launches, 'ok'),
      kills: outcomes(script.kills, 'ok'),
      removals: outcomes(script.removals, 'ok'),
      lists: outcomes(script.lists, 'ok'),
      exits: outcomes(script.exits, 'told'),
      limits: outcomes(script.limits, 'ok'),
    }
  }

  launch(request: LaunchRequest, signal: AbortSignal): Promise<Launched> {
    this.#launched(request)
    this.#asked.add(request.sandbox)
    return untilAborted(signal, this.#launch(request))
  }

  kill(sandbox: SandboxId, signal: AbortSignal): Promise<void> {
    return untilAborted(signal, this.#kill(sandbox))
  }

  async remove(sandbox: SandboxId, signal: AbortSignal): Promise<void> {
    await this.#turn(`remove ${sandbox}`)
    if (this.#outcomes.removals.next().value === 'fails') throw lost('remove')
    await this.#inner.remove(sandbox, signal)
  }

  async readLimits(sandbox: SandboxId, signal: AbortSignal): Promise<Observation> {
    await this.#turn(`read limits of ${sandbox}`)
    if (this.#outcomes.limits.next().value === 'unreachable') throw lost('readLimits')
    const observation = await this.#inner.readLimits(sandbox, signal)
    await this.#turn(`limits of ${sandbox} read`)
    return observation
  }

  async applyLimits(
    sandbox: SandboxId,
    limits: LaunchRequest['limits'],
    signal: AbortSignal,
  ): Promise<'applied' | 'deferred'> {
    await this.#turn(`apply limits to ${sandbox}`)
    const outcome = this.#outcomes.limits.next().value
    if (outcome === 'unreachable') throw lost('applyLimits')
    if (outcome === 'refused') throw new DriverError('refused', 'limits cannot be changed now')
    return await this.#inner.applyLimits(sandbox, limits, signal)
  }

  async *owned(signal: AbortSignal): AsyncGenerator<OwnedSandbox> {
    await this.#turn('look for the list')
    if (this.#outcomes.lists.next().value === 'fails') throw lost('owned')
    const list = await collect(this.#inner.owned(signal))
    await this.#turn('hand out the list')
    const alive = new Set(list.filter(({ state }) => state !== 'ended').map(({ sandbox }) => sandbox))
    for (const sandbox of this.#asked) if (!alive.has(sandbox)) this.confirmedDead.add(sandbox)
    yield* list
  }

  exits(signal: AbortSignal): AsyncIterable<SandboxExit | 'gap'> {
    return this.#tellExits(this.#inner.exits(signal))
  }

  reachable(signal: AbortSignal): Promise<void> {
    return this.#inner.reachable(signal)
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#inner.close()
  }

  async #launch(request: LaunchRequest): Promise<Launched> {
    const { sandbox, worker_id } = request
    const outcome = this.#outcomes.launches.next().value
    await this.#turn(`make ${worker_id}`)
    if (outcome === 'refused') throw new DriverError('refused', 'as the script says')
    if (this.#killed.has(sandbox)) throw new DriverError('refused', 'it was killed before it was made')
    const made = this.#runtime.make(sandbox, request)
    await this.#turn(`run ${worker_id}`)
    if (outcome === 'half made') throw lost('launch')
    if (made.state === 'ended') throw new DriverError('refused', 'it was killed while it started')
    this.#runtime.run(made)
    if (outcome === 'slow') await this.#dawdle(`launch of ${worker_id}`)
    await this.#turn(`tell that ${worker_id} runs`)
    if (outcome === 'lost answer') throw lost('launch')
    if (made.ending !== null) this.confirmedDead.add(sandbox)
    return { started_at: new Date(made.started_at), ended: made.ending }
  }

  async #kill(sandbox: SandboxId): Promise<void> {
    const outcome = this.#outcomes.kills.next().value
    await this.#turn(`kill ${sandbox}`)
    if (outcome === 'lost call') throw lost('kill')
    this.#killed.add(sandbox)
    this.#runtime.kill(sandbox)
    if (outcome === 'slow') await this.#dawdle(`kill of ${sandbox}`)
    await this.#turn(`tell that ${sandbox} is dead`)
    if (outcome === 'lost answer') throw lost('kill')
    this.confirmedDead.add(sandbox)
  }

  async *#tellExits(exits: AsyncIterable<SandboxExit | 'gap'>): AsyncGenerator<SandboxExit | 'gap'> {
    for await (const exit of exits) {
      await this.#turn('tell an exit')
      if (exit === 'gap' || this.#outcomes.exits.next().value === 'gap') yield 'gap'
      else {
        this.confirmedDead.add(exit.sandbox)
        yield exit
      }
    }
  }

  async #dawdle(what: string): Promise<never> {
    for (let turn = 0; turn < SLOW_TURNS; turn++) await this.#turn(`${what} takes long`)
    throw lost(what)
  }

  /** Others may come in between. */
  async #turn(label: string): Promise<void> {
    await this.#scheduler.schedule(Promise.resolve(), label)
    if (this.#closed) throw lost(`${label}: the driver is closed`)
  }
}

/** The machine goes on with the work after an abort. */
function untilAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason)
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort, { once: true })
    void work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

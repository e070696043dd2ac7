import { setImmediate as nextTurn } from 'node:timers/promises'
import type { EffectiveResourceSpec } from '../../../schemas/worker.ts'
import {
  type Capabilities,
  DriverError,
  type Ending,
  type Launched,
  type LaunchRequest,
  type Observation,
  type OwnedSandbox,
  type SandboxDriver,
  type SandboxExit,
  type SandboxId,
} from '../driver.ts'
import { Luck, NO_FAULTS, type Simulation } from './faults.ts'
import { type ExitFeed, SimulatedRuntime, type SimulatedSandbox } from './runtime.ts'

/** Opens a driver on a simulated machine: a new one, or one that another driver was on before. */
export function openMemoryDriver(
  simulation: Simulation = NO_FAULTS,
  runtime: SimulatedRuntime = new SimulatedRuntime(),
): SandboxDriver {
  return new MemoryDriver(simulation, runtime)
}

/** Entries that `owned` yields before it lets other work in. */
const OWNED_PER_TURN = 1000

/** The longest delay that a Node timer can hold, in milliseconds. */
const LONGEST_TIMER_MS = 2 ** 31 - 1

/**
 * Without faults every verb does its work before it returns: a kill of 100,000 costs neither timers nor listeners. So
 * nothing here may await before it must.
 */
class MemoryDriver implements SandboxDriver {
  readonly name = 'memory'
  readonly capabilities: Capabilities
  readonly #simulation: Simulation
  readonly #runtime: SimulatedRuntime
  readonly #luck: Luck
  /** Cancels each launch and kill that is under way. */
  readonly #underWay = new Set<(why: Error) => void>()
  /** The timers of those that will end by themselves. */
  readonly #lifetimes = new Map<SandboxId, NodeJS.Timeout>()
  readonly #feeds = new Set<ExitFeed>()

  constructor(simulation: Simulation, runtime: SimulatedRuntime) {
    this.#simulation = simulation
    this.#runtime = runtime
    this.#luck = new Luck(simulation)
    this.capabilities = capabilities(simulation.launch_ms)
    if (simulation.exit_rate > 0) this.#resumeLifetimes()
  }

  async launch(request: LaunchRequest, signal: AbortSignal): Promise<Launched> {
    signal.throwIfAborted()
    if (this.#runtime.hangs) await givenUp(signal)
    const { sandbox } = request
    const made = this.#runtime.make(sandbox, request)
    if (this.#luck.matters) this.#luck.begin(made)
    const { launch_ms } = this.#simulation
    if (launch_ms === 0) return this.#start(sandbox, made)
    return await this.#later(
      launch_ms,
      signal,
      () => this.#start(sandbox, made),
      (cancel) => {
        made.cancelLaunch = cancel
      },
    )
  }

  async kill(sandbox: SandboxId, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (this.#runtime.hangs) await givenUp(signal)
    const found = this.#runtime.get(sandbox)
    if (found === undefined || found.state === 'ended') return
    const fails = this.#luck.killFails(found)
    const { kill_ms } = this.#simulation
    if (kill_ms === 0) this.#finish(sandbox, fails)
    else await this.#later(kill_ms, signal, () => this.#finish(sandbox, fails))
  }

  async remove(sandbox: SandboxId, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (this.#runtime.hangs) await givenUp(signal)
    const found = this.#runtime.get(sandbox)
    if (found === undefined) return
    if (found.state !== 'ended') {
      throw new DriverError('refused', `sandbox ${sandbox} is ${found.state}: kill it before it is removed`)
    }
    this.#runtime.forget(sandbox)
  }

  async readLimits(sandbox: SandboxId, signal: AbortSignal): Promise<Observation> {
    signal.throwIfAborted()
    if (this.#runtime.hangs) await givenUp(signal)
    const found = this.#alive(sandbox)
    found.limits = this.#luck.drift(found)
    const { cpu_limit, memory_limit_mb, network_policy } = found.limits
    return { limits: { cpu_limit, memory_limit_mb, network_policy: { ...network_policy } }, usage: null }
  }

  async applyLimits(
    sandbox: SandboxId,
    limits: EffectiveResourceSpec,
    signal: AbortSignal,
  ): Promise<'applied'> {
    signal.throwIfAborted()
    if (this.#runtime.hangs) await givenUp(signal)
    const found = this.#alive(sandbox)
    found.limits = limits
    this.#luck.repaired(found)
    return 'applied'
  }

  async *owned(signal: AbortSignal): AsyncGenerator<OwnedSandbox> {
    signal.throwIfAborted()
    if (this.#runtime.hangs) await givenUp(signal)
    // What is launched meanwhile comes last, and may come faster than it is read: stop after what was there.
    const last = this.#runtime.size
    let read = 0
    for (const [sandbox, found] of this.#runtime.entries()) {
      if (read === last) return
      read += 1
      if (read % OWNED_PER_TURN === 0) await nextTurn()
      signal.throwIfAborted()
      // It may have been removed during the turn that others had.
      if (this.#runtime.get(sandbox) === found) yield ownedSandbox(sandbox, found)
    }
  }

  exits(signal: AbortSignal): AsyncIterable<SandboxExit | 'gap'> {
    const feed = this.#runtime.follow(() => {
      this.#feeds.delete(feed)
      stopWatching()
    })
    this.#feeds.add(feed)
    const stopWatching = whenAborted(signal, () => feed.end())
    if (signal.aborted) feed.end()
    return feed
  }

  async reachable(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (this.#runtime.hangs) await givenUp(signal)
  }

  async close(): Promise<void> {
    for (const cancel of this.#underWay)
      cancel(new DriverError('unreachable', 'the driver was closed meanwhile'))
    for (const timer of this.#lifetimes.values()) clearTimeout(timer)
    this.#lifetimes.clear()
    for (const feed of this.#feeds) feed.end()
  }

  /** The end of a launch, good or bad. */
  #start(sandbox: SandboxId, made: SimulatedSandbox): Launched {
    made.cancelLaunch = null
    if (this.#luck.launchFails(made)) {
      if (!this.#luck.leavesHalfMade(made)) this.#runtime.forget(sandbox)
      throw new DriverError('refused', `launch of sandbox ${sandbox}: failed, as the simulation drew it`)
    }
    this.#runtime.run(made)
    return { started_at: new Date(made.started_at), ended: this.#live(sandbox, made) }
  }

  /** The end of a kill, good or bad. It kills what is there now, also what came up since the kill was asked for. */
  #finish(sandbox: SandboxId, fails: boolean): void {
    if (fails) {
      throw new DriverError('unreachable', `kill of sandbox ${sandbox}: no answer, as the simulation drew it`)
    }
    this.#runtime.kill(sandbox)
    clearTimeout(this.#lifetimes.get(sandbox))
    this.#lifetimes.delete(sandbox)
  }

  /** Lets a running sandbox live until its drawn end. */
  #live(sandbox: SandboxId, running: SimulatedSandbox): Ending | null {
    const left_ms = running.started_at + this.#luck.lifetimeMs(running) - Date.now()
    if (left_ms === Number.POSITIVE_INFINITY) return null
    this.#lifetimes.delete(sandbox)
    if (running.state !== 'running') return null
    if (left_ms > 0) {
      const timer = setTimeout(() => this.#live(sandbox, running), Math.min(left_ms, LONGEST_TIMER_MS))
      this.#lifetimes.set(sandbox, timer.unref())
      return null
    }
    const ending = this.#luck.ending(running)
    this.#runtime.end(sandbox, ending)
    return ending
  }

  /** What an earlier driver on this machine launched ends when it would have ended. */
  #resumeLifetimes(): void {
    for (const [sandbox, found] of this.#runtime.entries()) {
      if (found.state === 'running') this.#live(sandbox, found)
    }
  }

  #alive(sandbox: SandboxId): SimulatedSandbox {
    const found = this.#runtime.get(sandbox)
    if (found === undefined) throw new DriverError('refused', `sandbox ${sandbox} does not exist`)
    if (found.state === 'ended')
      throw new DriverError('refused', `sandbox ${sandbox} has ended: it has no limits`)
    return found
  }

  /** Work that the machine does after a while. On abort the caller is told at once, and the machine goes on. */
  #later<T>(
    delay_ms: number,
    signal: AbortSignal,
    work: () => T,
    begun: (cancel: (why: Error) => void) => void = () => {},
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const stopWatching = whenAborted(signal, () => reject(signal.reason))
      const stop = () => {
        clearTimeout(timer)
        stopWatching()
        this.#underWay.delete(cancel)
      }
      const cancel = (why: Error) => {
        stop()
        reject(why)
      }
      const timer = setTimeout(() => {
        stop()
        try {
          resolve(work())
        } catch (error) {
          reject(error)
        }
      }, delay_ms)
      this.#underWay.add(cancel)
      begun(cancel)
    })
  }
}

function capabilities(launch_ms: number): Capabilities {
  return {
    cpu_limit: { minimum: Number.MIN_VALUE, maximum: Number.MAX_VALUE, granularity: 0 },
    memory_limit_mb: { minimum: 1, maximum: Number.MAX_SAFE_INTEGER, granularity: 0 },
    networkPolicies: [
      { allow_controller: true, allow_external: false },
      { allow_controller: true, allow_external: true },
      { allow_controller: false, allow_external: false },
      { allow_controller: false, allow_external: true },
    ],
    readsBack: ['cpu_limit', 'memory_limit_mb', 'network_policy'],
    largestManifestBytes: Number.MAX_SAFE_INTEGER,
    usefulConcurrency: 1000,
    slowestLaunchMs: launch_ms,
  }
}

function ownedSandbox(sandbox: SandboxId, found: SimulatedSandbox): OwnedSandbox {
  const { worker_id, manifest, state, started_at, ending } = found
  return {
    sandbox,
    worker_id,
    manifest,
    state,
    started_at: started_at === 0 ? null : new Date(started_at),
    ending,
  }
}

/** Never answers; rejects when the caller gives up. */
const givenUp = (signal: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => {
    whenAborted(signal, () => reject(signal.reason))
  })

interface Watch {
  readonly callbacks: Set<() => void>
  stop(): void
}

/** A kill of everything hands the same signal to each kill, and a signal searches all its listeners at every call. */
const watches = new WeakMap<AbortSignal, Watch>()

/** Calls back once when the signal aborts from now on; the result stops it. One listener a signal, however many wait. */
function whenAborted(signal: AbortSignal, callback: () => void): () => void {
  const { callbacks, stop } = watches.get(signal) ?? watch(signal)
  callbacks.add(callback)
  return () => {
    // Node keeps a signal that has a listener, so the last one who waited takes it away.
    if (callbacks.delete(callback) && callbacks.size === 0) stop()
  }
}

function watch(signal: AbortSignal): Watch {
  const callbacks = new Set<() => void>()
  const tell = () => {
    for (const callback of callbacks) callback()
  }
  const stop = () => {
    watches.delete(signal)
    signal.removeEventListener('abort', tell)
  }
  signal.addEventListener('abort', tell)
  const begun = { callbacks, stop }
  watches.set(signal, begun)
  return begun
}

import { setTimeout as wait } from 'node:timers/promises'
import type { ObservedLimits } from '../../schemas/enforcement.ts'
import type { EffectiveResourceSpec } from '../../schemas/worker.ts'
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
import { SimulatedRuntime } from '../../src/drivers/memory/runtime.ts'
import { OrchestratorError } from '../../src/orchestrator/errors.ts'
import { Orchestrator } from '../../src/orchestrator/orchestrator.ts'
import type { Settings } from '../../src/orchestrator/settings.ts'
import { collect } from '../drivers/trial.ts'
import { readManifest } from './manifests.ts'

type Verb = 'launch' | 'kill' | 'remove' | 'readLimits' | 'applyLimits' | 'owned'

/** Settles when it is told to. */
class Signal {
  readonly given: Promise<void>
  give: () => void = () => {}

  constructor() {
    this.given = new Promise((resolve) => {
      this.give = resolve
    })
  }
}

/** One call that waits, before it does anything, until the test says how it goes on. */
export class Hold {
  readonly #reached = new Signal()
  readonly #over = new Signal()
  #error: Error | undefined

  /** The call has come. */
  get reached(): Promise<void> {
    return this.#reached.given
  }

  release(): void {
    this.#over.give()
  }

  fail(error: Error = unreachable()): void {
    this.#error = error
    this.#over.give()
  }

  async pass(): Promise<void> {
    this.#reached.give()
    await this.#over.given
    if (this.#error !== undefined) throw this.#error
  }
}

export const unreachable = () => new DriverError('unreachable', 'no answer')

/** A promise that rejects when the signal aborts, and never settles else. */
const aborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })

/** The memory driver, each call of which a test can hold, or fail. */
export class StagedDriver implements SandboxDriver {
  readonly name = 'staged'
  capabilities: Capabilities
  /** As long as it stands here, the verb fails so. */
  readonly failing: Partial<Record<Verb, Error>> = {}
  readonly calls: Record<Verb, string[]> = {
    launch: [],
    kill: [],
    remove: [],
    readLimits: [],
    applyLimits: [],
    owned: [],
  }
  /** What a list shows is changed so before it is handed out. */
  list = (shown: OwnedSandbox[]): OwnedSandbox[] => shown
  observed = (limits: ObservedLimits): ObservedLimits => limits
  applied: 'applied' | 'deferred' = 'applied'
  readonly #inner: SandboxDriver
  readonly #holds: Record<Verb, Hold[]> = {
    launch: [],
    kill: [],
    remove: [],
    readLimits: [],
    applyLimits: [],
    owned: [],
  }
  #feed = new Feed()

  constructor(runtime: SimulatedRuntime) {
    this.#inner = openMemoryDriver(NO_FAULTS, runtime)
    this.capabilities = this.#inner.capabilities
  }

  /** Holds the next call that nothing holds yet. */
  hold(verb: Verb): Hold {
    const hold = new Hold()
    this.#holds[verb].push(hold)
    return hold
  }

  tell(exit: SandboxExit | 'gap' | Error): void {
    this.#feed.tell(exit)
  }

  async launch(request: LaunchRequest, signal: AbortSignal): Promise<Launched> {
    await this.#stage('launch', request.sandbox, signal)
    return this.#inner.launch(request, signal)
  }

  async kill(sandbox: SandboxId, signal: AbortSignal): Promise<void> {
    await this.#stage('kill', sandbox, signal)
    return this.#inner.kill(sandbox, signal)
  }

  async remove(sandbox: SandboxId, signal: AbortSignal): Promise<void> {
    await this.#stage('remove', sandbox, signal)
    return this.#inner.remove(sandbox, signal)
  }

  async readLimits(sandbox: SandboxId, signal: AbortSignal): Promise<Observation> {
    await this.#stage('readLimits', sandbox, signal)
    const observation = await this.#inner.readLimits(sandbox, signal)
    return { ...observation, limits: this.observed(observation.limits) }
  }

  async applyLimits(
    sandbox: SandboxId,
    limits: EffectiveResourceSpec,
    signal: AbortSignal,
  ): Promise<'applied' | 'deferred'> {
    await this.#stage('applyLimits', sandbox, signal)
    if (this.applied === 'applied') await this.#inner.applyLimits(sandbox, limits, signal)
    return this.applied
  }

  /** The list is as old as the call: what is held afterwards is its handing out. */
  async *owned(signal: AbortSignal): AsyncGenerator<OwnedSandbox> {
    const list = await collect(this.#inner.owned(signal))
    await this.#stage('owned', '', signal)
    yield* this.list(list)
  }

  exits(signal: AbortSignal): AsyncIterable<SandboxExit | 'gap'> {
    this.#feed = new Feed()
    void this.#forward(this.#feed, this.#inner.exits(signal))
    return this.#feed.read()
  }

  reachable(signal: AbortSignal): Promise<void> {
    return this.#inner.reachable(signal)
  }

  close(): Promise<void> {
    return this.#inner.close()
  }

  async #forward(feed: Feed, exits: AsyncIterable<SandboxExit | 'gap'>): Promise<void> {
    for await (const exit of exits) feed.tell(exit)
    feed.end()
  }

  async #stage(verb: Verb, sandbox: string, signal: AbortSignal): Promise<void> {
    this.calls[verb].push(sandbox)
    const hold = this.#holds[verb].shift()
    if (hold !== undefined) await Promise.race([hold.pass(), aborted(signal)])
    const error = this.failing[verb]
    if (error !== undefined) throw error
  }
}

class Feed {
  readonly #queue: (SandboxExit | 'gap' | Error)[] = []
  #isOver = false
  #news = new Signal()

  tell(exit: SandboxExit | 'gap' | Error): void {
    this.#queue.push(exit)
    this.#news.give()
  }

  end(): void {
    this.#isOver = true
    this.#news.give()
  }

  async *read(): AsyncGenerator<SandboxExit | 'gap'> {
    while (!this.#isOver) {
      await this.#news.given
      this.#news = new Signal()
      for (const exit of this.#queue.splice(0)) {
        if (exit instanceof Error) throw exit
        yield exit
      }
    }
  }
}

/** Pauses of a moment, and deadlines that no test reaches by accident. */
export const PATIENT: Partial<Settings> = {
  firstPauseMs: 1,
  longestPauseMs: 1,
  killTimeoutMs: 60_000,
  launchTimeoutMs: 60_000,
  runtimeTimeoutMs: 60_000,
}
/** For tests in which the deadline of a kill is reached. */
export const SHORT: Partial<Settings> = { killTimeoutMs: 30 }

interface Told {
  readonly seq: number
  readonly event: string
  readonly worker_id?: string
  readonly [field: string]: unknown
}

/** One service on one simulated machine, closed with its test. */
export class Stage {
  readonly runtime: SimulatedRuntime
  readonly driver: StagedDriver
  readonly orchestrator: Orchestrator

  constructor(
    t: { after(close: () => Promise<void>): void },
    settings: Partial<Settings> = {},
    runtime = new SimulatedRuntime(),
  ) {
    this.runtime = runtime
    this.driver = new StagedDriver(runtime)
    this.orchestrator = new Orchestrator({
      driver: this.driver,
      readManifest,
      settings: { ...PATIENT, ...settings },
    })
    t.after(() => this.orchestrator.close())
  }

  async start(): Promise<this> {
    await this.orchestrator.start()
    return this
  }

  events(): Told[] {
    return JSON.parse(this.orchestrator.events.page(0, 1000, {})).items
  }

  /** `event worker`, in order. */
  story(): string[] {
    return this.events().map(({ event, worker_id }) =>
      worker_id === undefined ? event : `${event} ${worker_id}`,
    )
  }

  /** Settles when this was told. */
  told(line: string): Promise<void> {
    return this.until(() => this.story().includes(line))
  }

  /** Asks again until it is so: for what no event tells. */
  async until(isSo: () => boolean, questions = 3000): Promise<void> {
    for (let asked = 0; !isSo(); asked++) {
      if (asked === questions) throw new Error(`it never became so: ${isSo}; ${this.story().join(', ')}`)
      await wait(1)
    }
  }

  record(worker: string) {
    const { status, cause, reason, exitCode, removedAt, sandbox } = this.orchestrator.get(worker)
    return { status, cause, reason, exitCode, removed: removedAt !== null, sandbox }
  }

  status(worker: string): string {
    return this.orchestrator.get(worker).status
  }

  /** Worker ids of what lives in the runtime. */
  alive(): (string | null)[] {
    return [...this.runtime.entries()]
      .filter(([, { state }]) => state !== 'ended')
      .map(([, found]) => found.worker_id)
  }
}

/** How it was refused; what is not refused, or not by the core, is a mistake. */
export async function refusal(work: Promise<unknown>): Promise<OrchestratorError> {
  const [outcome] = await Promise.allSettled([work])
  if (outcome.status === 'fulfilled') throw new Error(`it was not refused: ${JSON.stringify(outcome.value)}`)
  if (!(outcome.reason instanceof OrchestratorError)) throw outcome.reason
  return outcome.reason
}

export const code = async (work: Promise<unknown>): Promise<string> => (await refusal(work)).code

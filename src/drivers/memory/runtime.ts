import type { EffectiveResourceSpec } from '../../../schemas/worker.ts'
import { DriverError, type Ending, type SandboxExit, type SandboxId } from '../driver.ts'
import type { Attempts, Fated } from './faults.ts'

/** What a sandbox is made of. Null where the runtime lost it, so that it cannot be read. */
export interface Made {
  readonly worker_id: string | null
  readonly manifest: string | null
  readonly limits: EffectiveResourceSpec
}

/** One sandbox of the simulated machine. There are 100,000 of them: each member costs. */
export interface SimulatedSandbox extends Fated {
  readonly worker_id: string | null
  readonly manifest: string | null
  /** What is applied. Whoever assigns it changes a limit behind everybody's back. */
  limits: EffectiveResourceSpec
  state: 'starting' | 'running' | 'ended'
  /** Milliseconds since the epoch; 0: it never ran. */
  started_at: number
  /** Null where it was killed. */
  ending: Ending | null
  attempts: Attempts | null
  /** Stops the launch that is under way and fails it. */
  cancelLaunch: ((why: Error) => void) | null
}

/**
 * The simulated machine. It outlives the driver that looks at it, so that a second driver on the same machine is a
 * restart of the service. It knows no latency and no luck: those are the driver's.
 */
export class SimulatedRuntime {
  /** While set, the machine takes every call and answers none. */
  hangs = false
  readonly #sandboxes = new Map<SandboxId, SimulatedSandbox>()
  readonly #feeds = new Set<ExitFeed>()

  get size(): number {
    return this.#sandboxes.size
  }

  get(sandbox: SandboxId): SimulatedSandbox | undefined {
    return this.#sandboxes.get(sandbox)
  }

  /** In the order in which they were made; may be changed while it is read. */
  entries(): IterableIterator<[SandboxId, SimulatedSandbox]> {
    return this.#sandboxes.entries()
  }

  /** Half makes a sandbox. */
  make(sandbox: SandboxId, { worker_id, manifest, limits }: Made): SimulatedSandbox {
    if (this.#sandboxes.has(sandbox)) throw new DriverError('refused', `sandbox ${sandbox} exists already`)
    const made: SimulatedSandbox = {
      worker_id,
      manifest,
      limits,
      state: 'starting',
      started_at: 0,
      ending: null,
      attempts: null,
      cancelLaunch: null,
    }
    this.#sandboxes.set(sandbox, made)
    return made
  }

  /** Lets a half-made sandbox run. */
  run(made: SimulatedSandbox): void {
    made.state = 'running'
    made.started_at = Date.now()
    made.cancelLaunch = null
  }

  /** Ends whatever lives under this id, a launch that is under way too. Nothing there is fine. */
  kill(sandbox: SandboxId): void {
    const found = this.#sandboxes.get(sandbox)
    if (found === undefined || found.state === 'ended') return
    found.state = 'ended'
    found.cancelLaunch?.(new DriverError('refused', `sandbox ${sandbox} was killed while it started`))
    found.cancelLaunch = null
  }

  /** A running sandbox ends by itself; told to whoever listens. Anything else is left as it is. */
  end(sandbox: SandboxId, ending: Ending): void {
    const found = this.#sandboxes.get(sandbox)
    if (found?.state !== 'running') return
    found.state = 'ended'
    found.ending = ending
    for (const feed of this.#feeds) feed.tell({ sandbox, ...ending })
  }

  /** Takes a sandbox away, in whatever state. */
  forget(sandbox: SandboxId): void {
    this.#sandboxes.delete(sandbox)
  }

  /** Ends by themselves from now on. `ended` is called once, when nobody reads on. */
  follow(ended: () => void): ExitFeed {
    const feed = new ExitFeed(() => {
      this.#feeds.delete(feed)
      ended()
    })
    this.#feeds.add(feed)
    return feed
  }
}

/** Exits that may wait for a slow reader; beyond it they are let go and a gap is told. */
const LONGEST_QUEUE = 100_000

type Told = SandboxExit | 'gap'

/** The exits for one reader. A class of its own, not a generator, because it must listen before it is first read. */
export class ExitFeed implements AsyncIterableIterator<Told, undefined> {
  #queue: Told[] = []
  /** Where the queue begins: `shift` moves a long array at every call. */
  #head = 0
  readonly #readers: ((result: IteratorResult<Told, undefined>) => void)[] = []
  #over = false
  readonly #ended: () => void

  constructor(ended: () => void) {
    this.#ended = ended
  }

  tell(exit: SandboxExit): void {
    if (this.#over) return
    const reader = this.#readers.shift()
    if (reader !== undefined) reader({ done: false, value: exit })
    else if (this.#queue.length - this.#head < LONGEST_QUEUE) this.#queue.push(exit)
    else this.#restart('gap')
  }

  /** What is queued is let go: the reader wants no more. */
  end(): void {
    if (this.#over) return
    this.#over = true
    this.#restart()
    for (const reader of this.#readers.splice(0)) reader({ done: true, value: undefined })
    this.#ended()
  }

  next(): Promise<IteratorResult<Told, undefined>> {
    if (this.#over) return Promise.resolve({ done: true, value: undefined })
    const value = this.#queue[this.#head]
    if (value === undefined) return new Promise((resolve) => this.#readers.push(resolve))
    this.#head += 1
    if (this.#head === this.#queue.length) this.#restart()
    return Promise.resolve({ done: false, value })
  }

  return(): Promise<IteratorResult<Told, undefined>> {
    this.end()
    return Promise.resolve({ done: true, value: undefined })
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  #restart(...queue: Told[]): void {
    this.#queue = queue
    this.#head = 0
  }
}

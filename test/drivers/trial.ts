import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import type { EffectiveResourceSpec } from '../../schemas/worker.ts'
import {
  type Bounds,
  DriverError,
  type Ending,
  type Launched,
  type LaunchRequest,
  type OwnedSandbox,
  type SandboxDriver,
  type SandboxExit,
  type SandboxId,
} from '../../src/drivers/driver.ts'

/** A driver to be held to its guarantees, and what only its runtime's own tools can do. */
export interface Subject {
  readonly driver: SandboxDriver
  /** How long any one answer may take, in milliseconds: a hang is a violation. */
  readonly patience_ms: number
  /** Another driver on the same runtime, as after a restart of the service. The first one was closed. */
  reopen(): Promise<SandboxDriver>
  /** Makes the sandbox's main process end with this code, as if by itself. */
  endByItself(sandbox: SandboxId, exit_code: number): Promise<void>
  /** Changes a limit of the sandbox behind the driver's back: one that `readsBack` names, if it names any. */
  tamper(sandbox: SandboxId): Promise<void>
  /** Leaves what a service that died in the middle of this launch would have left. */
  leaveHalfMade(request: LaunchRequest): Promise<void>
  /** From now on the runtime takes calls and answers none. */
  hang(): Promise<void>
  /** Closes every driver, and leaves nothing in the runtime, also where it hangs. */
  close(): Promise<void>
}

export type Open = () => Promise<Subject>

/** One run of one guarantee: the verbs, each with a deadline, and what was seen. */
export class Trial {
  readonly subject: Subject
  /** Never aborts before the trial is over. */
  readonly signal: AbortSignal
  readonly #over = new AbortController()
  #driver: SandboxDriver

  constructor(subject: Subject) {
    this.subject = subject
    this.signal = this.#over.signal
    this.#driver = subject.driver
  }

  get driver(): SandboxDriver {
    return this.#driver
  }

  async finish(): Promise<void> {
    this.#over.abort()
    await this.within('close', this.subject.close())
  }

  async within<T>(what: string, work: Promise<T>): Promise<T> {
    const { patience_ms } = this.subject
    let timer: NodeJS.Timeout | undefined
    const deadline = new Promise<never>((_resolve, reject) => {
      const late = () =>
        reject(new assert.AssertionError({ message: `${what}: not settled in ${patience_ms} ms` }))
      timer = setTimeout(late, patience_ms)
    })
    try {
      return await Promise.race([work, deadline])
    } finally {
      clearTimeout(timer)
    }
  }

  /** Asks again until there is an answer. */
  async eventually<T>(what: string, ask: () => Promise<T | undefined>): Promise<T> {
    const deadline = Date.now() + this.subject.patience_ms
    for (;;) {
      const answer = await ask()
      if (answer !== undefined) return answer
      assert(Date.now() < deadline, `${what}: not so after ${this.subject.patience_ms} ms`)
      await pause(2)
    }
  }

  /** How it failed; a success is a violation. */
  async failure(what: string, work: Promise<unknown>): Promise<unknown> {
    const [outcome] = await this.within(what, Promise.allSettled([work]))
    assert(outcome.status === 'rejected', `${what} succeeded`)
    return outcome.reason
  }

  async refusal(what: string, work: Promise<unknown>): Promise<DriverError> {
    const error = await this.failure(what, work)
    assert(error instanceof DriverError, `${what}: failed with ${error}, which is no DriverError`)
    assert.notEqual(error.message, '', `${what}: its DriverError says nothing`)
    return error
  }

  /** That this work rejects when its signal aborts. */
  async stopsOnAbort(what: string, start: (signal: AbortSignal) => Promise<unknown>): Promise<void> {
    const caller = new AbortController()
    const work = start(caller.signal)
    caller.abort()
    assertAbort(what, await this.failure(what, work), caller.signal)
  }

  request(changes: Partial<LaunchRequest> = {}): LaunchRequest {
    const worker_id = changes.worker_id ?? `w-${randomUUID()}`
    return {
      sandbox: randomUUID(),
      worker_id,
      parent_id: null,
      depth: 0,
      limits: this.#limits(),
      manifest: `{ "worker_id": "${worker_id}", "depth": 0.0e0 }`,
      ...changes,
    }
  }

  /** A launch that is not awaited; its failure is not left unhandled. */
  start(request: LaunchRequest, signal = this.signal): Promise<Launched> {
    const launch = this.driver.launch(request, signal)
    launch.catch(() => {})
    return launch
  }

  async launch(changes: Partial<LaunchRequest> = {}): Promise<LaunchRequest & Launched> {
    const request = this.request(changes)
    const launched = await this.within('launch', this.driver.launch(request, this.signal))
    return { ...request, ...launched }
  }

  kill(sandbox: SandboxId): Promise<void> {
    return this.within('kill', this.driver.kill(sandbox, this.signal))
  }

  remove(sandbox: SandboxId): Promise<void> {
    return this.within('remove', this.driver.remove(sandbox, this.signal))
  }

  async limitsOf(sandbox: SandboxId) {
    return (await this.within('readLimits', this.driver.readLimits(sandbox, this.signal))).limits
  }

  owned(): Promise<OwnedSandbox[]> {
    return this.within('owned', collect(this.driver.owned(this.signal)))
  }

  async find(sandbox: SandboxId): Promise<OwnedSandbox | undefined> {
    return (await this.owned()).find((one) => one.sandbox === sandbox)
  }

  async assertState(sandbox: SandboxId, state: OwnedSandbox['state']): Promise<OwnedSandbox> {
    const found = await this.find(sandbox)
    assert(found !== undefined, `owned does not list sandbox ${sandbox}, which is ${state}`)
    assert.equal(found.state, state, `state of sandbox ${sandbox}`)
    return found
  }

  async assertDead(sandbox: SandboxId): Promise<void> {
    const found = await this.find(sandbox)
    assert(
      found === undefined || found.state === 'ended',
      `sandbox ${sandbox} is ${found?.state}, and should be dead`,
    )
  }

  /** Nothing comes up late: a launch that began after the kill has ended, so an earlier one would have too. */
  async assertStaysDead(sandbox: SandboxId): Promise<void> {
    await this.assertDead(sandbox)
    await this.launch()
    await this.assertDead(sandbox)
  }

  /** Ends it by itself, and waits until the runtime shows it. */
  async endByItself(sandbox: SandboxId, exit_code: number): Promise<OwnedSandbox> {
    await this.within('endByItself', this.subject.endByItself(sandbox, exit_code))
    return this.eventually(`owned shows the end of sandbox ${sandbox}`, async () => {
      const found = await this.find(sandbox)
      return found?.state === 'ended' ? found : undefined
    })
  }

  exits(signal = this.signal): AsyncIterator<SandboxExit | 'gap'> {
    return this.driver.exits(signal)[Symbol.asyncIterator]()
  }

  /** Reads until this sandbox's end is told: by itself, or by a gap after which `owned` tells it. */
  async exitOf(sandbox: SandboxId, exits: AsyncIterator<SandboxExit | 'gap'>): Promise<Ending | null> {
    for (;;) {
      const told = await this.within(`the exit of sandbox ${sandbox}`, exits.next())
      assert(told.done !== true, `exits ended before it told of sandbox ${sandbox}`)
      if (told.value === 'gap') {
        const found = await this.find(sandbox)
        if (found?.state === 'ended') return found.ending
      } else if (told.value.sandbox === sandbox) {
        return told.value
      }
    }
  }

  async restart(): Promise<void> {
    await this.within('close', this.driver.close())
    this.#driver = await this.within('reopen', this.subject.reopen())
  }

  /** Limits that any runtime should hold, within what this one says it can. */
  #limits(): EffectiveResourceSpec {
    const { cpu_limit, memory_limit_mb, networkPolicies } = this.driver.capabilities
    const [network_policy] = networkPolicies
    assert(network_policy !== undefined, 'capabilities: the runtime holds no network policy')
    return { cpu_limit: clamp(0.5, cpu_limit), memory_limit_mb: clamp(64, memory_limit_mb), network_policy }
  }
}

const clamp = (value: number, { minimum, maximum }: Bounds) => Math.min(Math.max(value, minimum), maximum)

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = []
  for await (const item of items) collected.push(item)
  return collected
}

export function assertAbort(what: string, error: unknown, signal: AbortSignal): void {
  const told = error === signal.reason || error instanceof DriverError
  assert(
    told || (error instanceof Error && error.name === 'AbortError'),
    `${what}: failed with ${error} on abort`,
  )
}

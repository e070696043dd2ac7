import type { ProblemCode } from '../../schemas/problem.ts'
import { DriverError, type SandboxDriver, type SandboxId } from '../drivers/driver.ts'
import type { BoundedCall, SharedDeadline } from './bounded-call.ts'
import { pauseAfter, type Settings } from './settings.ts'

/** Why a death is not confirmed. */
export interface Failure {
  readonly code: ProblemCode
  readonly detail: string
}

/** What one attempt to kill came to; undefined: it is dead. */
export type Outcome = Failure | undefined

export const NOT_YET: Failure = { code: 'kill_unconfirmed', detail: 'the runtime has not confirmed it yet' }

/** Ends an attempt that is no longer needed. */
class CalledOff extends Error {
  constructor() {
    super('the service lets go of its runtime')
  }
}

interface Listener {
  /** No process of it lives any more; comes once. */
  onConfirmed(): void
  /** The first attempt failed; comes at most once. */
  onUnconfirmed(code: ProblemCode): void
}

/** What every pursuit shares. */
interface Means {
  readonly driver: SandboxDriver
  readonly settings: Settings
  readonly deadline: SharedDeadline
}

const detailOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const codeOf = (error: unknown): ProblemCode =>
  error instanceof DriverError && error.failure === 'unreachable' ? 'runtime_unavailable' : 'kill_unconfirmed'

/** One sandbox killed again and again, with growing pauses, until its death is confirmed. It outlives every request. */
export class Pursuit {
  readonly #sandbox: SandboxId
  readonly #driver: SandboxDriver
  readonly #settings: Settings
  readonly #listener: Listener
  readonly #deadline: SharedDeadline
  #over: Promise<void> | undefined
  #settleOver: () => void = () => {}
  #state: 'hunting' | 'dead' | 'called off' = 'hunting'
  #call: BoundedCall<void> | undefined
  #attempt: Promise<Outcome> | undefined
  #pause: NodeJS.Timeout | undefined
  #failures = 0
  #failure = NOT_YET

  /** `deadline` bounds one attempt. */
  constructor(sandbox: SandboxId, { driver, settings, deadline }: Means, listener: Listener) {
    this.#sandbox = sandbox
    this.#driver = driver
    this.#settings = settings
    this.#deadline = deadline
    this.#listener = listener
  }

  /** Settles when it is dead, or when the process ends first: `outcome` says which. */
  get over(): Promise<void> {
    this.#over ??=
      this.#state === 'hunting'
        ? new Promise((resolve) => {
            this.#settleOver = resolve
          })
        : Promise.resolve()
    return this.#over
  }

  /** Why its death is not confirmed yet; undefined: it is. */
  get outcome(): Outcome {
    return this.#isDead() ? undefined : this.#failure
  }

  /** Joins the attempt under way, or tries at once in a pause. Never rejects. */
  attempt(): Promise<Outcome> {
    clearTimeout(this.#pause)
    this.#attempt ??= this.#try()
    return this.#attempt
  }

  /** The runtime's word, however it came: the sandbox is dead. */
  confirm(): void {
    if (this.#state === 'dead') return
    this.#end('dead')
    this.#listener.onConfirmed()
  }

  /** No more attempts: the process ends. */
  callOff(): void {
    if (this.#state === 'hunting') this.#end('called off')
  }

  #end(state: 'dead' | 'called off'): void {
    this.#state = state
    clearTimeout(this.#pause)
    this.#call?.interrupt(new CalledOff())
    this.#settleOver()
  }

  async #try(): Promise<Outcome> {
    if (this.#state !== 'hunting') return this.outcome
    try {
      this.#call = this.#deadline.call((signal) => this.#driver.kill(this.#sandbox, signal))
      await this.#call.result
      this.#call = undefined
      this.confirm()
    } catch (error) {
      if (!this.#isDead()) return this.#failed(error)
    }
    return undefined
  }

  #isDead(): boolean {
    return this.#state === 'dead'
  }

  #failed(error: unknown): Outcome {
    this.#call = undefined
    this.#attempt = undefined
    this.#failures++
    const code = codeOf(error)
    if (this.#state === 'hunting') {
      this.#pause = setTimeout(() => void this.attempt(), pauseAfter(this.#failures, this.#settings))
      if (this.#failures === 1) this.#listener.onUnconfirmed(code)
    }
    this.#failure = { code, detail: detailOf(error) }
    return this.#failure
  }
}

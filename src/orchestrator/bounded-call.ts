import { setMaxListeners } from 'node:events'

export class DeadlineExceeded extends Error {
  override readonly name = 'DeadlineExceeded'
  constructor(milliseconds: number) {
    super(`no answer within ${milliseconds} ms`)
  }
}

type Verb<Result> = (signal: AbortSignal) => Promise<Result>

function ownSignal() {
  const controller = new AbortController()
  return { signal: controller.signal, abort: (reason: Error) => controller.abort(reason) }
}

/**
 * A call to the driver that ends in time: at its deadline, or when interrupted, its result rejects, whether the call
 * heeds its signal or not. The call has begun when the constructor returns.
 */
export class BoundedCall<Result> {
  readonly result: Promise<Result>
  readonly #timer: NodeJS.Timeout
  readonly #abort: (reason: Error) => void
  #reject: (reason: unknown) => void = () => {}

  /** `sharedSignal`: one that aborts by itself in time, instead of one of this call's own. */
  constructor(milliseconds: number, verb: Verb<Result>, sharedSignal?: AbortSignal) {
    const { signal, abort } = sharedSignal === undefined ? ownSignal() : { signal: sharedSignal, abort() {} }
    this.#abort = abort
    this.#timer = setTimeout(() => this.interrupt(new DeadlineExceeded(milliseconds)), milliseconds)
    this.result = new Promise<Result>((resolve, reject) => {
      this.#reject = (reason) => {
        clearTimeout(this.#timer)
        reject(reason)
      }
      const succeed = (result: Result) => {
        clearTimeout(this.#timer)
        resolve(result)
      }
      verb(signal).then(succeed, this.#reject)
    })
  }

  interrupt(reason: Error): void {
    this.#reject(reason)
    this.#abort(reason)
  }
}

export const bounded = <Result>(milliseconds: number, verb: Verb<Result>): Promise<Result> =>
  new BoundedCall(milliseconds, verb).result

/**
 * Signals for calls that nobody interrupts one by one. Those that begin within a hundredth of their time share one, which
 * aborts when the last of them is due: with 100,000 kills, a controller for each would cost more than the kill.
 */
export class SharedDeadline {
  readonly milliseconds: number
  #signal: AbortSignal | undefined
  #sharedUntil = 0

  constructor(milliseconds: number) {
    this.milliseconds = milliseconds
  }

  call<Result>(verb: Verb<Result>): BoundedCall<Result> {
    return new BoundedCall(this.milliseconds, verb, this.#current())
  }

  #current(): AbortSignal {
    const now = performance.now()
    if (this.#signal === undefined || now >= this.#sharedUntil) {
      const window = this.milliseconds / 100
      this.#sharedUntil = now + window
      this.#signal = AbortSignal.timeout(Math.ceil(this.milliseconds + window))
      setMaxListeners(0, this.#signal)
    }
    return this.#signal
  }
}

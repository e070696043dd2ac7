export class DeadlineExceeded extends Error {
  override readonly name = 'DeadlineExceeded'
  constructor(milliseconds: number) {
    super(`no answer within ${milliseconds} ms`)
  }
}

/**
 * A call to the driver that ends in time: at its deadline, or when interrupted, its signal aborts and its result
 * rejects, whether the call heeds the signal or not. The call has begun when the constructor returns.
 */
export class BoundedCall<Result> {
  readonly result: Promise<Result>
  readonly #controller = new AbortController()
  readonly #timer: NodeJS.Timeout
  #reject: (reason: unknown) => void = () => {}

  constructor(milliseconds: number, call: (signal: AbortSignal) => Promise<Result>) {
    this.#timer = setTimeout(() => this.interrupt(new DeadlineExceeded(milliseconds)), milliseconds)
    this.result = new Promise<Result>((resolve, reject) => {
      this.#reject = reject
      call(this.#controller.signal).then(resolve, reject)
    }).finally(() => clearTimeout(this.#timer))
  }

  interrupt(reason: Error): void {
    this.#reject(reason)
    this.#controller.abort(reason)
  }
}

export const bounded = <Result>(
  milliseconds: number,
  call: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> => new BoundedCall(milliseconds, call).result

import type { SandboxDriver, SandboxId } from '../drivers/driver.ts'
import { SharedDeadline } from './bounded-call.ts'
import type { CoreLog } from './core-log.ts'
import { pauseAfter, type Settings } from './settings.ts'

interface Removal {
  readonly sandbox: SandboxId
  readonly onRemoved: () => void
  /** The first attempt is over, whatever came of it. */
  readonly onTried: () => void
  failures: number
}

/** Takes away what deaths left, in the background, as many at once as the runtime has a use for, until it is done. */
export class Removals {
  readonly #driver: SandboxDriver
  readonly #settings: Settings
  readonly #log: CoreLog
  readonly #deadline: SharedDeadline
  readonly #sandboxes = new Set<SandboxId>()
  readonly #waiting: Removal[] = []
  readonly #pauses = new Set<NodeJS.Timeout>()
  #running = 0
  #closed = false

  constructor(driver: SandboxDriver, settings: Settings, log: CoreLog) {
    this.#driver = driver
    this.#settings = settings
    this.#log = log
    this.#deadline = new SharedDeadline(settings.runtimeTimeoutMs)
  }

  /** Settles after the first attempt, whatever came of it; `onRemoved` is called once nothing is left. */
  add(sandbox: SandboxId, onRemoved: () => void): Promise<void> {
    this.#sandboxes.add(sandbox)
    return new Promise((onTried) => this.#enqueue({ sandbox, onRemoved, onTried, failures: 0 }))
  }

  /** It is not taken away yet, and will be. */
  has(sandbox: SandboxId): boolean {
    return this.#sandboxes.has(sandbox)
  }

  close(): void {
    this.#closed = true
    for (const pause of this.#pauses) clearTimeout(pause)
    for (const removal of this.#waiting.splice(0)) removal.onTried()
  }

  #enqueue(removal: Removal): void {
    this.#waiting.push(removal)
    if (this.#running < this.#driver.capabilities.usefulConcurrency) void this.#work()
  }

  async #work(): Promise<void> {
    this.#running++
    for (let removal = this.#waiting.pop(); removal !== undefined; removal = this.#waiting.pop()) {
      await this.#attempt(removal)
    }
    this.#running--
  }

  async #attempt(removal: Removal): Promise<void> {
    try {
      await this.#deadline.call((signal) => this.#driver.remove(removal.sandbox, signal)).result
      this.#sandboxes.delete(removal.sandbox)
      removal.onRemoved()
    } catch (error) {
      this.#again(removal, error)
    }
    removal.onTried()
  }

  #again(removal: Removal, error: unknown): void {
    removal.failures++
    const { sandbox, failures } = removal
    if (failures === 1)
      this.#log.warn({ sandbox, err: error }, 'what a death left could not be removed; trying again')
    if (this.#closed) return
    const pause = setTimeout(
      () => {
        this.#pauses.delete(pause)
        this.#enqueue(removal)
      },
      pauseAfter(failures, this.#settings),
    )
    this.#pauses.add(pause)
  }
}

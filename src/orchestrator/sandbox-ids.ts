import { randomBytes } from 'node:crypto'
import type { SandboxId } from '../drivers/driver.ts'

/** A new id for each launch, unlike any of another process. */
export class SandboxIds {
  readonly #prefix = `sb-${randomBytes(8).toString('hex')}-`
  #count = 0

  issue(): SandboxId {
    this.#count++
    return `${this.#prefix}${this.#count.toString(36)}`
  }
}

import type { OwnedSandbox, SandboxDriver } from '../drivers/driver.ts'
import { bounded } from './bounded-call.ts'

async function collect(sandboxes: AsyncIterable<OwnedSandbox>): Promise<OwnedSandbox[]> {
  const list: OwnedSandbox[] = []
  for await (const sandbox of sandboxes) list.push(sandbox)
  return list
}

/** The runtime's own list of what is ours, whole, or an error in time. */
export const readOwned = (driver: SandboxDriver, milliseconds: number): Promise<OwnedSandbox[]> =>
  bounded(milliseconds, (signal) => collect(driver.owned(signal)))

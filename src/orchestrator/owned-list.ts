import type { OwnedSandbox, SandboxDriver } from '../drivers/driver.ts'
import { bounded } from './bounded-call.ts'
import type { Deaths } from './deaths.ts'

async function collect(sandboxes: AsyncIterable<OwnedSandbox>): Promise<OwnedSandbox[]> {
  const list: OwnedSandbox[] = []
  for await (const sandbox of sandboxes) list.push(sandbox)
  return list
}

/**
 * Hands `use` the runtime's own list of what is ours, whole. Whose end became known while it was read has ended there,
 * also where the list was older. Rejects in time where it cannot be read.
 */
export async function useOwned<Result>(
  driver: SandboxDriver,
  deaths: Deaths,
  milliseconds: number,
  use: (list: readonly OwnedSandbox[]) => Result,
): Promise<Result> {
  const ended = deaths.noteEnds()
  try {
    const list = await bounded(milliseconds, (signal) => collect(driver.owned(signal)))
    return use(list.map((owned) => (ended.has(owned.sandbox) ? { ...owned, state: 'ended' } : owned)))
  } finally {
    deaths.stopNoting(ended)
  }
}

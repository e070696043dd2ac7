import type { SandboxDriver } from '../../src/drivers/driver.ts'
import { openMemoryDriver } from '../../src/drivers/memory/driver.ts'
import { NO_FAULTS, type Simulation } from '../../src/drivers/memory/faults.ts'
import { SimulatedRuntime } from '../../src/drivers/memory/runtime.ts'
import type { Open } from './trial.ts'

/** Puts something between a guarantee and the memory driver. */
export type Wrap = (driver: SandboxDriver, runtime: SimulatedRuntime) => SandboxDriver

/** Opens the memory driver on a runtime of its own. */
export function memorySubject(
  simulation: Partial<Simulation> = {},
  patience_ms = 5000,
  wrap: Wrap = (driver) => driver,
): Open {
  return async () => {
    const runtime = new SimulatedRuntime()
    const opened: SandboxDriver[] = []
    const open = () => {
      const driver = openMemoryDriver({ ...NO_FAULTS, ...simulation }, runtime)
      opened.push(driver)
      return wrap(driver, runtime)
    }
    return {
      driver: open(),
      patience_ms,
      reopen: async () => open(),
      endByItself: async (sandbox, exit_code) => runtime.end(sandbox, { exit_code, out_of_memory: false }),
      tamper: async (sandbox) => {
        const found = runtime.get(sandbox)
        if (found !== undefined) found.limits = { ...found.limits, cpu_limit: found.limits.cpu_limit * 2 }
      },
      leaveHalfMade: async ({ sandbox, ...made }) => {
        runtime.make(sandbox, made)
      },
      hang: async () => {
        runtime.hangs = true
      },
      close: async () => {
        for (const driver of opened) await driver.close()
      },
    }
  }
}

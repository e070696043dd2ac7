import type { Config } from '../config.ts'
import type { SandboxDriver } from './driver.ts'
import { openMemoryDriver } from './memory/driver.ts'

/** The runtime that the configuration names. */
export function openDriver(config: Config): SandboxDriver {
  switch (config.DRIVER) {
    case 'memory':
      return openMemoryDriver({
        launch_ms: config.SIMULATED_LAUNCH_MS,
        kill_ms: config.SIMULATED_KILL_MS,
        launch_failure_rate: config.SIMULATED_LAUNCH_FAILURE_RATE,
        kill_failure_rate: config.SIMULATED_KILL_FAILURE_RATE,
        exit_rate: config.SIMULATED_EXIT_RATE,
        drift_rate: config.SIMULATED_DRIFT_RATE,
        seed: config.SIMULATED_SEED,
      })
  }
}

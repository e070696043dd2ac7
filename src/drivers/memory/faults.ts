import { createHash } from 'node:crypto'
import type { EffectiveResourceSpec } from '../../../schemas/worker.ts'
import type { Ending } from '../driver.ts'

/** What the simulated runtime does worse than a perfect one. Rates are probabilities, 0 to 1. */
export interface Simulation {
  /** How long a launch takes, in milliseconds. */
  readonly launch_ms: number
  /** How long a kill of something alive takes, in milliseconds. */
  readonly kill_ms: number
  readonly launch_failure_rate: number
  readonly kill_failure_rate: number
  /** How likely a sandbox ends by itself in each second that it runs; 1: at once. */
  readonly exit_rate: number
  /** How often `readLimits` finds a limit changed. */
  readonly drift_rate: number
  /** The same seed, worker and attempt meet the same luck, whatever else runs. */
  readonly seed: number
}

export const NO_FAULTS: Simulation = {
  launch_ms: 0,
  kill_ms: 0,
  launch_failure_rate: 0,
  kill_failure_rate: 0,
  exit_rate: 0,
  drift_rate: 0,
  seed: 1,
}

/** What was tried so far with one sandbox: every try meets luck of its own. */
export interface Attempts {
  /** Which launch of its worker it came from, from 0. */
  readonly launch: number
  kills: number
  reads: number
  /** `applyLimits` came last: the read that checks a repair finds no new drift. */
  repaired: boolean
}

/** The part of a sandbox that luck depends on. */
export interface Fated {
  readonly worker_id: string | null
  readonly limits: EffectiveResourceSpec
  /** Null until luck first matters: without faults it costs nothing. */
  attempts: Attempts | null
}

/** A number in [0, 1) that depends on nothing but what is given. */
export function draw(seed: number, kind: string, worker_id: string, ...attempt: readonly number[]): number {
  const key = JSON.stringify([seed, kind, worker_id, ...attempt])
  return createHash('sha256').update(key).digest().readUIntBE(0, 6) / 2 ** 48
}

/** Two generations of at most half of this many worker ids: the older one is dropped whole. */
const COUNTED_WORKERS = 100_000

/** The seeded draws of one simulation. */
export class Luck {
  /** Whether anything is drawn at all. */
  readonly matters: boolean
  readonly #simulation: Simulation
  #launches = new Map<string, number>()
  #olderLaunches = new Map<string, number>()

  constructor(simulation: Simulation) {
    this.#simulation = simulation
    const { launch_failure_rate, kill_failure_rate, exit_rate, drift_rate } = simulation
    this.matters = Math.max(launch_failure_rate, kill_failure_rate, exit_rate, drift_rate) > 0
  }

  /** Counts a launch, so that the next one of the same worker meets other luck. */
  begin(sandbox: Fated): Attempts {
    const attempts = {
      launch: this.#countLaunch(sandbox.worker_id ?? ''),
      kills: 0,
      reads: 0,
      repaired: false,
    }
    sandbox.attempts = attempts
    return attempts
  }

  launchFails(sandbox: Fated): boolean {
    const rate = this.#simulation.launch_failure_rate
    return rate > 0 && this.#draw('launch', sandbox) < rate
  }

  /** Whether a launch that failed leaves a half-made sandbox behind. */
  leavesHalfMade(sandbox: Fated): boolean {
    return this.#draw('half made', sandbox) < 0.5
  }

  killFails(sandbox: Fated): boolean {
    const rate = this.#simulation.kill_failure_rate
    if (rate === 0) return false
    const attempt = this.#attempts(sandbox).kills++
    return this.#draw('kill', sandbox, attempt) < rate
  }

  /** From its start to its end by itself, in milliseconds; Infinity: it never ends. */
  lifetimeMs(sandbox: Fated): number {
    const rate = this.#simulation.exit_rate
    if (rate === 0) return Number.POSITIVE_INFINITY
    if (rate === 1) return 0
    return (1000 * Math.log1p(-this.#draw('lifetime', sandbox))) / Math.log1p(-rate)
  }

  /** How it ends by itself: mostly well. */
  ending(sandbox: Fated): Ending {
    const luck = this.#draw('ending', sandbox)
    if (luck < 0.8) return { exit_code: 0, out_of_memory: false }
    if (luck < 0.9) return { exit_code: 1, out_of_memory: false }
    return { exit_code: 137, out_of_memory: true }
  }

  /** The limits as a read finds them. */
  drift(sandbox: Fated): EffectiveResourceSpec {
    const rate = this.#simulation.drift_rate
    if (rate === 0) return sandbox.limits
    const attempts = this.#attempts(sandbox)
    const attempt = attempts.reads++
    const spared = attempts.repaired
    attempts.repaired = false
    if (spared || this.#draw('drift', sandbox, attempt) >= rate) return sandbox.limits
    return drifted(sandbox.limits, this.#draw('drifted limit', sandbox, attempt))
  }

  repaired(sandbox: Fated): void {
    if (this.#simulation.drift_rate > 0) this.#attempts(sandbox).repaired = true
  }

  #draw(kind: string, sandbox: Fated, ...attempt: readonly number[]): number {
    const { launch } = this.#attempts(sandbox)
    return draw(this.#simulation.seed, kind, sandbox.worker_id ?? '', launch, ...attempt)
  }

  #attempts(sandbox: Fated): Attempts {
    return sandbox.attempts ?? this.begin(sandbox)
  }

  #countLaunch(worker_id: string): number {
    const before = this.#launches.get(worker_id) ?? this.#olderLaunches.get(worker_id) ?? 0
    this.#launches.set(worker_id, before + 1)
    if (this.#launches.size >= COUNTED_WORKERS / 2) {
      this.#olderLaunches = this.#launches
      this.#launches = new Map()
    }
    return before
  }
}

function drifted(limits: EffectiveResourceSpec, luck: number): EffectiveResourceSpec {
  if (luck < 1 / 3) return { ...limits, memory_limit_mb: limits.memory_limit_mb / 2 }
  if (luck < 2 / 3) return { ...limits, cpu_limit: Math.min(limits.cpu_limit * 2, Number.MAX_VALUE) }
  const { allow_controller, allow_external } = limits.network_policy
  return { ...limits, network_policy: { allow_controller, allow_external: !allow_external } }
}

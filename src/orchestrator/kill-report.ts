import type { KillReport } from '../../schemas/kill.ts'
import { OrchestratorError } from './errors.ts'
import type { Failure } from './pursuit.ts'

/** One that was alive when a kill began. */
export interface Target {
  readonly name: string
  /** Undefined where it is dead now. */
  readonly failure: Failure | undefined
}

export interface KillResult {
  readonly reason: string
  /** A name that stands here twice is dead where both are. */
  readonly targets: readonly Target[]
  readonly alreadyEnded: readonly string[]
  /** Undefined where the runtime's own list, read after the last kill, is clean, or was not asked for. */
  readonly listTrouble?: string | undefined
  readonly durationMs: number
}

export function killReport({
  reason,
  targets,
  alreadyEnded,
  listTrouble,
  durationMs,
}: KillResult): KillReport {
  const failures = new Map<string, Failure>()
  for (const { name, failure } of targets) if (failure !== undefined) failures.set(name, failure)
  const names = new Set(targets.map(({ name }) => name))
  const killed = [...names].filter((name) => !failures.has(name))
  const failed = [...failures].map(([worker_id, { code, detail }]) => ({ worker_id, code, detail }))
  const complete = failed.length === 0 && listTrouble === undefined
  const duration_ms = Math.round(durationMs * 1000) / 1000
  return { reason, complete, killed, already_ended: [...alreadyEnded], failed, duration_ms }
}

/** Hands back a complete report; throws one that is not. */
export function completeOrThrow(report: KillReport, listTrouble?: string): KillReport {
  if (report.complete) return report
  const { failed, killed } = report
  const alive = `${failed.length} of ${failed.length + killed.length} are not confirmed dead; each is tried again until it is`
  const message =
    failed.length > 0 ? alive : `the runtime's own list could not be found clean: ${listTrouble}`
  throw new OrchestratorError('kill_unconfirmed', message, { report })
}

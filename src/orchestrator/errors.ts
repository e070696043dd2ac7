import type { KillReport } from '../../schemas/kill.ts'
import type { Mistake, Obstacle, ProblemCode } from '../../schemas/problem.ts'

interface Particulars {
  readonly mistakes?: readonly Mistake[]
  readonly report?: KillReport
  readonly obstacles?: readonly Obstacle[]
  readonly cause?: unknown
}

/** Why something was not done. `code` is stable and for programs, `message` for people; HTTP is not its concern. */
export class OrchestratorError extends Error {
  override readonly name = 'OrchestratorError'
  readonly code: ProblemCode
  /** What is wrong with a body, place by place. */
  readonly mistakes: readonly Mistake[] | undefined
  /** What a kill did that was not confirmed in time. */
  readonly report: KillReport | undefined
  readonly obstacles: readonly Obstacle[] | undefined

  constructor(code: ProblemCode, message: string, { mistakes, report, obstacles, cause }: Particulars = {}) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.mistakes = mistakes
    this.report = report
    this.obstacles = obstacles
  }
}

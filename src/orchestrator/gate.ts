import type { Obstacle } from '../../schemas/problem.ts'
import type { AcceptedManifest } from '../manifest/manifest.ts'
import { OrchestratorError } from './errors.ts'

/** A launch that waits for its predecessor's death and has no record yet: a kill stops it here. */
export interface WaitingLaunch {
  readonly workerId: string
  readonly parentId: string | null
  overtaken: boolean
}

/** What keeps launches out: kill-alls, cascades, a runtime that does not answer, the end of the process. */
export class Gate {
  readonly #cascades = new Set<ReadonlySet<string>>()
  readonly #waiting = new Set<WaitingLaunch>()
  #killAllRuns = false
  #draining = false
  #runtimeTrouble: string | undefined = "the runtime's own list was not read yet"

  /** The runtime answers; or what it lacks. */
  set runtimeTrouble(detail: string | undefined) {
    this.#runtimeTrouble = detail
  }

  /** For good: the process ends. */
  drain(): void {
    this.#draining = true
  }

  closeForKillAll(): void {
    this.#killAllRuns = true
    for (const launch of this.#waiting) launch.overtaken = true
  }

  openAfterKillAll(): void {
    this.#killAllRuns = false
  }

  /** `descent`: the worker at its top and all below. */
  closeForCascade(descent: ReadonlySet<string>): void {
    this.#cascades.add(descent)
  }

  openAfterCascade(descent: ReadonlySet<string>): void {
    this.#cascades.delete(descent)
  }

  /** A kill stops the launches that wait to take the place of a victim, or to come below one that it cascades from. */
  overtake(victims: ReadonlySet<string>, descent: ReadonlySet<string>): void {
    for (const launch of this.#waiting) {
      if (victims.has(launch.workerId) || descends(launch, descent)) launch.overtaken = true
    }
  }

  enter({ worker_id, parent_id }: AcceptedManifest): WaitingLaunch {
    const launch = { workerId: worker_id, parentId: parent_id, overtaken: false }
    this.#waiting.add(launch)
    return launch
  }

  leave(launch: WaitingLaunch): void {
    this.#waiting.delete(launch)
  }

  /** Throws where a kill switch is being pulled: it goes before every other refusal. */
  checkKillAll(): void {
    if (!this.#killAllRuns) return
    throw new OrchestratorError(
      'kill_all_in_progress',
      'a kill-all is under way: nothing is launched until it has answered',
    )
  }

  checkCascades(manifest: AcceptedManifest): void {
    for (const descent of this.#cascades) {
      if (!descends({ parentId: manifest.parent_id }, descent)) continue
      throw new OrchestratorError(
        'worker_killed',
        `worker ${manifest.worker_id} descends from one that is being killed with cascade=true`,
      )
    }
  }

  checkRuntime(): void {
    if (this.#draining)
      throw new OrchestratorError('shutting_down', 'this service is ending: launch at its successor')
    if (this.#runtimeTrouble !== undefined)
      throw new OrchestratorError('runtime_unavailable', this.#runtimeTrouble)
  }

  /** Why a launch would be refused now, whatever its manifest. */
  get obstacles(): Obstacle[] {
    const obstacles: Obstacle[] = []
    if (this.#killAllRuns) obstacles.push({ code: 'kill_all_in_progress', detail: 'a kill-all is under way' })
    if (this.#draining) obstacles.push({ code: 'shutting_down', detail: 'this service is ending' })
    if (this.#runtimeTrouble !== undefined) {
      obstacles.push({ code: 'runtime_unavailable', detail: this.#runtimeTrouble })
    }
    return obstacles
  }
}

const descends = ({ parentId }: { parentId: string | null }, descent: ReadonlySet<string>) =>
  parentId !== null && descent.has(parentId)

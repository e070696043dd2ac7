import type { EnforcementReport } from '../../schemas/enforcement.ts'
import type { KillReport } from '../../schemas/kill.ts'
import type { SandboxDriver } from '../drivers/driver.ts'
import type { AcceptedManifest } from '../manifest/manifest.ts'
import { type CoreLog, NO_LOG } from './core-log.ts'
import { Deaths } from './deaths.ts'
import { Enforcement } from './enforcement.ts'
import { OrchestratorError } from './errors.ts'
import { type Caller, EventLog, NOBODY } from './event-log.ts'
import { Gate } from './gate.ts'
import { KillAll } from './kill-all.ts'
import { type KillOrder, Kills } from './kills.ts'
import { type Launch, Launches } from './launches.ts'
import { Lineage } from './lineage.ts'
import { Listing, type ListQuery, type RecordPage } from './listing.ts'
import { NO_OBSERVER, type Observer } from './observer.ts'
import { normalReason } from './reason.ts'
import type { LiveStatus, WorkerRecord } from './record.ts'
import { Registry } from './registry.ts'
import { Removals } from './removals.ts'
import { type ReadManifest, RuntimeWatch } from './runtime-watch.ts'
import { SandboxIds } from './sandbox-ids.ts'
import { DEFAULT_SETTINGS, type Settings } from './settings.ts'

export interface OrchestratorOptions {
  readonly driver: SandboxDriver
  readonly readManifest: ReadManifest
  readonly settings?: Partial<Settings>
  readonly observer?: Observer
  readonly log?: CoreLog
}

/** The containment plane: launches, bounds and kills workers through one driver, and tells what happened. */
export class Orchestrator {
  readonly events: EventLog
  readonly driverName: string
  readonly #registry: Registry
  readonly #gate = new Gate()
  readonly #deaths: Deaths
  readonly #launches: Launches
  readonly #kills: Kills
  readonly #killAll: KillAll
  readonly #enforcement: Enforcement
  readonly #watch: RuntimeWatch
  readonly #listing: Listing
  readonly #driver: SandboxDriver

  constructor({
    driver,
    readManifest,
    settings: given,
    observer = NO_OBSERVER,
    log = NO_LOG,
  }: OrchestratorOptions) {
    const settings = { ...DEFAULT_SETTINGS, ...given }
    const events = new EventLog(settings.retainedEvents)
    const lineage = new Lineage(settings.maxLineageLinks, (worker_id, parent_id) => {
      events.append('lineage_link_dropped', { worker_id, parent_id }, NOBODY)
    })
    const registry = new Registry(
      {
        retainedRecords: settings.retainedRecords,
        stateBytes: settings.maxStateBytes,
        liveWorkers: settings.maxLiveWorkers,
      },
      lineage,
    )
    const gate = this.#gate
    const sandboxIds = new SandboxIds()
    const removals = new Removals(driver, settings, log)
    const deaths = new Deaths({ driver, settings, registry, events, removals, observer })
    const shared = { driver, settings, registry, events, gate, deaths, sandboxIds, log }
    const kills = new Kills({ ...shared, lineage, isRecovered: () => this.#watch.isRecovered })
    this.events = events
    this.driverName = driver.name
    this.#driver = driver
    this.#registry = registry
    this.#deaths = deaths
    this.#kills = kills
    this.#launches = new Launches(shared)
    this.#killAll = new KillAll({ ...shared, observer })
    this.#enforcement = new Enforcement(shared)
    this.#watch = new RuntimeWatch({ ...shared, kills, readManifest })
    this.#listing = new Listing(registry)
  }

  /** Reads what the runtime holds already. Launches are refused until that is done. */
  start(): Promise<void> {
    return this.#watch.start()
  }

  launch(
    manifest: AcceptedManifest,
    { replace = false }: { replace?: boolean } = {},
    caller = NOBODY,
  ): Promise<Launch> {
    return this.#launches.launch(manifest, replace, caller)
  }

  kill(
    workerId: string,
    { reason, cascade = false }: { reason?: string | undefined; cascade?: boolean } = {},
    caller: Caller = NOBODY,
  ): Promise<KillReport> {
    const order: KillOrder = { workerId, reason: normalReason(reason), cascade, caller }
    return this.#kills.kill(order)
  }

  killAll(reason?: string, caller: Caller = NOBODY): Promise<KillReport> {
    const words = normalReason(reason)
    this.#kills.rememberKillAll({ cause: 'kill_all', reason: words, caller })
    return this.#killAll.run(words, caller)
  }

  enforce(workerId: string, caller: Caller = NOBODY): Promise<EnforcementReport> {
    return this.#enforcement.enforce(workerId, caller)
  }

  get(workerId: string): WorkerRecord {
    const record = this.#registry.get(workerId)
    if (record === undefined)
      throw new OrchestratorError('worker_not_found', `worker ${workerId} is not known`)
    return record
  }

  list(query: ListQuery): RecordPage {
    return this.#listing.page(query)
  }

  get counts(): Readonly<Record<LiveStatus, number>> {
    return this.#registry.counts
  }

  /** Throws where a launch would be refused now, whatever its manifest; with every reason. */
  checkReady(): void {
    const full = this.#registry.missingCapacity(0)
    const obstacles = this.#gate.obstacles
    if (full !== undefined) obstacles.push({ code: 'capacity_exhausted', detail: full })
    if (obstacles.length === 0) return
    const codes = obstacles.map(({ code }) => code).join(', ')
    throw new OrchestratorError('not_ready', `launches would be refused: ${codes}`, { obstacles })
  }

  /** From now on launches are refused: the process ends. Kills go on. */
  drain(): void {
    this.#gate.drain()
  }

  /** Lets go of the runtime and touches no sandbox. */
  async close(): Promise<void> {
    this.#watch.close()
    this.#deaths.close()
    this.#killAll.close()
    await this.#driver.close()
  }
}

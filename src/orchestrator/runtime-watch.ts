import { setTimeout as wait } from 'node:timers/promises'
import type { OwnedSandbox, SandboxDriver, SandboxExit } from '../drivers/driver.ts'
import type { AcceptedManifest } from '../manifest/manifest.ts'
import { bounded } from './bounded-call.ts'
import type { CoreLog } from './core-log.ts'
import type { Deaths, Sentence } from './deaths.ts'
import { type EventLog, NOBODY } from './event-log.ts'
import type { Gate } from './gate.ts'
import type { Kills } from './kills.ts'
import { useOwned } from './owned-list.ts'
import { WorkerRecord } from './record.ts'
import type { Registry } from './registry.ts'
import { pauseAfter, type Settings } from './settings.ts'

/** How often the runtime is asked whether it answers. */
const PROBE_INTERVAL_MS = 5_000

/** Reads a manifest that came back from a runtime; undefined where it is none, or not to be trusted. */
export type ReadManifest = (text: string) => AcceptedManifest | undefined

interface Parts {
  readonly driver: SandboxDriver
  readonly settings: Settings
  readonly registry: Registry
  readonly events: EventLog
  readonly gate: Gate
  readonly deaths: Deaths
  readonly kills: Kills
  readonly log: CoreLog
  readonly readManifest: ReadManifest
}

const ORPHANED: Sentence = {
  cause: 'lost',
  reason: 'found in the runtime, and not to be trusted or not known',
  caller: NOBODY,
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error))

/**
 * What the runtime tells of itself: what lives in it at the start and after each gap, who ended, whether it answers.
 * Nothing is launched before its own list was read once.
 */
export class RuntimeWatch {
  readonly #parts: Parts
  readonly #closing = new AbortController()
  #recovered = false
  /** The list was asked for, and could not be read since. */
  #listMissing = true
  #probe: NodeJS.Timeout | undefined

  constructor(parts: Parts) {
    this.#parts = parts
  }

  get isRecovered(): boolean {
    return this.#recovered
  }

  /** Settles after the first attempt to read the list; where that failed, it goes on in the background. */
  async start(): Promise<void> {
    const exits = this.#parts.driver.exits(this.#closing.signal)
    const firstList = this.#reconcile()
    void this.#follow(exits)
    this.#probe = setInterval(() => void this.#checkReachable(), PROBE_INTERVAL_MS).unref()
    if (!(await firstList)) void this.#reconcileUntilDone()
  }

  close(): void {
    clearInterval(this.#probe)
    this.#closing.abort()
  }

  async #follow(first: AsyncIterable<SandboxExit | 'gap'>): Promise<void> {
    const { driver, settings, log } = this.#parts
    const { signal } = this.#closing
    let exits: AsyncIterable<SandboxExit | 'gap'> | undefined = first
    for (let failures = 0; !signal.aborted; ) {
      try {
        if (exits === undefined) {
          exits = driver.exits(signal)
          await this.#reconcileUntilDone()
        }
        for await (const exit of exits) {
          failures = 0
          if (exit === 'gap') await this.#reconcileUntilDone()
          else this.#exited(exit)
        }
      } catch (error) {
        log.warn({ err: error }, 'the runtime no longer tells who ended; asking again')
      }
      if (signal.aborted) return
      failures++
      exits = undefined
      await wait(pauseAfter(failures, settings), undefined, { ref: false })
    }
  }

  #exited(exit: SandboxExit): void {
    const { registry, deaths } = this.#parts
    const record = registry.liveInSandbox(exit.sandbox)
    if (record !== undefined) deaths.ended(record, exit)
    else deaths.noteEnd(exit.sandbox)
  }

  async #reconcileUntilDone(): Promise<void> {
    for (let failures = 1; !this.#closing.signal.aborted; failures++) {
      if (await this.#reconcile()) return
      await wait(pauseAfter(failures, this.#parts.settings), undefined, { ref: false })
    }
  }

  /** Holds the runtime's own list against what is known. False where it could not be read. */
  async #reconcile(): Promise<boolean> {
    const { driver, settings, registry, deaths, gate, log } = this.#parts
    const running = registry.live().filter(({ status }) => status === 'running')
    try {
      await useOwned(driver, deaths, settings.runtimeTimeoutMs, (list) => this.#compare(running, list))
      return true
    } catch (error) {
      log.warn({ err: error }, "the runtime's own list could not be read")
      gate.runtimeTrouble = `the runtime's own list could not be read: ${messageOf(error)}`
      this.#listMissing = true
      return false
    }
  }

  /** `running`: those that ran when the list was asked for. */
  #compare(running: readonly WorkerRecord[], list: readonly OwnedSandbox[]): void {
    const { deaths, gate } = this.#parts
    if (this.#closing.signal.aborted) return
    const shown = new Set(list.map(({ sandbox }) => sandbox))
    for (const record of running) if (!shown.has(record.sandbox)) deaths.lost(record)
    for (const sandbox of list) this.#compareKnown(sandbox)
    this.#takeIn(list.filter(({ sandbox }) => this.#isUnknown(sandbox)))
    gate.runtimeTrouble = undefined
    this.#listMissing = false
    this.#recovered = true
  }

  #compareKnown({ sandbox, state, ending }: OwnedSandbox): void {
    const record = this.#parts.registry.liveInSandbox(sandbox)
    if (record === undefined || state !== 'ended') return
    this.#parts.deaths.ended(record, ending ?? { exit_code: null, out_of_memory: false })
  }

  #isUnknown(sandbox: string): boolean {
    const { registry, deaths } = this.#parts
    return registry.liveInSandbox(sandbox) === undefined && deaths.pursuitOf(sandbox) === undefined
  }

  /** Adopts what an earlier process of this service left running, if that can be trusted, and kills the rest. */
  #takeIn(unknown: readonly OwnedSandbox[]): void {
    const { deaths, kills } = this.#parts
    const adopted: { record: WorkerRecord; startedAt: Date }[] = []
    for (const owned of unknown) {
      const record = this.#recovered ? undefined : this.#recordOf(owned)
      if (record !== undefined && owned.started_at !== null)
        adopted.push({ record, startedAt: owned.started_at })
      else if (owned.state === 'ended') deaths.clearAway(owned.sandbox)
      else
        void deaths
          .condemnStray(
            { sandbox: owned.sandbox, name: owned.worker_id ?? owned.sandbox },
            kills.doom ?? ORPHANED,
          )
          .attempt()
    }
    kills.carryOutRemembered()
    for (const { record, startedAt } of adopted)
      if (record.status === 'pending') this.#adopt(record, startedAt)
  }

  /** A record that stands for it, where it runs, can be read and is the only one of its worker. */
  #recordOf({
    sandbox,
    worker_id,
    manifest: text,
    state,
    started_at,
  }: OwnedSandbox): WorkerRecord | undefined {
    const { registry, readManifest } = this.#parts
    if (state !== 'running' || started_at === null || text === null || worker_id === null) return undefined
    const manifest = readManifest(text)
    if (manifest === undefined || manifest.worker_id !== worker_id) return undefined
    if (registry.get(worker_id)?.isLive) return undefined
    const record = new WorkerRecord(sandbox, manifest)
    registry.add(record)
    return record
  }

  #adopt(record: WorkerRecord, startedAt: Date): void {
    record.startedAt = startedAt.getTime()
    this.#parts.registry.move(record, 'running')
    const fields = { worker_id: record.workerId, parent_id: record.parentId }
    this.#parts.events.append('container_adopted', fields, NOBODY)
  }

  async #checkReachable(): Promise<void> {
    const { driver, settings, gate, log } = this.#parts
    if (this.#listMissing) return
    try {
      await bounded(settings.runtimeTimeoutMs, (signal) => driver.reachable(signal))
      gate.runtimeTrouble = undefined
    } catch (error) {
      log.warn({ err: error }, 'the runtime does not answer')
      gate.runtimeTrouble = `the runtime does not answer: ${messageOf(error)}`
    }
  }
}

import { setTimeout as wait } from 'node:timers/promises'
import type { KillReport } from '../../schemas/kill.ts'
import type { OwnedSandbox, SandboxDriver } from '../drivers/driver.ts'
import type { CoreLog } from './core-log.ts'
import type { Deaths, Sentence } from './deaths.ts'
import type { Caller, EventLog } from './event-log.ts'
import type { Gate } from './gate.ts'
import { completeOrThrow, killReport, type Target } from './kill-report.ts'
import type { Observer } from './observer.ts'
import { readOwned } from './owned-list.ts'
import { Patience } from './patience.ts'
import type { Pursuit } from './pursuit.ts'
import type { WorkerRecord } from './record.ts'
import type { Registry } from './registry.ts'
import type { SandboxIds } from './sandbox-ids.ts'
import { pauseAfter, type Settings } from './settings.ts'

interface Parts {
  readonly driver: SandboxDriver
  readonly settings: Settings
  readonly registry: Registry
  readonly events: EventLog
  readonly gate: Gate
  readonly deaths: Deaths
  readonly observer: Observer
  readonly log: CoreLog
  readonly sandboxIds: SandboxIds
}

/** One kill-all, from the closing of the gate to the report. */
class Run {
  readonly #parts: Parts
  readonly #sentence: Sentence
  readonly #victims: readonly WorkerRecord[]
  /** Victims that only the runtime's list showed. */
  readonly #found = new Map<string, { readonly name: string; readonly pursuit: Pursuit }>()
  readonly #patience: Patience
  #listTrouble: string | undefined = 'it was not read after the last kill'

  constructor(parts: Parts, sentence: Sentence) {
    this.#parts = parts
    this.#sentence = sentence
    this.#victims = parts.registry.live()
    this.#patience = new Patience(parts.settings.killTimeoutMs)
  }

  get listTrouble(): string | undefined {
    return this.#listTrouble
  }

  /** Settles when nothing of ours lives, or when the time of one attempt passed without a death. */
  async killEverything(): Promise<void> {
    const stopListening = this.#parts.events.subscribe(({ name }) => {
      if (name === 'container_killed' || name === 'container_exited') this.#patience.renew()
    })
    try {
      await Promise.race([this.#untilClean(), this.#patience.exhausted])
    } finally {
      stopListening()
      this.#patience.stop()
    }
  }

  report(reason: string, durationMs: number): KillReport {
    const known = this.#victims.map((record): Target => {
      return { name: record.workerId, failure: this.#parts.deaths.failureOf(record) }
    })
    const strays = [...this.#found.values()].map(
      ({ name, pursuit }): Target => ({ name, failure: pursuit.outcome }),
    )
    const targets = [...known, ...strays]
    return killReport({ reason, targets, alreadyEnded: [], listTrouble: this.#listTrouble, durationMs })
  }

  async #untilClean(): Promise<void> {
    await Promise.all([this.#killKnown(), this.#killForeign()])
    let alive: OwnedSandbox[]
    do {
      alive = await this.#readAlive()
      await Promise.all(alive.map((sandbox) => this.#killListed(sandbox)))
    } while (alive.length > 0 && !this.#patience.isOver)
  }

  async #killKnown(): Promise<void> {
    const { deaths } = this.#parts
    await deaths.killEach(this.#victims, () => this.#sentence)
    for (const { sandbox } of this.#victims) await deaths.pursuitOf(sandbox)?.death
  }

  /** Those that no record stands for. One that this process launched may have died since the list was read. */
  async #killForeign(): Promise<void> {
    const { registry, sandboxIds } = this.#parts
    const foreign = (await this.#readAlive()).filter(({ sandbox }) => {
      return !sandboxIds.issued(sandbox) && registry.liveInSandbox(sandbox) === undefined
    })
    await Promise.all(foreign.map((sandbox) => this.#killListed(sandbox)))
  }

  async #killListed({ sandbox, worker_id }: OwnedSandbox): Promise<void> {
    const { registry, deaths } = this.#parts
    const record = registry.liveInSandbox(sandbox)
    const name = worker_id ?? sandbox
    const pursuit =
      record === undefined
        ? deaths.condemnStray({ sandbox, name }, this.#sentence)
        : deaths.condemn(record, this.#sentence)
    this.#found.set(sandbox, { name, pursuit })
    void pursuit.attempt()
    await pursuit.death
  }

  async #readAlive(): Promise<OwnedSandbox[]> {
    return (await this.#readList()).filter(({ state }) => state !== 'ended')
  }

  async #readList(): Promise<OwnedSandbox[]> {
    const { driver, settings, log } = this.#parts
    for (let failures = 1; !this.#patience.isOver; failures++) {
      try {
        const list = await readOwned(driver, settings.runtimeTimeoutMs)
        this.#listTrouble = undefined
        return list
      } catch (error) {
        this.#listTrouble = error instanceof Error ? error.message : String(error)
        log.warn({ err: error }, "the runtime's own list could not be read during a kill-all")
        await wait(pauseAfter(failures, settings))
      }
    }
    return []
  }
}

/** The barrier: one kill-all at a time, and no launch until it has answered. */
export class KillAll {
  readonly #parts: Parts
  #running: Promise<KillReport> | undefined

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** Joins the one that runs. Rejects with `kill_unconfirmed` and the report where anything may live. */
  run(reason: string, caller: Caller): Promise<KillReport> {
    this.#running ??= this.#run(reason, caller)
    return this.#running
  }

  async #run(reason: string, caller: Caller): Promise<KillReport> {
    const { gate, events, observer } = this.#parts
    const began = performance.now()
    gate.closeForKillAll()
    const run = new Run(this.#parts, { cause: 'kill_all', reason, caller })
    try {
      await run.killEverything()
    } finally {
      this.#running = undefined
      gate.openAfterKillAll()
    }
    const durationMs = performance.now() - began
    const report = run.report(reason, durationMs)
    observer.killAllEnded(durationMs)
    events.append('kill_all', { reason, killed: report.killed.length, failed: report.failed.length }, caller)
    return completeOrThrow(report, run.listTrouble)
  }
}

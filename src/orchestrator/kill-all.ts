import { setTimeout as wait } from 'node:timers/promises'
import type { KillReport } from '../../schemas/kill.ts'
import type { OwnedSandbox, SandboxDriver, SandboxId } from '../drivers/driver.ts'
import type { CoreLog } from './core-log.ts'
import type { Deaths, Sentence } from './deaths.ts'
import type { Caller, EventLog } from './event-log.ts'
import type { Gate } from './gate.ts'
import { completeOrThrow, killReport, type Target } from './kill-report.ts'
import type { Observer } from './observer.ts'
import { useOwned } from './owned-list.ts'
import { Patience } from './patience.ts'
import type { Pursuit } from './pursuit.ts'
import type { WorkerRecord } from './record.ts'
import type { Registry } from './registry.ts'
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
}

const NOT_READ = 'it was not read after the last kill'

/** One kill-all, from the closing of the gate to the report. */
class Run {
  readonly #parts: Parts
  readonly #sentence: Sentence
  readonly #victims: readonly WorkerRecord[]
  /** Victims that only the runtime's list showed. */
  readonly #found = new Map<SandboxId, { readonly name: string; readonly pursuit: Pursuit }>()
  /** Whose end was told meanwhile: nothing is launched, so each was alive at the beginning, known by then or not. */
  readonly #ended = new Set<string>()
  readonly #patience: Patience
  #isClean = false
  #lastTrouble = NOT_READ

  constructor(parts: Parts, sentence: Sentence) {
    this.#parts = parts
    this.#sentence = sentence
    this.#victims = parts.registry.live()
    this.#patience = new Patience(parts.settings.killTimeoutMs)
  }

  /** Undefined where the runtime's own list, read after the last kill, showed nothing alive. */
  get listTrouble(): string | undefined {
    return this.#isClean ? undefined : this.#lastTrouble
  }

  /** Settles when nothing of ours lives, or when the time of one attempt passed without a death. */
  async killEverything(): Promise<void> {
    const stopListening = this.#parts.events.subscribe(({ name, fields }) => {
      if (name !== 'container_killed' && name !== 'container_exited') return
      if ('worker_id' in fields) this.#ended.add(fields.worker_id)
      this.#patience.renew()
    })
    try {
      await Promise.race([this.#untilClean(), this.#patience.exhausted])
    } finally {
      stopListening()
      this.#patience.stop()
    }
  }

  report(reason: string, durationMs: number): KillReport {
    const { deaths } = this.#parts
    const targets = [
      ...this.#victims.map(
        (record): Target => ({ name: record.workerId, failure: deaths.failureOf(record) }),
      ),
      ...[...this.#found.values()].map(({ name, pursuit }): Target => ({ name, failure: pursuit.outcome })),
      ...[...this.#ended].map((name): Target => ({ name, failure: undefined })),
    ]
    return killReport({ reason, targets, alreadyEnded: [], listTrouble: this.listTrouble, durationMs })
  }

  /** The process ends: what is not dead by now is reported so. */
  giveUp(): void {
    this.#patience.exhaust()
  }

  async #untilClean(): Promise<void> {
    const { registry } = this.#parts
    const isForeign = ({ sandbox }: OwnedSandbox) => registry.liveInSandbox(sandbox) === undefined
    await Promise.all([this.#killKnown(), this.#killListed(isForeign)])
    // What is launched after the answer is not to be killed by a list that comes late.
    const isOurs = (sandbox: OwnedSandbox) => isForeign(sandbox) || !this.#patience.isOver
    while (!this.#isClean && !this.#patience.isOver) this.#isClean = (await this.#killListed(isOurs)) === 0
  }

  async #killKnown(): Promise<void> {
    const { deaths } = this.#parts
    await deaths.killEach(this.#victims, () => this.#sentence)
    for (const { sandbox } of this.#victims) await deaths.pursuitOf(sandbox)?.over
  }

  /**
   * Kills those that the runtime's own list shows alive. Settles when they are dead, with their number; undefined where
   * the list could not be read in time.
   */
  async #killListed(wanted: (sandbox: OwnedSandbox) => boolean): Promise<number | undefined> {
    const pursuits = await this.#fromList((list) =>
      list
        .filter((sandbox) => sandbox.state !== 'ended' && wanted(sandbox))
        .map((sandbox) => this.#hunt(sandbox)),
    )
    for (const pursuit of pursuits ?? []) await pursuit.over
    return pursuits?.length
  }

  #hunt({ sandbox, worker_id }: OwnedSandbox): Pursuit {
    const { registry, deaths } = this.#parts
    const record = registry.liveInSandbox(sandbox)
    const name = worker_id ?? sandbox
    const pursuit =
      record === undefined
        ? deaths.condemnStray({ sandbox, name }, this.#sentence)
        : deaths.condemn(record, this.#sentence)
    this.#found.set(sandbox, { name, pursuit })
    void pursuit.attempt()
    return pursuit
  }

  async #fromList<Result>(use: (list: readonly OwnedSandbox[]) => Result): Promise<Result | undefined> {
    const { driver, settings, deaths, log } = this.#parts
    for (let failures = 1; !this.#patience.isOver; failures++) {
      try {
        const result = await useOwned(driver, deaths, settings.runtimeTimeoutMs, use)
        this.#lastTrouble = NOT_READ
        return result
      } catch (error) {
        this.#lastTrouble = error instanceof Error ? error.message : String(error)
        log.warn({ err: error }, "the runtime's own list could not be read during a kill-all")
        await wait(pauseAfter(failures, settings))
      }
    }
    return undefined
  }
}

/** The barrier: one kill-all at a time, and no launch until it has answered. */
export class KillAll {
  readonly #parts: Parts
  #running: Promise<KillReport> | undefined
  #run: Run | undefined

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** Joins the one that runs. Rejects with `kill_unconfirmed` and the report where anything may live. */
  run(reason: string, caller: Caller): Promise<KillReport> {
    this.#running ??= this.#begin(reason, caller)
    return this.#running
  }

  close(): void {
    this.#run?.giveUp()
  }

  async #begin(reason: string, caller: Caller): Promise<KillReport> {
    const { gate, events, observer } = this.#parts
    const began = performance.now()
    gate.closeForKillAll()
    const run = new Run(this.#parts, { cause: 'kill_all', reason, caller })
    this.#run = run
    try {
      await run.killEverything()
    } finally {
      this.#running = undefined
      this.#run = undefined
      gate.openAfterKillAll()
    }
    const durationMs = performance.now() - began
    const report = run.report(reason, durationMs)
    observer.killAllEnded(durationMs)
    events.append('kill_all', { reason, killed: report.killed.length, failed: report.failed.length }, caller)
    return completeOrThrow(report, run.listTrouble)
  }
}

import type { Cause } from '../../schemas/worker.ts'
import type { Ending, SandboxDriver, SandboxId } from '../drivers/driver.ts'
import { SharedDeadline } from './bounded-call.ts'
import { type Caller, type EventLog, NOBODY } from './event-log.ts'
import type { Observer } from './observer.ts'
import { NOT_YET, type Outcome, Pursuit } from './pursuit.ts'
import type { WorkerRecord } from './record.ts'
import type { Registry } from './registry.ts'
import type { Removals } from './removals.ts'
import type { Settings } from './settings.ts'
import { TimeSlice } from './time-slice.ts'

/** Why a worker is to die: the caller's words, and in whose name. */
export interface Sentence {
  readonly cause: Cause
  readonly reason: string | null
  readonly caller: Caller
}

/** A sandbox of ours that no record stands for. */
export interface Stray {
  readonly sandbox: SandboxId
  /** Its worker's id, or the sandbox's where that cannot be read. */
  readonly name: string
}

interface Parts {
  readonly driver: SandboxDriver
  readonly settings: Settings
  readonly registry: Registry
  readonly events: EventLog
  readonly removals: Removals
  readonly observer: Observer
}

/** How lives end: every death goes through here, and `killed` is written after the runtime's word, never before. */
export class Deaths {
  readonly #parts: Parts
  readonly #means: { driver: SandboxDriver; settings: Settings; deadline: SharedDeadline }
  readonly #pursuits = new Map<SandboxId, Pursuit>()
  /** Those of strays that are not dead yet, by name. */
  readonly #strays = new Map<string, Set<Pursuit>>()
  /** Who came upon a failed launch that was still being cleaned up: their kill is confirmed with it. */
  readonly #joined = new Map<SandboxId, Sentence>()
  /** Of failed launches: settles when the first attempt to remove what was left is over. */
  readonly #cleanups = new WeakMap<WorkerRecord, Promise<void>>()
  readonly #notes = new Set<Set<SandboxId>>()
  #closed = false

  constructor(parts: Parts) {
    const { driver, settings } = parts
    this.#parts = parts
    this.#means = { driver, settings, deadline: new SharedDeadline(settings.killTimeoutMs) }
  }

  /** From now on the worker is `killing`, and what was under way on it has ended. Who was condemned before stays so. */
  condemn(record: WorkerRecord, sentence: Sentence): Pursuit {
    const known = this.#pursuits.get(record.sandbox)
    if (known !== undefined) {
      this.#join(record, sentence)
      return known
    }
    const { registry, events } = this.#parts
    registry.move(record, 'killing')
    record.killRequestedAt = Date.now()
    record.cause = sentence.cause
    record.reason = sentence.reason
    const pursuit = this.#pursue(record.sandbox, {
      onConfirmed: () => this.#confirmed(record, sentence),
      onUnconfirmed: (code) => {
        const { cause, reason } = sentence
        events.append(
          'kill_unconfirmed',
          { worker_id: record.workerId, reason, cause, code },
          sentence.caller,
        )
      },
    })
    const { activity } = record
    record.activity = null
    activity?.interrupt()
    return pursuit
  }

  /** Condemns, and waits for one attempt. */
  kill(record: WorkerRecord, sentence: Sentence): Promise<Outcome> {
    return this.condemn(record, sentence).attempt()
  }

  /** Kills a sandbox that no record stands for. */
  condemnStray({ sandbox, name }: Stray, { cause, reason, caller }: Sentence): Pursuit {
    const known = this.#pursuits.get(sandbox)
    if (known !== undefined) return known
    const { events } = this.#parts
    const pursuit = this.#pursue(sandbox, {
      onConfirmed: () => {
        this.#forgetStray(name, pursuit)
        this.#over(sandbox)
        events.append('container_killed', { worker_id: name, reason: reason ?? cause }, caller)
        this.clearAway(sandbox)
      },
      onUnconfirmed: (code) => {
        events.append('kill_unconfirmed', { worker_id: name, reason, cause, code }, caller)
      },
    })
    const namesakes = this.#strays.get(name)
    if (namesakes === undefined) this.#strays.set(name, new Set([pursuit]))
    else namesakes.add(pursuit)
    return pursuit
  }

  /** Of what an earlier process left of a worker, and is not dead yet. */
  straysOf(workerId: string): Pursuit[] {
    return [...(this.#strays.get(workerId) ?? [])]
  }

  /**
   * Condemns all, then makes one attempt at each, as many at once as the runtime has a use for. Lets other requests
   * through meanwhile.
   */
  async killEach(
    records: readonly WorkerRecord[],
    sentenceOf: (record: WorkerRecord) => Sentence,
  ): Promise<void> {
    const slice = new TimeSlice()
    for (const record of records) {
      if (record.isLive) this.condemn(record, sentenceOf(record))
      const turn = slice.pause()
      // Nobody comes in between before they must be let through.
      if (turn !== undefined) await turn
    }
    const queue = records.values()
    const lane = async () => {
      for (const record of queue) {
        await this.#pursuits.get(record.sandbox)?.attempt()
        await slice.pause()
      }
    }
    const lanes = Math.min(records.length, this.#parts.driver.capabilities.usefulConcurrency)
    await Promise.all(Array.from({ length: lanes }, lane))
  }

  /** The sandbox is told to have ended, by itself as far as the runtime knows. */
  ended(record: WorkerRecord, ending: Ending): void {
    const pursuit = this.#pursuits.get(record.sandbox)
    if (pursuit !== undefined) pursuit.confirm()
    else if (record.status === 'pending') record.activity?.ended(ending)
    else if (record.isLive) this.#exited(record, ending.out_of_memory ? 'oom' : 'exited', ending)
  }

  /** The sandbox of a running worker is gone, and nobody said how. */
  lost(record: WorkerRecord): void {
    const pursuit = this.#pursuits.get(record.sandbox)
    const ending = { exit_code: null, out_of_memory: false }
    if (pursuit !== undefined) pursuit.confirm()
    else if (record.status === 'running') this.#exited(record, 'lost', ending)
  }

  /** Takes away a dead sandbox that no record stands for. */
  clearAway(sandbox: SandboxId): void {
    const { removals } = this.#parts
    if (!removals.has(sandbox)) void removals.add(sandbox, () => {})
  }

  /** Settles when the first attempt to remove what a failed launch left is over. */
  async cleanup(record: WorkerRecord): Promise<void> {
    await this.#cleanups.get(record)
  }

  /** Undefined where nobody is after it: it lives, or its death is confirmed. */
  pursuitOf(sandbox: SandboxId): Pursuit | undefined {
    return this.#pursuits.get(sandbox)
  }

  /** Why its death is not confirmed; undefined: it is. */
  failureOf(record: WorkerRecord): Outcome {
    return record.isLive ? (this.#pursuits.get(record.sandbox)?.outcome ?? NOT_YET) : undefined
  }

  /** Whose end becomes known from now on, until `stopNoting`: a list that was asked for before may show them alive. */
  noteEnds(): Set<SandboxId> {
    const ended = new Set<SandboxId>()
    this.#notes.add(ended)
    return ended
  }

  stopNoting(ended: Set<SandboxId>): void {
    this.#notes.delete(ended)
  }

  /** The end of a sandbox became known that no record stands for. */
  noteEnd(sandbox: SandboxId): void {
    for (const ended of this.#notes) ended.add(sandbox)
  }

  close(): void {
    this.#closed = true
    for (const pursuit of this.#pursuits.values()) pursuit.callOff()
    this.#parts.removals.close()
  }

  #join(record: WorkerRecord, sentence: Sentence): void {
    if (
      record.cause !== 'launch_failed' ||
      sentence.cause === 'launch_failed' ||
      this.#joined.has(record.sandbox)
    )
      return
    this.#joined.set(record.sandbox, sentence)
    record.reason = sentence.reason
  }

  #confirmed(record: WorkerRecord, sentence: Sentence): void {
    const { registry, events, observer } = this.#parts
    const neverRan = sentence.cause === 'launch_failed'
    const told = neverRan ? this.#joined.get(record.sandbox) : sentence
    this.#over(record.sandbox)
    this.#joined.delete(record.sandbox)
    record.finishedAt = Date.now()
    registry.move(record, neverRan ? 'failed' : 'killed')
    if (told !== undefined) {
      const reason = told.reason ?? told.cause
      events.append('container_killed', { worker_id: record.workerId, reason }, told.caller)
      observer.died(told.cause, record.finishedAt - (record.killRequestedAt ?? record.finishedAt))
    }
    const removed = this.#remove(record)
    if (neverRan) this.#cleanups.set(record, removed)
  }

  #exited(record: WorkerRecord, cause: Cause, { exit_code }: Ending): void {
    const { registry, events } = this.#parts
    const { activity } = record
    record.activity = null
    record.finishedAt = Date.now()
    record.cause = cause
    record.exitCode = exit_code
    registry.move(record, 'exited')
    this.#over(record.sandbox)
    activity?.interrupt()
    events.append('container_exited', { worker_id: record.workerId, exit_code, cause }, NOBODY)
    void this.#remove(record)
  }

  #pursue(sandbox: SandboxId, listener: ConstructorParameters<typeof Pursuit>[2]): Pursuit {
    const pursuit = new Pursuit(sandbox, this.#means, listener)
    if (this.#closed) pursuit.callOff()
    this.#pursuits.set(sandbox, pursuit)
    return pursuit
  }

  #over(sandbox: SandboxId): void {
    this.#pursuits.delete(sandbox)
    this.noteEnd(sandbox)
  }

  #forgetStray(name: string, pursuit: Pursuit): void {
    const namesakes = this.#strays.get(name)
    namesakes?.delete(pursuit)
    if (namesakes?.size === 0) this.#strays.delete(name)
  }

  #remove(record: WorkerRecord): Promise<void> {
    return this.#parts.removals.add(record.sandbox, () => {
      record.removedAt = Date.now()
    })
  }
}

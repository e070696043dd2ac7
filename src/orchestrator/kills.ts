import type { KillReport } from '../../schemas/kill.ts'
import type { Deaths, Sentence } from './deaths.ts'
import { OrchestratorError } from './errors.ts'
import type { Caller, EventLog } from './event-log.ts'
import type { Gate } from './gate.ts'
import { completeOrThrow, killReport, type Target } from './kill-report.ts'
import type { Lineage } from './lineage.ts'
import { Patience } from './patience.ts'
import type { WorkerRecord } from './record.ts'
import type { Registry } from './registry.ts'
import type { Settings } from './settings.ts'

export interface KillOrder {
  readonly workerId: string
  readonly reason: string
  /** The whole line of descent too. */
  readonly cascade: boolean
  readonly caller: Caller
}

interface Parts {
  readonly settings: Settings
  readonly registry: Registry
  readonly lineage: Lineage
  readonly events: EventLog
  readonly gate: Gate
  readonly deaths: Deaths
  /** The runtime's own list was read: who is not known does not exist. */
  readonly isRecovered: () => boolean
}

/** Kills of one worker, or of one and all its descendants. */
export class Kills {
  readonly #parts: Parts
  /** By worker id. */
  readonly #remembered = new Map<string, KillOrder>()
  #doom: Sentence | undefined

  constructor(parts: Parts) {
    this.#parts = parts
  }

  async kill(order: KillOrder): Promise<KillReport> {
    const began = performance.now()
    const { gate, registry, lineage, deaths } = this.#parts
    const named = registry.get(order.workerId)
    const descent = order.cascade ? lineage.descent(order.workerId) : new Set([order.workerId])
    const descendants = order.cascade ? this.#descendantsIn(descent, named) : []
    const victims = [...(named === undefined ? [] : [named]), ...descendants].filter(({ isLive }) => isLive)
    const names = new Set(victims.map(({ workerId }) => workerId)).add(order.workerId)
    gate.overtake(names, order.cascade ? descent : new Set())
    const strays = deaths.straysOf(order.workerId)
    const known = named !== undefined || descendants.length > 0 || strays.length > 0
    if (!known) throw this.#unknown(order)
    await Promise.all([
      this.#killBehindBarrier(victims, descent, order),
      ...strays.map((pursuit) => pursuit.attempt()),
    ])
    const targets = [
      ...victims.map((record): Target => ({ name: record.workerId, failure: deaths.failureOf(record) })),
      ...strays.map((pursuit): Target => ({ name: order.workerId, failure: pursuit.outcome })),
    ]
    const nothingLived = named !== undefined && !victims.includes(named) && strays.length === 0
    const alreadyEnded = nothingLived ? [order.workerId] : []
    const durationMs = performance.now() - began
    return completeOrThrow(killReport({ reason: order.reason, targets, alreadyEnded, durationMs }))
  }

  /** A kill-all came before the runtime's own list was read: whatever the list brings dies, in its name. */
  rememberKillAll(sentence: Sentence): void {
    if (!this.#parts.isRecovered()) this.#doom ??= sentence
  }

  get doom(): Sentence | undefined {
    return this.#doom
  }

  /** Condemns whoever was ordered dead before the runtime's list was read, among those that the list brought. */
  carryOutRemembered(): void {
    const { registry, lineage, deaths } = this.#parts
    for (const order of this.#remembered.values()) {
      const named = registry.get(order.workerId)
      const descendants = order.cascade ? this.#descendantsIn(lineage.descent(order.workerId), named) : []
      for (const record of [...(named === undefined ? [] : [named]), ...descendants]) {
        if (record.isLive) void deaths.kill(record, this.#sentenceOf(record, order))
      }
    }
    this.#remembered.clear()
    const doom = this.#doom
    if (doom !== undefined) for (const record of registry.live()) void deaths.kill(record, doom)
    this.#doom = undefined
  }

  async #killBehindBarrier(
    victims: readonly WorkerRecord[],
    descent: ReadonlySet<string>,
    order: KillOrder,
  ): Promise<void> {
    const { gate, deaths, settings } = this.#parts
    const [only] = victims
    if (!order.cascade) {
      if (only !== undefined) await deaths.kill(only, this.#sentenceOf(only, order))
      return
    }
    const patience = new Patience(settings.killTimeoutMs)
    const names = new Set(victims.map(({ workerId }) => workerId))
    const stopListening = this.#parts.events.subscribe(({ name, fields }) => {
      const ofVictim = 'worker_id' in fields && names.has(fields.worker_id)
      if (name === 'container_killed' && ofVictim) patience.renew()
    })
    gate.closeForCascade(descent)
    try {
      const attempts = deaths.killEach(victims, (record) => this.#sentenceOf(record, order))
      await Promise.race([attempts, patience.exhausted])
    } finally {
      gate.openAfterCascade(descent)
      stopListening()
      patience.stop()
    }
  }

  /** Known workers below the one named: an id that is launched under another parent now is no longer below it. */
  #descendantsIn(descent: ReadonlySet<string>, named: WorkerRecord | undefined): WorkerRecord[] {
    const descendants: WorkerRecord[] = []
    for (const id of descent) {
      const record = this.#parts.registry.get(id)
      if (record !== undefined && record !== named) descendants.push(record)
    }
    return descendants
  }

  #sentenceOf(record: WorkerRecord, { workerId, reason, caller }: KillOrder): Sentence {
    return { cause: record.workerId === workerId ? 'kill' : 'cascade', reason, caller }
  }

  #unknown(order: KillOrder): OrchestratorError {
    const { workerId, reason, caller } = order
    if (!this.#parts.isRecovered()) return this.#remember(order)
    const skipped = { worker_id: workerId, reason: `unknown worker (kill reason: ${reason})` }
    this.#parts.events.append('container_kill_skipped', skipped, caller)
    return new OrchestratorError('worker_not_found', `worker ${workerId} is not known`)
  }

  #remember(order: KillOrder): OrchestratorError {
    const { workerId, reason } = order
    const earlier = this.#remembered.get(workerId)
    const cascade = order.cascade || (earlier?.cascade ?? false)
    // After a kill-all, everything that is found dies in its name.
    if (this.#doom === undefined) this.#remembered.set(workerId, { ...(earlier ?? order), cascade })
    const detail = `worker ${workerId} is not known, but the runtime's own list was not read yet: the kill is remembered, and carried out if the worker is found`
    const failure = { code: 'kill_unconfirmed', detail } as const
    const report = killReport({
      reason,
      targets: [{ name: workerId, failure }],
      alreadyEnded: [],
      durationMs: 0,
    })
    return new OrchestratorError('kill_unconfirmed', detail, { report })
  }
}

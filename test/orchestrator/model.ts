import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { setTimeout as wait } from 'node:timers/promises'
import fc from 'fast-check'
import type { KillReport } from '../../schemas/kill.ts'
import type { WorkerStatus } from '../../schemas/worker.ts'
import type { LaunchRequest, SandboxDriver, SandboxId } from '../../src/drivers/driver.ts'
import type { SimulatedRuntime, SimulatedSandbox } from '../../src/drivers/memory/runtime.ts'
import { OrchestratorError } from '../../src/orchestrator/errors.ts'
import { Orchestrator } from '../../src/orchestrator/orchestrator.ts'
import { TRANSITIONS, type WorkerRecord } from '../../src/orchestrator/record.ts'
import type { Settings } from '../../src/orchestrator/settings.ts'
import { manifest, readManifest } from './manifests.ts'

export const WORKERS = ['a', 'b', 'c'] as const

/** What somebody asks for, or what a runtime does by itself. */
export type Command =
  | { readonly do: 'launch'; readonly worker: number; readonly variant: number; readonly replace: boolean }
  | { readonly do: 'kill'; readonly worker: number; readonly cascade: boolean }
  | { readonly do: 'kill-all' }
  | { readonly do: 'enforce'; readonly worker: number }
  | { readonly do: 'tamper'; readonly worker: number }
  | { readonly do: 'exit'; readonly worker: number }

const worker = fc.nat(WORKERS.length - 1)
const launch = fc.record({
  do: fc.constant('launch' as const),
  worker,
  variant: fc.nat(3),
  replace: fc.boolean(),
})
const kill = fc.record({ do: fc.constant('kill' as const), worker, cascade: fc.boolean() })

export const anyCommand: fc.Arbitrary<Command> = fc.oneof(
  { arbitrary: launch, weight: 9 },
  { arbitrary: kill, weight: 4 },
  { arbitrary: fc.record({ do: fc.constant('kill-all' as const) }), weight: 2 },
  { arbitrary: fc.record({ do: fc.constant('enforce' as const), worker }), weight: 2 },
  { arbitrary: fc.record({ do: fc.constant('tamper' as const), worker }), weight: 1 },
  { arbitrary: fc.record({ do: fc.constant('exit' as const), worker }), weight: 2 },
)

const workerAt = (index: number): string => WORKERS[index] ?? 'a'

/** Four manifests of each worker: without a parent, another without, and under each of the other workers. */
function manifestOf(index: number, variant: number) {
  const parent_id = variant < 2 ? null : workerAt((index + variant - 1) % WORKERS.length)
  return manifest(workerAt(index), { parent_id, state_snapshot: { variant } })
}

/** A request, from its beginning to its answer. Numbers are moments of the world's clock. */
interface Request {
  readonly command: Command
  readonly began: number
  /** Kills: the lives that it has to end, and whose ids may get no life from launches that began before it. */
  readonly victims: ReadonlySet<Life>
  readonly victimIds: ReadonlySet<string>
  /** Cascades: the ids under which nothing may be launched until the answer. */
  readonly descent: ReadonlySet<string>
  /** Launches: the same manifest starts or runs already, and what comes of it is shared. */
  readonly shared: { readonly life: Life; readonly runs: boolean } | undefined
  ended: number | undefined
  created: boolean | undefined
  report: KillReport | undefined
  code: string | undefined
}

/** One sandbox, as it was asked for. */
interface Life {
  readonly sandbox: SandboxId
  readonly workerId: string
  readonly parentId: string | null
  readonly parent: Life | undefined
  readonly record: WorkerRecord
  readonly request: Request
  readonly began: number
  statuses: WorkerStatus[]
  cause: string | null
  reason: string | null
}

interface KillAllEnd {
  readonly at: number
  readonly alive: readonly string[]
}

interface SeenEvent {
  readonly name: string
  readonly workerId: string | undefined
  readonly seq: number
}

const hasEnded = ({ record: { isLive } }: Life) => !isLive
const isAlive = (sandbox: SimulatedSandbox | undefined) => sandbox !== undefined && sandbox.state !== 'ended'

/** Retries at once; no deadline is reached unless something hangs. */
export const QUICK: Partial<Settings> = {
  firstPauseMs: 1,
  longestPauseMs: 1,
  launchTimeoutMs: 5000,
  killTimeoutMs: 5000,
  runtimeTimeoutMs: 5000,
}

/**
 * An orchestrator, all that was asked of it, and what must hold of both at every moment. The checks are of the contract:
 * they know the runtime's truth and the requests, and nothing of how the core works.
 */
export class World {
  readonly orchestrator: Orchestrator
  readonly runtime: SimulatedRuntime
  readonly requests: Request[] = []
  readonly #confirmedDead: ReadonlySet<SandboxId> | undefined
  readonly #isExact: boolean
  /** What an earlier process left alive, and of whom. */
  readonly #leftovers: ReadonlyMap<SandboxId, string>
  readonly #lives: Life[] = []
  readonly #events: SeenEvent[] = []
  readonly #killAlls: KillAllEnd[] = []
  readonly #current = new AsyncLocalStorage<Request>()
  readonly #underWay = new Set<Promise<unknown>>()
  readonly #violations: unknown[] = []
  #clock = 0
  #isOver = false

  /** `isExact`: whoever is to be answered is, before anything else happens. */
  constructor(
    runtime: SimulatedRuntime,
    open: (launched: (request: LaunchRequest) => void) => SandboxDriver & { confirmedDead?: Set<SandboxId> },
    { settings = QUICK, isExact = true }: { settings?: Partial<Settings>; isExact?: boolean } = {},
  ) {
    this.runtime = runtime
    this.#isExact = isExact
    const alive = [...runtime.entries()].filter(([, found]) => isAlive(found))
    this.#leftovers = new Map(alive.map(([sandbox, found]) => [sandbox, String(found.worker_id)]))
    const driver = open((request) => this.#launched(request))
    this.#confirmedDead = driver.confirmedDead
    this.orchestrator = new Orchestrator({ driver, readManifest, settings })
    this.orchestrator.events.subscribe(({ name, seq, fields }) => {
      this.#events.push({ name, seq, workerId: 'worker_id' in fields ? fields.worker_id : undefined })
      if (name === 'kill_all') this.#killAlls.push({ at: this.#tick(), alive: this.#aliveWorkers() })
    })
  }

  /** Nothing is asked for any more. */
  async close(): Promise<void> {
    this.#isOver = true
    await this.orchestrator.close()
  }

  run(command: Command): void {
    if (this.#isOver) return
    const request = this.#request(command)
    this.requests.push(request)
    const work = this.#current.run(request, () => this.#ask(command, request))
    const settled = work
      .catch((error: unknown) => this.#refused(request, error))
      .then(() => this.#answered(request))
      .catch((error: unknown) => this.#violations.push(error))
    this.#underWay.add(settled)
    void settled.finally(() => this.#underWay.delete(settled))
  }

  /** After the pauses that are running now. */
  async nextPause(): Promise<void> {
    await wait(1)
    await drained()
  }

  /** When nothing is under way any more, over a driver that works by itself; or when it is plain that this never comes. */
  async settled(pauses = 2000): Promise<void> {
    const { counts } = this.orchestrator
    for (let pause = 0; pause < pauses; pause++) {
      const isBusy = this.#underWay.size > 0 || counts.pending + counts.killing > 0
      if (!isBusy && this.runtime.size === counts.running) return
      await this.nextPause()
    }
  }

  /** What must hold whatever is under way. */
  check(): void {
    for (const violation of this.#violations) throw violation
    this.#checkOneSandboxEach()
    for (const life of this.#lives) this.#checkLife(life)
    for (const request of this.requests) if (request.ended !== undefined) this.#checkAnswer(request)
    this.#checkReads()
  }

  /** What must hold when nothing is under way any more. */
  checkSettled(): void {
    this.check()
    const { pending, killing, running } = this.orchestrator.counts
    assert.deepEqual({ pending, killing }, { pending: 0, killing: 0 }, 'something never settled')
    const known = new Set(this.#runningRecords().map(({ sandbox }) => sandbox))
    const alive = [...this.runtime.entries()]
      .filter(([, found]) => isAlive(found))
      .map(([sandbox]) => sandbox)
    assert.deepEqual(new Set(alive), known, 'the runtime holds orphans, or lacks what is said to run')
    assert.equal(running, known.size)
    assert.equal(this.runtime.size, known.size, 'what the dead left was not removed')
    for (const request of this.requests) this.#checkVictims(request)
    for (const { command } of this.requests) this.#checkLeftovers(command)
    for (const life of this.#lives) this.#checkCounts(life)
    this.#checkCreated()
    this.#checkEvents()
  }

  // --- what happens ---

  async #ask(command: Command, request: Request): Promise<void> {
    const { orchestrator } = this
    switch (command.do) {
      case 'launch': {
        const { worker, variant, replace } = command
        const { created, record } = await orchestrator.launch(manifestOf(worker, variant), { replace })
        request.created = created
        assert.equal(record.manifest, manifestOf(worker, variant).text)
        return
      }
      case 'kill': {
        const options = { reason: `"kill" \\ ${request.began}`, cascade: command.cascade }
        request.report = await orchestrator.kill(workerAt(command.worker), options)
        return
      }
      case 'kill-all':
        request.report = await orchestrator.killAll(`kill-all ${request.began}`)
        return
      case 'enforce':
        await orchestrator.enforce(workerAt(command.worker))
        return
      case 'tamper': {
        const found = this.#runningSandbox(workerAt(command.worker))?.[1]
        if (found !== undefined) found.limits = { ...found.limits, cpu_limit: found.limits.cpu_limit * 2 }
        return
      }
      case 'exit': {
        const sandbox = this.#runningSandbox(workerAt(command.worker))?.[0]
        if (sandbox !== undefined) this.runtime.end(sandbox, { exit_code: 3, out_of_memory: false })
        return
      }
    }
  }

  #refused(request: Request, error: unknown): void {
    assert(error instanceof OrchestratorError, `${request.command.do} failed with ${error}`)
    request.code = error.code
    request.report = error.report
  }

  #answered(request: Request): void {
    request.ended = this.#tick()
    const { report, code } = request
    if (report === undefined) return
    const names = [
      ...report.killed,
      ...report.already_ended,
      ...report.failed.map(({ worker_id }) => worker_id),
    ]
    assert.equal(new Set(names).size, names.length, `a name stands twice in ${JSON.stringify(report)}`)
    assert.equal(report.complete, code === undefined, 'complete, and refused; or neither')
    if (report.complete) assert.deepEqual(report.failed, [])
    if (request.command.do === 'kill-all') this.#checkKillAllAnswer(request, report)
  }

  /** The driver was asked for a sandbox. */
  #launched({ sandbox, worker_id, parent_id }: LaunchRequest): void {
    const request = this.#current.getStore()
    assert(request !== undefined)
    const parent = this.#lives.findLast(({ workerId }) => workerId === parent_id)
    const record = this.orchestrator.get(worker_id)
    assert.equal(record.sandbox, sandbox)
    const life = { sandbox, workerId: worker_id, parentId: parent_id, parent, record, request }
    const began = this.#tick()
    this.#lives.push({ ...life, began, statuses: [record.status], cause: null, reason: null })
  }

  #request(command: Command): Request {
    const began = this.#tick()
    const rest = { ended: undefined, created: undefined, report: undefined, code: undefined }
    const live = this.#lives.filter((life) => !hasEnded(life))
    const victims = live.filter((life) => isVictim(command, life))
    const ids = new Set(victims.map(({ workerId }) => workerId))
    if (command.do === 'kill') ids.add(workerAt(command.worker))
    const descent = command.do === 'kill' && command.cascade ? ids : new Set<string>()
    const same = live.find(({ record }) => isSame(command, record))
    const shared = same && { life: same, runs: same.record.status === 'running' }
    return { command, began, shared, victims: new Set(victims), victimIds: ids, descent, ...rest }
  }

  #tick(): number {
    this.#clock++
    return this.#clock
  }

  #runningSandbox(workerId: string): [SandboxId, SimulatedSandbox] | undefined {
    return [...this.runtime.entries()].find(
      ([, found]) => found.worker_id === workerId && found.state === 'running',
    )
  }

  #aliveWorkers(): string[] {
    return [...this.runtime.entries()]
      .filter(([, found]) => isAlive(found))
      .map(([, found]) => String(found.worker_id))
  }

  // --- what must hold ---

  #checkOneSandboxEach(): void {
    const alive = this.#aliveWorkers()
    assert.equal(new Set(alive).size, alive.length, `two sandboxes of one worker live: ${alive}`)
  }

  #checkLife(life: Life): void {
    const { record, workerId, sandbox } = life
    const last = life.statuses.at(-1)
    if (last !== undefined && last !== record.status) {
      assert(reaches(last, record.status), `worker ${workerId} went from ${last} to ${record.status}`)
      life.statuses.push(record.status)
    }
    if (life.cause !== null) assert.equal(record.cause, life.cause, `the first cause of ${workerId} holds`)
    if (life.reason !== null)
      assert.equal(record.reason, life.reason, `the first reason of ${workerId} holds`)
    life.cause = record.cause
    life.reason = record.reason
    const isLive = record.status === 'pending' || record.status === 'running'
    assert.equal(record.cause === null, isLive, `${workerId} is ${record.status} with cause ${record.cause}`)
    if (record.isLive) return
    assert(!isAlive(this.runtime.get(sandbox)), `${workerId} is ${record.status}, and lives`)
    assert(
      this.#confirmedDead?.has(sandbox) !== false,
      `${workerId} is ${record.status}, and nobody confirmed it`,
    )
    assert(record.finishedAt !== null)
  }

  #checkAnswer(request: Request): void {
    const { command, report, began, ended, code } = request
    if (command.do === 'launch') this.#checkLaunchAnswer(request)
    if (command.do !== 'kill') return
    if (report?.complete === true) this.#checkVictims(request)
    if (!this.#isExact || code === 'worker_not_found') return
    for (const { parentId, request: by, began: born } of this.#lives) {
      const inWindow = by.began > began && (ended === undefined || by.began < ended)
      const belowIt = parentId !== null && request.descent.has(parentId)
      assert(!inWindow || !belowIt, `a launch at ${born} passed the barrier of a cascade`)
    }
  }

  #checkLaunchAnswer({ created, code, shared }: Request): void {
    assert.equal(created === undefined, code !== undefined)
    if (shared !== undefined) {
      const first = shared.life.request
      const isAlike = shared.runs || first.code === undefined ? created === false : code === first.code
      assert(isAlike, `a retry got ${code ?? created}, and the first launch ${first.code ?? first.created}`)
    }
    const refusals = [
      'worker_exists',
      'worker_killed',
      'kill_all_in_progress',
      'launch_failed',
      'runtime_unavailable',
      'kill_unconfirmed',
    ]
    assert(code === undefined || refusals.includes(code), `a launch was refused with ${code}`)
  }

  /** A kill wins: whom it met is dead, and so is what was still to take the place of a victim. */
  #checkVictims({ command, began, victims, victimIds, descent }: Request): void {
    if (command.do !== 'kill' && command.do !== 'kill-all') return
    for (const life of this.#lives) {
      const waited = life.request.began < began && life.began > began
      const inItsWay =
        command.do === 'kill-all' ||
        victimIds.has(life.workerId) ||
        (life.parentId !== null && descent.has(life.parentId))
      if (!victims.has(life) && !(waited && inItsWay)) continue
      assert(!isAlive(this.runtime.get(life.sandbox)), `${life.workerId} was killed at ${began}, and lives`)
      assert(!waited, `the launch of ${life.workerId} went on after the kill at ${began}`)
    }
  }

  /** A kill also wins over a restart: whom it names is not adopted, whenever it came. */
  #checkLeftovers(command: Command): void {
    if (command.do !== 'kill' && command.do !== 'kill-all') return
    for (const [sandbox, workerId] of this.#leftovers) {
      if (command.do === 'kill' && workerAt(command.worker) !== workerId) continue
      assert(
        !isAlive(this.runtime.get(sandbox)),
        `${workerId} was left by an earlier process, killed, and lives`,
      )
    }
  }

  #checkKillAllAnswer({ began }: Request, { complete, killed, failed }: KillReport): void {
    const end = this.#killAlls.at(-1)
    assert(end !== undefined && end.at > began, 'a kill-all that answered has its event')
    if (complete) assert.deepEqual(end.alive, [], 'kill-all was complete, and some live')
    for (const life of this.#lives) {
      assert(life.began < began || life.began > end.at, `${life.workerId} was launched during a kill-all`)
    }
    for (const { command, began: asked, created, code, shared } of this.requests) {
      if (command.do !== 'launch' || asked < began || asked > end.at || shared !== undefined) continue
      const ranBefore = this.#leftovers.size > 0 && created === false
      if (!ranBefore) assert.equal(code, 'kill_all_in_progress', 'a launch during a kill-all')
    }
    const event = this.#events.findLast(({ name }) => name === 'kill_all')
    for (const name of killed) {
      const told = this.#events.some(
        ({ name: what, workerId, seq }) =>
          workerId === name && seq < (event?.seq ?? 0) && ENDS.includes(what),
      )
      assert(told, `kill_all stands before the end of ${name}`)
    }
    const named = new Set([...killed, ...failed.map(({ worker_id }) => worker_id)])
    for (const life of this.requests.find((request) => request.began === began)?.victims ?? []) {
      assert(named.has(life.workerId), `${life.workerId} was alive when the kill-all began, and is not named`)
    }
  }

  /** Pages of every size show the same, each record once and as it stands, and none throws. */
  #checkReads(): void {
    const whole = this.orchestrator.list({ limit: 1000 }).items
    for (const item of whole)
      assert.equal(this.orchestrator.get(JSON.parse(item).manifest.worker_id).toJson(), item)
    for (const limit of [1, 2]) assert.deepEqual(this.#pages(limit, whole.length), whole)
    for (const filter of [{ status: 'running' as const }, { parentId: 'a' }]) {
      for (const item of this.orchestrator.list({ limit: 1000, ...filter }).items)
        assert(whole.includes(item))
    }
  }

  #pages(limit: number, atMost: number): string[] {
    const items: string[] = []
    let cursor: string | undefined
    for (let page = 0; page <= atMost; page++) {
      const { items: more, nextCursor } = this.orchestrator.list({ limit, cursor })
      items.push(...more)
      if (nextCursor === null) return items
      cursor = nextCursor
    }
    assert.fail('the pages do not end')
  }

  #runningRecords(): WorkerRecord[] {
    const records: WorkerRecord[] = []
    for (const item of this.orchestrator.list({ limit: 1000 }).items) {
      const { manifest, status } = JSON.parse(item)
      if (status === 'running') records.push(this.orchestrator.get(manifest.worker_id))
    }
    return records
  }

  #eventsOf(workerId: string, name: string): SeenEvent[] {
    return this.#events.filter((event) => event.name === name && event.workerId === workerId)
  }

  /** Each step of each life is told once; of what an earlier process left, the end may be told too. */
  #checkCounts({ workerId }: Life): void {
    const lives = this.#lives.filter((life) => life.workerId === workerId).map(({ record }) => record)
    const left = [...this.#leftovers.values()].filter((name) => name === workerId).length
    const checkTold = (name: string, atMostMore: number, which: (record: WorkerRecord) => boolean) => {
      const more = this.#eventsOf(workerId, name).length - lives.filter(which).length
      assert(more >= 0 && more <= atMostMore, `${name} of ${workerId} is told ${more} times too often`)
    }
    checkTold('container_launched', 0, ({ startedAt }) => startedAt !== null)
    checkTold('container_exited', left, ({ status }) => status === 'exited')
    checkTold('container_killed', left, ({ status, reason }) => {
      return status === 'killed' || (status === 'failed' && reason !== null)
    })
  }

  #checkCreated(): void {
    for (const { request, record } of this.#lives) {
      assert.equal(request.created === true, record.startedAt !== null, 'one created: true a life that ran')
    }
    const started = this.requests.filter(({ created }) => created === true)
    const requests = new Set(this.#lives.map(({ request }) => request))
    assert.equal(requests.size, this.#lives.length, 'one request made two sandboxes')
    assert(
      started.every((request) => requests.has(request)),
      'created: true without a sandbox',
    )
  }

  #checkEvents(): void {
    const { items } = JSON.parse(this.orchestrator.events.page(0, 1000, {}))
    assert.equal(items.length, this.#events.length)
    const reports = this.requests
      .filter(({ command }) => command.do === 'kill-all')
      .map(({ report }) => report)
    assert.equal(this.#killAlls.length, new Set(reports).size, 'one kill_all a kill-all')
    const runs = new Set<string>()
    for (const [index, { seq, event, worker_id }] of items.entries()) {
      assert.equal(seq, index + 1, 'numbers have a gap')
      if (event === 'container_launched' || event === 'container_adopted') {
        assert(!runs.has(worker_id), `${worker_id} was launched before its predecessor's end was told`)
        runs.add(worker_id)
      }
      if (event === 'container_killed' || event === 'container_exited') runs.delete(worker_id)
    }
    assert.deepEqual(
      runs,
      new Set(this.#runningRecords().map(({ workerId }) => workerId)),
      'who runs, by the events',
    )
  }
}

const ENDS: readonly string[] = ['container_killed', 'container_exited', 'launch_rejected']

function isSame(command: Command, { workerId, manifest, status }: WorkerRecord): boolean {
  if (command.do !== 'launch' || workerAt(command.worker) !== workerId || status === 'killing') return false
  return manifestOf(command.worker, command.variant).text === manifest
}

function isVictim(command: Command, life: Life): boolean {
  if (command.do === 'kill-all') return true
  if (command.do !== 'kill') return false
  const root = workerAt(command.worker)
  if (life.workerId === root) return true
  if (!command.cascade) return false
  for (let above = life.parent; above !== undefined; above = above.parent)
    if (above.workerId === root) return true
  return life.parentId === root
}

function reaches(from: WorkerStatus, to: WorkerStatus): boolean {
  return TRANSITIONS[from].some((next) => next === to || reaches(next, to))
}

/** Settles when no microtask is left. */
const drained = () => new Promise<void>((resolve) => process.nextTick(resolve))

/**
 * Lets everything happen in the scheduler's order, pauses included, until nothing is left to happen. `hurried`: the next
 * step comes while what the last one set off is still going on.
 */
export async function settle(
  scheduler: fc.Scheduler,
  afterStep: () => void,
  { hurried = false, steps = 5000 } = {},
): Promise<void> {
  for (let step = 0, idle = 0; step < steps && idle < 2; step++) {
    if (scheduler.count() > 0) {
      idle = 0
      await scheduler.waitOne()
    } else {
      idle++
      // Timers of one duration ring in order: every pause that was running is over then.
      await wait(1)
    }
    if (!hurried || scheduler.count() === 0) await drained()
    afterStep()
  }
}

import { getEventListeners } from 'node:events'
import t from 'tap'
import { DriverError, type LaunchRequest, type SandboxDriver } from '../../src/drivers/driver.ts'
import { openMemoryDriver } from '../../src/drivers/memory/driver.ts'
import { draw, type Fated, Luck, NO_FAULTS, type Simulation } from '../../src/drivers/memory/faults.ts'
import { ExitFeed, SimulatedRuntime } from '../../src/drivers/memory/runtime.ts'
import { conformance } from './conformance.ts'
import { memorySubject } from './memory-subject.ts'
import { collect } from './trial.ts'

const HOUR_MS = 3_600_000
const LIMITS = {
  cpu_limit: 0.5,
  memory_limit_mb: 256,
  network_policy: { allow_controller: true, allow_external: false },
}
const { signal } = new AbortController()

const request = (sandbox: string, worker_id = 'w1'): LaunchRequest => ({
  sandbox,
  worker_id,
  parent_id: null,
  depth: 0,
  limits: LIMITS,
  manifest: '{}',
})

/** A driver that is closed with its test. */
function open(
  t: { after(close: () => Promise<void>): void },
  faults: Partial<Simulation>,
  runtime?: SimulatedRuntime,
) {
  const driver = openMemoryDriver({ ...NO_FAULTS, ...faults }, runtime)
  t.after(() => driver.close())
  return driver
}

const owned = (driver: SandboxDriver) => collect(driver.owned(signal))

/** Whether each of many calls succeeded. */
async function outcomes(calls: readonly Promise<unknown>[]): Promise<boolean[]> {
  return (await Promise.allSettled(calls)).map(({ status }) => status === 'fulfilled')
}

conformance(t, 'without faults', memorySubject())
conformance(t, 'with latencies', memorySubject({ launch_ms: 8, kill_ms: 4 }))
conformance(t, 'kills slower than launches', memorySubject({ launch_ms: 4, kill_ms: 12 }))

t.test('a draw depends on what is given and on nothing else', async (t) => {
  t.equal(draw(1, 'launch', 'w1', 0), draw(1, 'launch', 'w1', 0))
  const others = [draw(2, 'launch', 'w1', 0), draw(1, 'kill', 'w1', 0), draw(1, 'launch', 'w2', 0)]
  const draws = [...others, draw(1, 'launch', 'w1', 0), draw(1, 'launch', 'w1', 1)]
  t.equal(new Set(draws).size, 5)
  const many = Array.from({ length: 1000 }, (_, attempt) => draw(7, 'any', 'w', attempt))
  t.ok(many.every((luck) => luck >= 0 && luck < 1))
  const mean = many.reduce((sum, luck) => sum + luck) / many.length
  t.ok(mean > 0.45 && mean < 0.55, 'draws are even')
})

t.test('a run repeats, whatever runs beside it', async (t) => {
  const faults = { launch_failure_rate: 0.5, kill_failure_rate: 0.5 }
  const play = async (seed: number, beside: boolean) => {
    const driver = open(t, { ...faults, seed })
    const played: boolean[] = []
    for (let life = 0; life < 40; life++) {
      if (beside) await outcomes([driver.launch(request(`beside-${life}`, 'w2'), signal)])
      played.push(...(await outcomes([driver.launch(request(`s-${life}`), signal)])))
      played.push(...(await outcomes([driver.kill(`s-${life}`, signal), driver.kill(`s-${life}`, signal)])))
    }
    return played
  }
  const first = await play(1, false)
  t.strictSame(await play(1, true), first)
  t.notSame(await play(2, false), first)
  t.ok(first.includes(true) && first.includes(false))
})

t.test('a rate of 1 fails every launch, and some leave a half-made sandbox', async (t) => {
  const driver = open(t, { launch_failure_rate: 1 })
  const launches = Array.from({ length: 20 }, (_, n) => driver.launch(request(`s-${n}`, `w-${n}`), signal))
  for (const launch of launches) await t.rejects(launch, { name: 'DriverError', failure: 'refused' })
  const left = await owned(driver)
  t.ok(left.length > 0 && left.length < 20, 'some')
  t.ok(left.every(({ state }) => state === 'starting'))
  for (const { sandbox } of left) await driver.kill(sandbox, signal)
  t.ok((await owned(driver)).every(({ state }) => state === 'ended'))
})

t.test('a kill that fails kills nothing', async (t) => {
  for (const kill_ms of [0, 2]) {
    const driver = open(t, { kill_ms, kill_failure_rate: 1 })
    await driver.launch(request('s'), signal)
    await t.rejects(driver.kill('s', signal), { name: 'DriverError', failure: 'unreachable' })
    t.match(await owned(driver), [{ sandbox: 's', state: 'running' }])
  }
})

t.test('each attempt at a kill meets luck of its own', async (t) => {
  const driver = open(t, { kill_failure_rate: 0.9 })
  await driver.launch(request('s'), signal)
  let attempts = 1
  while (!(await outcomes([driver.kill('s', signal)]))[0]) attempts++
  t.ok(attempts > 1, 'it failed at least once, and died')
  t.match(await owned(driver), [{ state: 'ended', ending: null }])
})

t.test('a kill ends the launch that is under way', async (t) => {
  const driver = open(t, { launch_ms: HOUR_MS })
  const launch = driver.launch(request('s'), signal)
  t.match(await owned(driver), [{ state: 'starting', started_at: null }])
  await driver.kill('s', signal)
  await t.rejects(launch, new DriverError('refused', 'sandbox s was killed while it started'))
  t.match(await owned(driver), [{ state: 'ended', started_at: null }])
})

t.test('a kill under way ends what came up meanwhile', async (t) => {
  const driver = open(t, { launch_ms: 1, kill_ms: 15 })
  const launch = driver.launch(request('s'), signal)
  const kill = driver.kill('s', signal)
  await launch
  await kill
  t.match(await owned(driver), [{ state: 'ended' }])
})

t.test('an aborted launch comes up later', async (t) => {
  const driver = open(t, { launch_ms: 5 })
  const caller = new AbortController()
  const launch = driver.launch(request('s'), caller.signal)
  caller.abort(new Error('the caller gave up'))
  await t.rejects(launch, { message: 'the caller gave up' })
  t.match(await owned(driver), [{ state: 'starting' }])
  await driver.launch(request('later'), signal)
  t.match(await owned(driver), [{ state: 'running' }, { state: 'running' }])
})

t.test('an aborted kill is carried out all the same', async (t) => {
  const driver = open(t, { kill_ms: 5 })
  await driver.launch(request('s'), signal)
  await driver.launch(request('later'), signal)
  const caller = new AbortController()
  const kill = driver.kill('s', caller.signal)
  caller.abort()
  await t.rejects(kill, { name: 'AbortError' })
  await driver.kill('later', signal)
  t.match(await owned(driver), [{ state: 'ended' }, { state: 'ended' }])
})

t.test('an id is launched once', async (t) => {
  const driver = open(t, {})
  await driver.launch(request('s'), signal)
  await t.rejects(driver.launch(request('s'), signal), new DriverError('refused', 'sandbox s exists already'))
})

t.test('a limit drifts, a repair holds until the next look', async (t) => {
  const driver = open(t, { drift_rate: 1 })
  const changed = new Set<string>()
  for (let n = 0; n < 20; n++) {
    await driver.launch(request(`s-${n}`, `w-${n}`), signal)
    const { limits } = await driver.readLimits(`s-${n}`, signal)
    changed.add(JSON.stringify(limits))
    t.equal(await driver.applyLimits(`s-${n}`, LIMITS, signal), 'applied')
    t.strictSame((await driver.readLimits(`s-${n}`, signal)).limits, LIMITS)
    t.notSame((await driver.readLimits(`s-${n}`, signal)).limits, LIMITS)
  }
  const external = { allow_controller: true, allow_external: true }
  const expected = [{ memory_limit_mb: 128 }, { cpu_limit: 1 }, { network_policy: external }]
  t.strictSame([...changed].sort(), expected.map((one) => JSON.stringify({ ...LIMITS, ...one })).sort())
})

t.test('an exit rate of 1 ends each launch at once, in different ways', async (t) => {
  const driver = open(t, { exit_rate: 1 })
  const exits = driver.exits(signal)[Symbol.asyncIterator]()
  const codes = new Set<number | null>()
  for (let n = 0; n < 60; n++) {
    const { ended } = await driver.launch(request(`s-${n}`, `w-${n}`), signal)
    t.strictSame((await exits.next()).value, { sandbox: `s-${n}`, ...ended })
    t.equal(ended?.out_of_memory, ended?.exit_code === 137)
    codes.add(ended?.exit_code ?? null)
  }
  t.strictSame([...codes].sort(), [0, 1, 137])
})

t.test('a lifetime is drawn', async (t) => {
  const fated = (worker_id: string): Fated => ({ worker_id, limits: LIMITS, attempts: null })
  const lifetime_ms = (exit_rate: number, worker_id: string) =>
    new Luck({ ...NO_FAULTS, exit_rate }).lifetimeMs(fated(worker_id))
  t.equal(lifetime_ms(0, 'w'), Number.POSITIVE_INFINITY)
  t.equal(lifetime_ms(1, 'w'), 0)
  const workers = Array.from({ length: 1000 }, (_, n) => `w-${n}`)
  const firstSecond = workers.filter((worker) => lifetime_ms(0.25, worker) < 1000).length
  t.ok(firstSecond > 200 && firstSecond < 300, 'a quarter ends within the first second')
  t.equal(lifetime_ms(0.5, 'w-1'), lifetime_ms(0.5, 'w-1'))
  t.ok(Number.isFinite(lifetime_ms(1e-300, 'w')))
})

t.test('launches are counted for a bounded number of workers', async (t) => {
  const luck = new Luck({ ...NO_FAULTS, launch_failure_rate: 0.5 })
  const begin = (worker_id: string) => luck.begin({ worker_id, limits: LIMITS, attempts: null }).launch
  t.equal(begin('first'), 0)
  t.equal(begin('first'), 1)
  for (let n = 0; n < 60_000; n++) begin(`a-${n}`)
  t.equal(begin('first'), 2, 'kept while few came since')
  for (let n = 0; n < 110_000; n++) begin(`b-${n}`)
  t.equal(begin('first'), 0, 'forgotten')
})

t.test('a sandbox ends by itself, under a later driver too, and never after a kill', async (t) => {
  const runtime = new SimulatedRuntime()
  const early = open(t, {}, runtime)
  await early.launch(request('before'), signal)
  const driver = open(t, { exit_rate: 1 - 1e-15 }, runtime)
  const exits = driver.exits(signal)[Symbol.asyncIterator]()
  const ends = ['before']
  for (let n = 0; n < 10; n++) {
    await driver.launch(request(`ends-${n}`, `w-${n}`), signal)
    ends.push(`ends-${n}`)
    for (const killer of [driver, early]) {
      await driver.launch(request(`killed-${n}`, `k-${n}`), signal)
      await killer.kill(`killed-${n}`, signal)
      await killer.remove(`killed-${n}`, signal)
    }
  }
  // Lifetimes do not keep the process alive; this test does.
  const awake = setInterval(() => {}, 1000)
  t.after(() => clearInterval(awake))
  const told: unknown[] = []
  while (told.length < ends.length) {
    const { value } = await exits.next()
    told.push(value === 'gap' ? value : value?.sandbox)
  }
  t.strictSame(told.sort(), ends.sort())
})

t.test('what cannot be read meets luck too', async (t) => {
  const runtime = new SimulatedRuntime()
  const driver = open(t, { kill_failure_rate: 0.5 }, runtime)
  for (let n = 0; n < 20; n++) runtime.make(`s-${n}`, { worker_id: null, manifest: null, limits: LIMITS })
  const kills = await outcomes(Array.from({ length: 20 }, (_, n) => driver.kill(`s-${n}`, signal)))
  t.ok(kills.includes(true) && kills.includes(false))
  t.match(await owned(driver), [{ worker_id: null, manifest: null }])
})

t.test('what has ended has no limits', async (t) => {
  const driver = open(t, {})
  await driver.launch(request('s'), signal)
  await driver.kill('s', signal)
  const refusal = new DriverError('refused', 'sandbox s has ended: it has no limits')
  await t.rejects(driver.readLimits('s', signal), refusal)
  await t.rejects(driver.applyLimits('s', LIMITS, signal), refusal)
})

t.test('a signal is listened to while someone waits, and by one listener', async (t) => {
  const driver = open(t, { launch_ms: 5 })
  const caller = new AbortController()
  const launches = Array.from({ length: 100 }, (_, n) => driver.launch(request(`s-${n}`), caller.signal))
  t.equal(getEventListeners(caller.signal, 'abort').length, 1)
  await Promise.all(launches)
  t.equal(getEventListeners(caller.signal, 'abort').length, 0)
})

t.test('close lets go of lifetimes', async (t) => {
  const runtime = new SimulatedRuntime()
  const driver = openMemoryDriver({ ...NO_FAULTS, exit_rate: 1e-9 }, runtime)
  await driver.launch(request('s'), signal)
  await driver.close()
  t.match(await owned(open(t, {}, runtime)), [{ state: 'running' }])
})

t.test('what was killed has no exit', async (t) => {
  const runtime = new SimulatedRuntime()
  const driver = open(t, {}, runtime)
  const exits = driver.exits(signal)[Symbol.asyncIterator]()
  await driver.launch(request('killed'), signal)
  await driver.launch(request('ended'), signal)
  await driver.kill('killed', signal)
  runtime.end('killed', { exit_code: 0, out_of_memory: false })
  runtime.end('ended', { exit_code: 0, out_of_memory: false })
  t.match(await exits.next(), { value: { sandbox: 'ended' } })
})

t.test('a reader of exits that is too slow is told of a gap', async (t) => {
  const feed = new ExitFeed(() => {})
  for (let n = 0; n <= 100_000; n++) feed.tell({ sandbox: `${n}`, exit_code: 0, out_of_memory: false })
  feed.tell({ sandbox: 'last', exit_code: 0, out_of_memory: false })
  t.equal((await feed.next()).value, 'gap')
  t.match((await feed.next()).value, { sandbox: 'last' })
})

t.test('a reader of exits that stops is forgotten', async (t) => {
  let forgotten = 0
  const feed = new ExitFeed(() => {
    forgotten += 1
  })
  feed.tell({ sandbox: 's', exit_code: 0, out_of_memory: false })
  for await (const _exit of feed) break
  feed.end()
  feed.tell({ sandbox: 's', exit_code: 0, out_of_memory: false })
  t.equal(forgotten, 1)
  t.equal((await feed.next()).done, true)
})

t.test('close fails what is under way and ends exits', async (t) => {
  const runtime = new SimulatedRuntime()
  const driver = openMemoryDriver({ ...NO_FAULTS, launch_ms: HOUR_MS }, runtime)
  const exit = driver.exits(signal)[Symbol.asyncIterator]().next()
  const launch = driver.launch(request('s'), signal)
  await driver.close()
  await t.rejects(launch, { name: 'DriverError', failure: 'unreachable' })
  t.equal((await exit).done, true)
  const next = open(t, {}, runtime)
  t.match(await owned(next), [{ sandbox: 's', state: 'starting' }])
  await next.kill('s', signal)
  t.match(await owned(next), [{ state: 'ended' }])
})

t.test('owned lets others in, and bears what they change', async (t) => {
  const driver = open(t, {})
  for (let n = 0; n < 5000; n++) await driver.launch(request(`s-${n}`), signal)
  let turns = 0
  const change = async () => {
    turns += 1
    await driver.kill(`s-${turns}`, signal)
    await driver.kill(`s-${4000 + turns}`, signal)
    await driver.remove(`s-${4000 + turns}`, signal)
    await Promise.all(
      Array.from({ length: 2000 }, (_, n) => driver.launch(request(`new-${turns}-${n}`), signal)),
    )
  }
  const seen = new Set<string>()
  let other = setImmediate(function again() {
    void change()
    other = setImmediate(again)
  })
  for await (const { sandbox } of driver.owned(signal)) seen.add(sandbox)
  clearImmediate(other)
  t.ok(turns > 0, 'others had turns')
  for (let n = 0; n < 4000; n++) if (!seen.has(`s-${n}`)) t.fail(`s-${n} was not seen`)
})

t.test('owned stops when its caller gives up', async (t) => {
  const driver = open(t, {})
  for (let n = 0; n < 3; n++) await driver.launch(request(`s-${n}`), signal)
  const caller = new AbortController()
  const list = driver.owned(caller.signal)[Symbol.asyncIterator]()
  await list.next()
  caller.abort()
  await t.rejects(list.next(), { name: 'AbortError' })
})

import t from 'tap'
import { DriverError } from '../../src/drivers/driver.ts'
import { openMemoryDriver } from '../../src/drivers/memory/driver.ts'
import { NO_FAULTS } from '../../src/drivers/memory/faults.ts'
import { SimulatedRuntime } from '../../src/drivers/memory/runtime.ts'
import { readStoredManifest } from '../../src/plugins/body-readers.ts'
import { type Answer, at, listAt, manifest, type RunningApp, runningApp } from '../running-app.ts'

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
const code = ({ body }: Answer) => at(body, 'code')
const names = (answer: Answer, ...path: string[]) => listAt(answer.body, ...path)
const idsOf = (answer: Answer) => names(answer, 'items').map((item) => at(item, 'manifest', 'worker_id'))

/** Past HTTP, where there are many. */
async function launchDirectly({ app }: RunningApp, changes: object): Promise<void> {
  const accepted = readStoredManifest(JSON.stringify(manifest(changes)))
  if (accepted === undefined) throw new Error('this is no manifest')
  await app.orchestrator.launch(accepted)
}

t.test('launch: 201 with Location and the record, then 200 for the same manifest', async (t) => {
  const app = await runningApp(t)
  const created = await app.launch()
  t.equal(created.status, 201)
  t.equal(created.headers['location'], '/workers/w1')
  t.match(created.body, {
    manifest: manifest(),
    resources: {
      cpu_limit: 0.5,
      memory_limit_mb: 256,
      network_policy: { allow_controller: true, allow_external: false },
    },
    status: 'running',
    started_at: TIME,
  })
  for (const name of ['kill_requested_at', 'finished_at', 'removed_at', 'reason', 'cause', 'exit_code']) {
    t.equal(at(created.body, name), null, name)
  }
  for (const query of ['', '?replace=false', '?replace=true']) {
    const again = await app.launch({}, query)
    t.equal(again.status, 200, query)
    t.equal(again.headers['location'], undefined)
    t.strictSame(again.body, created.body)
  }
  t.strictSame((await app.get('/workers/w1')).body, created.body)
  t.strictSame(await app.events(), [
    {
      event: 'container_launched',
      worker_id: 'w1',
      parent_id: null,
      cpu_limit: 0.5,
      memory_limit_mb: 256,
      allow_external: false,
    },
  ])
})

t.test('a manifest comes back as it was sent: spelling, order, escapes, nothing added', async (t) => {
  const app = await runningApp(t)
  const texts = [
    `{"signature":"s","resources":{"memory_limit_mb":256,"cpu_limit":1.0},"issued_at":"2026-01-06T09:30:00Z","state_snapshot":{},"depth":0,"parent_id":null,"worker_id":"w1"}`,
    `{"worker_id":"w2","parent_id":"w1","depth":9007199254740991,"state_snapshot":{"z":1e2,"a":-0,"big":123456789012345678901234567890.10,"é":"\\u00e9","__proto__":{"a":1},"constructor":{"prototype":1},"tiny":1e-400,"huge":1e400,"":[]},"issued_at":"2024-02-29T23:59:59.999999999-23:59","resources":{"cpu_limit":1E-3,"memory_limit_mb":9007199254740991,"network_policy":{"allow_external":true}},"signature":""}`,
    `{"worker_id":"w3","parent_id":null,"depth":0,"state_snapshot":{"\\ud800":"\\udfff","x":"\\"}:{\\\\"},"issued_at":"2026-01-06T09:30:00Z","resources":{"cpu_limit":0.10,"memory_limit_mb":1,"network_policy":{}},"signature":"ü\\n"}`,
  ]
  const resources = [
    '"resources":{"cpu_limit":1.0,"memory_limit_mb":256,"network_policy":{"allow_controller":true,"allow_external":false}}',
    '"resources":{"cpu_limit":1E-3,"memory_limit_mb":9007199254740991,"network_policy":{"allow_controller":true,"allow_external":true}}',
    '"resources":{"cpu_limit":0.10,"memory_limit_mb":1,"network_policy":{"allow_controller":true,"allow_external":false}}',
  ]
  for (const [index, text] of texts.entries()) {
    const id = `w${index + 1}`
    const created = await app.post('/workers', text, { 'content-type': 'application/json' })
    t.equal(created.status, 201, created.text)
    t.ok(created.text.startsWith(`{"manifest":${text},${resources[index]},`), created.text)
    const spaced = await app.post('/workers', `  \n${text}\t`, { 'content-type': 'application/json' })
    t.equal(spaced.status, 200)
    t.equal(spaced.text, created.text)
    t.equal((await app.get(`/workers/${id}`)).text, created.text)
    t.ok((await app.get('/workers')).text.includes(`{"manifest":${text},`))
    await app.post(`/workers/${id}/enforce`)
  }
  const enforced = (await app.events('&event=resource_enforced')).map(({ cpu, memory }) => [cpu, memory])
  t.strictSame(enforced, [
    ['1.0', '256'],
    ['1E-3', '9007199254740991'],
    ['0.10', '1'],
  ])
  await app.delete('/workers/w1')
  t.ok((await app.get('/workers/w1')).text.startsWith(`{"manifest":${texts[0]},`))
})

t.test('the same manifest: equal as JSON, numbers by their text, members in any order', async (t) => {
  const app = await runningApp(t)
  const text = JSON.stringify(manifest({ state_snapshot: { a: 1, b: [1, 2], c: 'é' } }))
  const json = { 'content-type': 'application/json' }
  t.equal((await app.post('/workers', text, json)).status, 201)
  const reordered = JSON.stringify(Object.fromEntries(Object.entries(JSON.parse(text)).reverse()))
  const same = [reordered, JSON.stringify(JSON.parse(text), null, 2), text.replace('é', '\\u00E9')]
  for (const other of same) t.equal((await app.post('/workers', other, json)).status, 200, other)
  const different = [
    text.replace('"a":1', '"a":1.0'),
    text.replace('0.5', '0.50'),
    text.replace('[1,2]', '[2,1]'),
    text.replace('signed', 'Signed'),
    text.replace('+00:00', 'Z'),
    text.replace('"memory_limit_mb":256', '"memory_limit_mb":256,"network_policy":{}'),
  ]
  for (const other of different) {
    const refused = await app.post('/workers', other, json)
    t.equal(refused.status, 409, other)
    t.equal(code(refused), 'worker_exists')
  }
})

t.test('another manifest: 409, or with replace=true the old one dies first', async (t) => {
  const app = await runningApp(t)
  await app.launch()
  const other = { signature: 'other' }
  const refused = await app.launch(other)
  t.equal(refused.status, 409)
  t.equal(code(refused), 'worker_exists')
  const replaced = await app.launch(other, '?replace=true')
  t.equal(replaced.status, 201)
  t.equal(at(replaced.body, 'manifest', 'signature'), 'other')
  t.strictSame(
    (await app.events()).map(({ event, code }) => code ?? event),
    ['container_launched', 'worker_exists', 'container_killed', 'container_launched'],
  )
  await app.delete('/workers/w1?reason=done')
  t.equal((await app.launch()).status, 201, 'an ended id may be launched again')
  t.equal((await app.get('/workers')).text.match(/"manifest"/g)?.length, 1)
})

t.test(
  'a launch in flight: a retry waits for it, another manifest is refused, a kill overtakes it',
  async (t) => {
    const app = await runningApp(t, { SIMULATED_LAUNCH_MS: 60_000 })
    const first = app.launch()
    const retry = app.launch()
    const other = await app.launch({ signature: 'other' })
    t.equal(other.status, 409)
    t.equal(code(other), 'worker_exists')
    const pending = await app.get('/workers/w1')
    t.match(pending.body, { status: 'pending', started_at: null })
    t.strictSame(at((await app.get('/health')).body, 'workers'), { pending: 1, running: 0, killing: 0 })
    const notRunning = await app.post('/workers/w1/enforce')
    t.equal(notRunning.status, 409)
    t.equal(code(notRunning), 'worker_not_running')
    const killed = await app.delete('/workers/w1?reason=now')
    t.match(killed.body, { reason: 'now', complete: true, killed: ['w1'], already_ended: [], failed: [] })
    for (const launch of [await first, await retry]) {
      t.equal(launch.status, 409)
      t.equal(code(launch), 'worker_killed')
    }
    const record = await app.get('/workers/w1')
    t.match(record.body, {
      status: 'killed',
      cause: 'kill',
      reason: 'now',
      finished_at: TIME,
      removed_at: TIME,
    })
    t.equal(at(record.body, 'started_at'), null)
    t.strictSame(
      (await app.events()).map(({ event, code }) => code ?? event).slice(1, 2),
      ['container_killed'],
      'it was killed before it ran: no container_launched',
    )
  },
)

t.test('a start that succeeds answers its retry with 200', async (t) => {
  const app = await runningApp(t, { SIMULATED_LAUNCH_MS: 20 })
  const [first, retry] = await Promise.all([app.launch(), app.launch()])
  t.strictSame([first.status, retry.status], [201, 200])
})

t.test('a launch that is not up in time is cleaned up and refused', async (t) => {
  const app = await runningApp(t, { SIMULATED_LAUNCH_MS: 60_000, LAUNCH_TIMEOUT_MS: 20 })
  const [refused, retry] = await Promise.all([app.launch(), app.launch()])
  for (const answer of [refused, retry]) {
    t.equal(answer.status, 504)
    t.equal(code(answer), 'launch_timeout')
  }
  const record = await app.get('/workers/w1')
  t.match(record.body, { status: 'failed', cause: 'launch_failed', finished_at: TIME, removed_at: TIME })
  t.strictSame(await app.events(), [{ event: 'launch_rejected', worker_id: 'w1', code: 'launch_timeout' }])
})

t.test('a launch that the runtime refuses is 502, and its id is free again', async (t) => {
  const app = await runningApp(t, { SIMULATED_LAUNCH_FAILURE_RATE: 1 })
  const refused = await app.launch()
  t.equal(refused.status, 502)
  t.equal(code(refused), 'launch_failed')
  t.match((await app.get('/workers/w1')).body, { status: 'failed', cause: 'launch_failed', started_at: null })
  t.equal((await app.launch({ signature: 'other' })).status, 502)
})

t.test('a failed launch whose remains will not die is 504 kill_unconfirmed, and killing', async (t) => {
  const app = await runningApp(t, {
    SIMULATED_LAUNCH_MS: 60_000,
    LAUNCH_TIMEOUT_MS: 10,
    SIMULATED_KILL_FAILURE_RATE: 1,
    KILL_TIMEOUT_MS: 20,
  })
  const refused = await app.launch()
  t.equal(refused.status, 504)
  t.equal(code(refused), 'kill_unconfirmed')
  t.match((await app.get('/workers/w1')).body, {
    status: 'killing',
    cause: 'launch_failed',
    finished_at: null,
  })
  const again = await app.launch()
  t.equal(again.status, 409)
  t.equal(code(again), 'worker_killed')
  const [event] = await app.events('&event=kill_unconfirmed')
  t.match(event, { worker_id: 'w1', reason: null, cause: 'launch_failed', code: 'runtime_unavailable' })
})

t.test('a worker that will not die: 504 with the report, killing, and nothing takes its place', async (t) => {
  const app = await runningApp(t, { SIMULATED_KILL_FAILURE_RATE: 1, KILL_TIMEOUT_MS: 50 })
  await app.launch()
  const unreplaced = await app.launch({ signature: 'other' }, '?replace=true')
  t.equal(unreplaced.status, 504)
  t.equal(code(unreplaced), 'kill_unconfirmed')
  t.match((await app.get('/workers/w1')).body, { status: 'killing', cause: 'replaced', manifest: manifest() })
  const killed = await app.delete('/workers/w1?reason=later')
  t.equal(killed.status, 504)
  t.match(killed.body, {
    code: 'kill_unconfirmed',
    report: {
      reason: 'later',
      complete: false,
      killed: [],
      already_ended: [],
      failed: [{ worker_id: 'w1' }],
    },
  })
  t.equal(at((await app.get('/workers/w1')).body, 'cause'), 'replaced', 'the first kill counts')
  const same = await app.launch()
  t.equal(same.status, 409)
  t.equal(code(same), 'worker_killed')
  t.equal(code(await app.launch({}, '?replace=true')), 'worker_killed')
  t.equal(code(await app.launch({ signature: 'other' })), 'worker_exists')
  t.equal(code(await app.post('/workers/w1/enforce')), 'worker_not_running')
  const all = await app.post('/kill-all?reason=all')
  t.equal(all.status, 504)
  t.match(all.body, { code: 'kill_unconfirmed', report: { complete: false, failed: [{ worker_id: 'w1' }] } })
  t.equal((await app.events('&event=kill_unconfirmed')).length, 1, 'told once a worker')
})

t.test('capacity: 503 with Retry-After, and an ended worker makes room', async (t) => {
  const app = await runningApp(t, { MAX_WORKERS: 1 })
  await app.launch()
  t.equal((await app.launch()).status, 200, 'the one that runs needs none')
  const refused = await app.launch({ worker_id: 'w2' })
  t.equal(refused.status, 503)
  t.equal(code(refused), 'capacity_exhausted')
  t.match(refused.headers['retry-after'], /^\d+$/)
  const ready = await app.get('/ready')
  t.equal(ready.status, 503)
  t.match(ready.body, { code: 'not_ready', reasons: [{ code: 'capacity_exhausted' }] })
  t.match(ready.headers['retry-after'], /^\d+$/)
  t.equal(code(await app.launch({ signature: 'x' })), 'worker_exists', '409 goes before capacity')
  t.equal((await app.launch({ signature: 'x' }, '?replace=true')).status, 201)
  await app.delete('/workers/w1')
  t.equal((await app.launch({ worker_id: 'w2' })).status, 201)
})

t.test('a runtime that does not answer: launches 503, enforcement 503 and nobody dies', async (t) => {
  const runtime = new SimulatedRuntime()
  const driver = openMemoryDriver(NO_FAULTS, runtime)
  const app = await runningApp(t, { RUNTIME_TIMEOUT_MS: 20, KILL_TIMEOUT_MS: 20 }, { driver })
  await app.launch()
  runtime.hangs = true
  const enforced = await app.post('/workers/w1/enforce')
  t.equal(enforced.status, 503)
  t.equal(code(enforced), 'runtime_unavailable')
  t.equal(at((await app.get('/workers/w1')).body, 'status'), 'running')
  t.equal((await app.delete('/workers/w1')).status, 504)
  runtime.hangs = false
  t.equal((await app.delete('/workers/w1')).status, 200)
})

t.test('a runtime that is unreachable, full, or cannot hold a limit', async (t) => {
  const cases = [
    ['unreachable', 503, 'runtime_unavailable'],
    ['no_capacity', 503, 'capacity_exhausted'],
    ['not_enforceable', 400, 'limit_not_enforceable'],
    ['refused', 502, 'launch_failed'],
  ] as const
  const driver = openMemoryDriver()
  let failure: (typeof cases)[number][0] = 'refused'
  driver.launch = async () => {
    throw new DriverError(failure, 'no')
  }
  const app = await runningApp(t, {}, { driver })
  for (const [next, status, expected] of cases) {
    failure = next
    const refused = await app.launch()
    t.equal(refused.status, status, expected)
    t.equal(code(refused), expected)
  }
})

t.test('limits that the runtime cannot hold are refused before anything starts', async (t) => {
  const driver = openMemoryDriver()
  const narrow = { ...driver.capabilities, memory_limit_mb: { minimum: 6, maximum: 512, granularity: 1 } }
  Object.defineProperty(driver, 'capabilities', { value: narrow })
  const app = await runningApp(t, {}, { driver })
  for (const memory_limit_mb of [5, 513]) {
    const refused = await app.launch({ resources: { cpu_limit: 1, memory_limit_mb } })
    t.equal(refused.status, 400)
    t.equal(code(refused), 'limit_not_enforceable')
    t.match(at(refused.body, 'detail'), memory_limit_mb === 5 ? /6/ : /512/)
  }
  t.equal((await app.get('/workers/w1')).status, 404)
})

t.test('before the runtime was read: launches 503, an unknown kill 504 and remembered', async (t) => {
  const runtime = new SimulatedRuntime()
  runtime.hangs = true
  const driver = openMemoryDriver(NO_FAULTS, runtime)
  const app = await runningApp(t, { RUNTIME_TIMEOUT_MS: 10, KILL_TIMEOUT_MS: 20 }, { driver })
  const refused = await app.launch()
  t.equal(refused.status, 503)
  t.equal(code(refused), 'runtime_unavailable')
  const killed = await app.delete('/workers/w9')
  t.equal(killed.status, 504)
  t.match(killed.body, {
    code: 'kill_unconfirmed',
    report: { complete: false, failed: [{ worker_id: 'w9' }] },
  })
  t.match((await app.get('/ready')).body, { reasons: [{ code: 'runtime_unavailable' }] })
  t.equal((await app.get('/health')).status, 200)
  t.equal((await app.post('/kill-all')).status, 504)
})

t.test('a worker that ends by itself before it is seen is 201, then exited', async (t) => {
  const app = await runningApp(t, { SIMULATED_EXIT_RATE: 1 })
  t.equal((await app.launch()).status, 201)
  const { body } = await app.get('/workers/w1')
  t.match(body, { status: 'exited', cause: /^(exited|oom)$/, kill_requested_at: null, started_at: TIME })
  t.type(at(body, 'exit_code'), 'number')
  t.match(await app.events(), [
    { event: 'container_launched' },
    { event: 'container_exited', worker_id: 'w1' },
  ])
  const killed = await app.delete('/workers/w1')
  t.equal(killed.status, 200)
  t.match(killed.body, { complete: true, killed: [], already_ended: ['w1'], reason: 'unspecified' })
  t.equal(code(await app.post('/workers/w1/enforce')), 'worker_not_running')
})

t.test('kill: 200 with a report, again 200, unknown 404 with an event', async (t) => {
  const app = await runningApp(t)
  await app.launch()
  const killed = await app.delete('/workers/w1?reason=drift&cascade=false')
  t.equal(killed.status, 200)
  t.match(killed.body, { reason: 'drift', complete: true, killed: ['w1'], already_ended: [], failed: [] })
  t.ok(Number(at(killed.body, 'duration_ms')) >= 0)
  const record = await app.get('/workers/w1')
  t.match(record.body, { status: 'killed', cause: 'kill', reason: 'drift', kill_requested_at: TIME })
  t.equal(at(record.body, 'exit_code'), null)
  const again = await app.delete('/workers/w1?reason=second')
  t.match(again.body, { reason: 'second', complete: true, killed: [], already_ended: ['w1'] })
  t.equal(at((await app.get('/workers/w1')).body, 'reason'), 'drift')
  const unknown = await app.delete('/workers/nobody?reason=why')
  t.equal(unknown.status, 404)
  t.equal(code(unknown), 'worker_not_found')
  t.strictSame((await app.events()).slice(1), [
    { event: 'container_killed', worker_id: 'w1', reason: 'drift' },
    {
      event: 'container_kill_skipped',
      worker_id: 'nobody',
      reason: 'unknown worker (kill reason: why)',
    },
  ])
})

t.test('a cascade kills the line of descent, through ended and unknown parents', async (t) => {
  const app = await runningApp(t)
  const line = [
    ['root', null, 0],
    ['child', 'root', 1],
    ['grandchild', 'child', 2],
    ['stranger', null, 0],
    ['orphan', 'forgotten', 3],
  ] as const
  for (const [worker_id, parent_id, depth] of line) await app.launch({ worker_id, parent_id, depth })
  await app.delete('/workers/child')
  const killed = await app.delete('/workers/root?cascade=true&reason=line')
  t.equal(killed.status, 200)
  t.match(killed.body, { killed: ['root', 'grandchild'], already_ended: [] })
  t.match((await app.get('/workers/grandchild')).body, { cause: 'cascade', reason: 'line' })
  t.match((await app.get('/workers/root')).body, { cause: 'kill' })
  t.match((await app.delete('/workers/forgotten?cascade=true')).body, { killed: ['orphan'] })
  t.equal((await app.delete('/workers/nobody?cascade=true')).status, 404)
  t.equal(at((await app.get('/workers/stranger')).body, 'status'), 'running')
})

t.test('a cascade under way refuses launches below it', async (t) => {
  const app = await runningApp(t, { SIMULATED_KILL_MS: 1500 })
  await app.launch()
  const kill = app.delete('/workers/w1?cascade=true')
  const refused = await app.launch({ worker_id: 'w2', parent_id: 'w1', depth: 1 })
  t.equal(refused.status, 409)
  t.equal(code(refused), 'worker_killed')
  t.equal((await app.launch({ worker_id: 'w3' })).status, 201, 'others go on')
  t.equal((await kill).status, 200)
  t.equal((await app.launch({ worker_id: 'w2', parent_id: 'w1', depth: 1 })).status, 201)
})

t.test('a replace that a kill overtakes launches nothing', async (t) => {
  const app = await runningApp(t, { SIMULATED_KILL_MS: 1500 })
  await app.launch()
  const replace = app.launch({ signature: 'other' }, '?replace=true')
  while (at((await app.get('/workers/w1')).body, 'status') !== 'killing') await new Promise(setImmediate)
  const kill = app.delete('/workers/w1')
  const refused = await replace
  t.equal(refused.status, 409)
  t.equal(code(refused), 'worker_killed')
  t.equal((await kill).status, 200)
  t.match((await app.get('/workers/w1')).body, { status: 'killed', cause: 'replaced', manifest: manifest() })
  t.match(await app.events('&event=launch_rejected'), [{ worker_id: 'w1', code: 'worker_killed' }])
})

t.test('enforce: what holds, what drifted, and who is not there', async (t) => {
  const app = await runningApp(t)
  await app.launch()
  const held = await app.post('/workers/w1/enforce')
  t.equal(held.status, 200)
  const limits = {
    cpu_limit: 0.5,
    memory_limit_mb: 256,
    network_policy: { allow_controller: true, allow_external: false },
  }
  t.strictSame(held.body, {
    worker_id: 'w1',
    enforced: true,
    limits,
    observed: limits,
    drift: [],
    usage: null,
  })
  t.strictSame((await app.events('&event=resource_enforced')).at(0), {
    event: 'resource_enforced',
    value: 1,
    worker_id: 'w1',
    cpu: '0.5',
    memory: '256',
  })
  const unknown = await app.post('/workers/nobody/enforce')
  t.equal(unknown.status, 404)
  t.equal(code(unknown), 'worker_not_found')
  t.equal((await app.post('/workers/a%2fb/enforce')).status, 404)
  const withBody = await app.post('/workers/w1/enforce', {})
  t.equal(withBody.status, 400)
  t.equal(code(withBody), 'request_invalid')
  t.equal((await app.post('/workers/w1/enforce', '', { 'content-type': 'application/json' })).status, 200)
  t.equal(code(await app.post('/workers/w1/enforce?force=true')), 'request_invalid')
})

t.test('enforce repairs drift; what cannot be repaired kills', async (t) => {
  const drifting = await runningApp(t, { SIMULATED_DRIFT_RATE: 1 })
  await drifting.launch()
  const repaired = await drifting.post('/workers/w1/enforce')
  t.match(repaired.body, { enforced: true, drift: [{ field: String, expected: /./, observed: /./ }] })

  const driver = openMemoryDriver({ ...NO_FAULTS, drift_rate: 1 })
  driver.applyLimits = async () => {
    throw new DriverError('refused', 'no')
  }
  const app = await runningApp(t, {}, { driver })
  await app.launch()
  const killed = await app.post('/workers/w1/enforce')
  t.match(killed.body, { enforced: false })
  t.match((await app.get('/workers/w1')).body, { status: 'killed', cause: 'enforcement_failed' })
  t.equal((await app.events('&event=resource_enforced')).length, 0)
})

t.test('the list: in order of acceptance, stable while workers end and come', async (t) => {
  const app = await runningApp(t)
  for (const n of [1, 2, 3, 4, 5]) await app.launch({ worker_id: `w${n}` })
  await app.launch({ worker_id: 'child', parent_id: 'w1', depth: 1 })
  const first = await app.get('/workers?limit=2')
  t.strictSame(idsOf(first), ['w1', 'w2'])
  await app.delete('/workers/w2')
  await app.delete('/workers/w3')
  await app.launch({ worker_id: 'w2' })
  const cursor = encodeURIComponent(String(at(first.body, 'next_cursor')))
  const second = await app.get(`/workers?limit=1000&cursor=${cursor}`)
  t.strictSame(idsOf(second), ['w3', 'w4', 'w5', 'child', 'w2'])
  t.equal(at(second.body, 'next_cursor'), null)
  t.strictSame(idsOf(await app.get('/workers?status=killed')), ['w3'])
  t.strictSame(idsOf(await app.get('/workers?parent_id=w1')), ['child'])
  t.strictSame(idsOf(await app.get('/workers?parent_id=w1&status=killed')), [])
  t.strictSame(idsOf(await app.get('/workers?parent_id=unknown')), [])
  for (const status of ['pending', 'killing', 'exited', 'failed']) {
    t.strictSame(idsOf(await app.get(`/workers?status=${status}`)), [], status)
  }
  const exact = await app.get('/workers?limit=6')
  t.equal(names(exact, 'items').length, 6)
  t.equal(at(exact.body, 'next_cursor'), null, 'nothing is left to look at')
})

t.test('the list refuses what it does not know', async (t) => {
  const app = await runningApp(t)
  await app.launch()
  await app.launch({ worker_id: 'w2' })
  const cursor = String(at((await app.get('/workers?limit=1')).body, 'next_cursor'))
  const other = await runningApp(t)
  const altered = `${cursor.slice(0, -1)}${cursor.endsWith('A') ? 'B' : 'A'}`
  const ahead = cursor.replace(/^\d+/, (ordinal) => String(Number(ordinal) + 1))
  const bad = [
    ...['limit=0', 'limit=1001', 'limit=-1', 'limit=1e2', 'limit=1.0', 'limit=', 'limit= 7', 'limit=0x1'],
    ...['limit=99999999999999999999', 'limit=1&limit=1', 'limit[]=1', 'Limit=1'],
    ...['status=', 'status=dead', 'status=RUNNING', 'status=killed&status=killed', 'status=killed,exited'],
    ...[
      'parent_id=',
      'parent_id=a%2fb',
      'parent_id=None',
      'parent_id=a&parent_id=b',
      `parent_id=${'a'.repeat(129)}`,
    ],
    ...[
      'cursor=',
      'cursor=0',
      'cursor=1',
      `cursor=${altered}`,
      `cursor=${ahead}`,
      `cursor=${cursor}&cursor=${cursor}`,
    ],
    ...[
      `cursor=${cursor}x`,
      'cursor=%00',
      'unknown=1',
      '=',
      '__proto__=1',
      'constructor=1',
      '__proto__=1&__proto__=2',
    ],
  ]
  for (const query of bad) {
    const refused = await app.get(`/workers?${query}`)
    t.equal(refused.status, 400, query)
    t.equal(code(refused), 'request_invalid')
  }
  t.equal((await other.get(`/workers?cursor=${cursor}`)).status, 400, 'of another service')
  t.equal((await app.get(`/workers?cursor=${cursor}`)).status, 200)
  for (const query of ['limit=1', 'limit=1000', 'limit=0001', '', '&', `parent_id=${'a'.repeat(128)}`]) {
    t.equal((await app.get(`/workers?${query}`)).status, 200, query)
  }
})

t.test('600 workers of 1 MiB, more than a string can hold: pages end at 4 MiB', async (t) => {
  const MiB = 1024 * 1024
  const app = await runningApp(t, { BODY_LIMIT_BYTES: 2 * MiB, MAX_STATE_BYTES: 700 * MiB })
  const state_snapshot = { blob: 'x'.repeat(MiB) }
  t.equal((await app.launch({ worker_id: 'w0', state_snapshot })).status, 201)
  for (let n = 1; n < 600; n++) await launchDirectly(app, { worker_id: `w${n}`, state_snapshot })
  let seen = 0
  for (let page = await app.get('/workers?limit=1000'); seen < 9; ) {
    t.ok(Buffer.byteLength(page.text) < 4 * MiB + 200)
    t.strictSame(idsOf(page), [`w${seen}`, `w${seen + 1}`, `w${seen + 2}`])
    seen += 3
    page = await app.get(`/workers?limit=1000&cursor=${at(page.body, 'next_cursor')}`)
  }
  t.strictSame((await app.get('/workers?status=killed')).body, { items: [], next_cursor: null })
  t.equal((await app.post('/kill-all')).status, 200)
})

t.test('one record larger than a page is a page', async (t) => {
  const app = await runningApp(t, { BODY_LIMIT_BYTES: 8 * 1024 * 1024 })
  const state_snapshot = { blob: 'x'.repeat(5 * 1024 * 1024) }
  for (const worker_id of ['w1', 'w2']) await launchDirectly(app, { worker_id, state_snapshot })
  const first = await app.get('/workers')
  t.strictSame(idsOf(first), ['w1'])
  const second = await app.get(`/workers?cursor=${at(first.body, 'next_cursor')}`)
  t.strictSame([idsOf(second), at(second.body, 'next_cursor')], [['w2'], null])
})

t.test('a page looks at 10,000 records and goes on: only next_cursor null is the end', async (t) => {
  const app = await runningApp(t, { RETAINED_RECORDS: 20_000 })
  for (let n = 0; n < 10_001; n++) await launchDirectly(app, { worker_id: `w${n}` })
  const first = await app.get('/workers?status=exited')
  t.strictSame(idsOf(first), [])
  const cursor = at(first.body, 'next_cursor')
  t.type(cursor, 'string')
  const second = await app.get(`/workers?status=exited&cursor=${cursor}`)
  t.strictSame(second.body, { items: [], next_cursor: null })
})

t.test('a thousand launches of one id at once: one sandbox, one 201', async (t) => {
  const app = await runningApp(t, { SIMULATED_LAUNCH_MS: 5 })
  const tally = (answers: Answer[]) => {
    const counts: Record<string, number> = {}
    for (const answer of answers) {
      const key = `${answer.status} ${code(answer) ?? ''}`.trim()
      counts[key] = (counts[key] ?? 0) + 1
    }
    return counts
  }
  const thousand = Array.from({ length: 1000 }, (_, n) => n)
  t.strictSame(tally(await Promise.all(thousand.map(() => app.launch()))), { 201: 1, 200: 999 })
  const different = await Promise.all(
    thousand.map((n) => app.launch({ worker_id: 'w2', signature: `signed ${n}` })),
  )
  t.strictSame(tally(different), { 201: 1, '409 worker_exists': 999 })
  t.equal((await app.events('&event=container_launched')).length, 2)

  const mixed = await Promise.all(
    thousand.map((n): Promise<Answer> => {
      if (n % 10 === 9) return app.delete('/workers/w3?reason=mixed')
      return app.launch({ worker_id: 'w3', signature: `signed ${n % 3}` }, n % 5 === 0 ? '?replace=true' : '')
    }),
  )
  const statuses = new Set(mixed.map(({ status }) => status))
  for (const status of statuses)
    t.ok([200, 201, 404, 409].includes(status), `${status} is one of those expected`)
  await app.delete('/workers/w3')
  const record = await app.get('/workers/w3')
  t.match(at(record.body, 'status'), 'killed')
  const events = await app.events('&worker_id=w3')
  const launched = events.filter(({ event }) => event === 'container_launched').length
  t.equal(mixed.filter(({ status }) => status === 201).length, launched, 'each 201 was a launch')
})

t.test('who goes away during its launch cancels nothing', async (t) => {
  const app = await runningApp(t, { SIMULATED_LAUNCH_MS: 30 })
  const port = await app.listen()
  const away = new AbortController()
  const launch = fetch(`http://127.0.0.1:${port}/workers`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(manifest()),
    signal: away.signal,
  })
  while ((await app.get('/workers/w1')).status === 404) await new Promise(setImmediate)
  away.abort()
  await t.rejects(launch)
  t.equal((await app.launch()).status, 200)
  t.equal((await app.events('&event=container_launched')).length, 1)
})

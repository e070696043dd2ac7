import t from 'tap'
import { parse } from 'yaml'
import { openMemoryDriver } from '../../src/drivers/memory/driver.ts'
import { NO_FAULTS } from '../../src/drivers/memory/faults.ts'
import { at, listAt, type RunningApp, recordingLogger, runningApp } from '../running-app.ts'

const turn = () => new Promise(setImmediate)

t.test('kill-all: kills whoever lives or starts, and tells of it once', async (t) => {
  const app = await runningApp(t)
  for (const n of [1, 2, 3]) await app.launch({ worker_id: `w${n}` })
  await app.delete('/workers/w2')
  const killed = await app.post('/kill-all', { reason: 'drift' })
  t.equal(killed.status, 200)
  t.match(killed.body, {
    reason: 'drift',
    complete: true,
    killed: ['w1', 'w3'],
    already_ended: [],
    failed: [],
  })
  t.match((await app.get('/workers/w1')).body, { status: 'killed', cause: 'kill_all', reason: 'drift' })
  t.strictSame((await app.events()).slice(-3), [
    { event: 'container_killed', worker_id: 'w1', reason: 'drift' },
    { event: 'container_killed', worker_id: 'w3', reason: 'drift' },
    { event: 'kill_all', reason: 'drift', killed: 2, failed: 0 },
  ])
  t.match((await app.post('/kill-all')).body, { reason: 'unspecified', complete: true, killed: [] })
  t.equal((await app.launch()).status, 201, 'afterwards launches are accepted again')
})

t.test('kill-all: launches under way are 409, new ones 423, a second one joins', async (t) => {
  const app = await runningApp(t, { SIMULATED_LAUNCH_MS: 60_000, SIMULATED_KILL_MS: 1500 })
  const starting = app.launch()
  while ((await app.get('/workers/w1')).status !== 200) await turn()
  const first = app.post('/kill-all?reason=first')
  while ((await app.get('/ready')).status === 200) await turn()
  const second = app.post('/kill-all?reason=second')
  const locked = await app.launch({ worker_id: 'w2' })
  t.equal(locked.status, 423)
  t.equal(at(locked.body, 'code'), 'kill_all_in_progress')
  t.equal(locked.headers['retry-after'], undefined, 'it must not come back by itself')
  const ready = await app.get('/ready')
  t.match(
    [ready.status, ready.body],
    [503, { code: 'not_ready', reasons: [{ code: 'kill_all_in_progress' }] }],
  )
  t.equal((await app.get('/health')).status, 200)
  t.match([(await starting).status, (await starting).body], [409, { code: 'worker_killed' }])
  t.match((await first).body, { reason: 'first', killed: ['w1'] })
  t.strictSame((await second).body, (await first).body)
  const events = await app.events()
  t.equal(events.filter(({ event }) => event === 'kill_all').length, 1)
  t.match(await app.events('&event=launch_rejected&worker_id=w2'), [{ code: 'kill_all_in_progress' }])
})

t.test('kill-all: what is not confirmed dead is 504 with the report', async (t) => {
  const app = await runningApp(t, { SIMULATED_KILL_FAILURE_RATE: 1, KILL_TIMEOUT_MS: 40 })
  await app.launch()
  const failed = await app.post('/kill-all', { reason: 'all' })
  t.equal(failed.status, 504)
  t.match(failed.body, {
    code: 'kill_unconfirmed',
    report: {
      reason: 'all',
      complete: false,
      killed: [],
      failed: [{ worker_id: 'w1', code: String, detail: String }],
    },
  })
  t.equal(failed.headers['retry-after'], undefined)
  t.match((await app.get('/workers/w1')).body, { status: 'killing', cause: 'kill_all', finished_at: null })
  t.match(await app.events('&event=kill_all'), [{ killed: 0, failed: 1 }])
})

t.test('health counts who lives; ready tells of the end', async (t) => {
  const app = await runningApp(t)
  await app.launch()
  const health = await app.get('/health')
  t.match(health.body, {
    status: 'ok',
    version: /^\d+\.\d+\.\d+/,
    driver: 'memory',
    workers: { pending: 0, running: 1, killing: 0 },
  })
  t.strictSame((await app.get('/ready')).body, { ready: true })
  for (const path of [
    '/health',
    '/ready',
    '/workers',
    '/workers/w1',
    '/metrics',
    '/openapi.json',
    '/docs',
    '/events',
  ]) {
    const [got, head] = [await app.get(path), await app.send('HEAD', path)]
    t.strictSame(
      [head.status, head.headers['content-type'], head.text],
      [200, got.headers['content-type'], ''],
      path,
    )
  }
  app.app.orchestrator.drain()
  const draining = await app.get('/ready')
  t.match(
    [draining.status, draining.body],
    [503, { code: 'not_ready', reasons: [{ code: 'shutting_down' }] }],
  )
  t.equal((await app.send('HEAD', '/ready')).status, 503)
  const refused = await app.launch({ worker_id: 'w2' })
  t.match([refused.status, refused.body], [503, { code: 'shutting_down' }])
  t.equal((await app.delete('/workers/w1')).status, 200, 'a kill goes on')
  t.equal((await app.get('/health')).status, 200)
})

/** A metric's value; a label in any order. */
async function metric(app: RunningApp, name: string, ...labels: string[]): Promise<number | undefined> {
  const lines = (await app.get('/metrics')).text.split('\n')
  const line = lines.find((each) => {
    const [series = ''] = each.split(' ')
    return series.replace(/\{.*/, '') === name && labels.every((label) => series.includes(label))
  })
  return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ')))
}

t.test('metrics count what happened, with labels that nobody can multiply', async (t) => {
  const app = await runningApp(t)
  for (const n of [1, 2, 3]) await app.launch({ worker_id: `w${n}` })
  await app.launch({ worker_id: 'w1', signature: 'other' })
  await app.post('/workers/w1/enforce')
  await app.delete('/workers/w1')
  await app.launch({ worker_id: 'w2', signature: 'other' }, '?replace=true')
  t.equal(await metric(app, 'sandbox_workers', 'status="running"'), 2)
  await app.post('/kill-all')
  for (const path of ['/a', '/b', '/workers/x', '/workers/y', '/workers/%zz']) await app.get(path)
  const expected: [number, string, ...string[]][] = [
    [4, 'sandbox_launches_total'],
    [1, 'resource_enforced_total'],
    [1, 'sandbox_launches_rejected_total', 'code="worker_exists"'],
    [1, 'sandbox_kills_total', 'cause="kill"'],
    [1, 'sandbox_kills_total', 'cause="replaced"'],
    [2, 'sandbox_kills_total', 'cause="kill_all"'],
    [4, 'sandbox_kill_seconds_count'],
    [1, 'sandbox_kill_all_seconds_count'],
    [0, 'sandbox_workers', 'status="running"'],
    [0, 'sandbox_workers', 'status="pending"'],
    [0, 'sandbox_workers', 'status="killing"'],
    [4, 'http_request_seconds_count', 'method="POST"', 'route="/workers"', 'status="201"'],
    [1, 'http_request_seconds_count', 'method="POST"', 'route="/workers"', 'status="409"'],
    [1, 'http_request_seconds_count', 'method="DELETE"', 'route="/workers/:id"', 'status="200"'],
    [3, 'http_request_seconds_count', 'method="GET"', 'route="/workers/:id"', 'status="404"'],
    [2, 'http_request_seconds_count', 'method="GET"', 'route="none"', 'status="404"'],
  ]
  for (const [value, name, ...labels] of expected)
    t.equal(await metric(app, name, ...labels), value, `${name} ${labels}`)
  t.type(await metric(app, 'event_loop_delay_seconds', 'quantile="0.99"'), 'number')
  const { text, headers } = await app.get('/metrics')
  t.match(headers['content-type'], /^text\/plain; version=0\.0\.4/)
  t.notMatch(text, /w1|signed/)
  t.notMatch(text, /NaN|undefined/)
})

t.test('log: one line a request, and the lines of its events, under its id', async (t) => {
  const { lines, logger } = recordingLogger()
  const app = await runningApp(t, { SIMULATED_KILL_MS: 1 }, { logger })
  const about = (id: string) => lines.filter(({ request_id }) => request_id === id)
  const secret = { signature: 'SECRET-1', state_snapshot: { token: 'SECRET-2' } }
  const send = (id: string, method: 'GET' | 'POST' | 'DELETE', url: string, body?: object | string) =>
    app.send(method, url, {
      headers: { 'x-request-id': id, authorization: 'Bearer SECRET-3', 'content-type': 'application/json' },
      ...(body !== undefined && { body }),
    })
  const manifest = { ...secret, parent_id: null, depth: 0, issued_at: '2026-01-06T09:30:00Z' }
  const resources = { cpu_limit: 0.5, memory_limit_mb: 256 }
  await send('launch', 'POST', '/workers', { worker_id: 'w1', ...manifest, resources })
  await send('again', 'POST', '/workers', { worker_id: 'w1', ...manifest, resources })
  await send('exists', 'POST', '/workers', {
    worker_id: 'w1',
    ...manifest,
    resources,
    depth: 0,
    signature: 'SECRET-4',
  })
  await send('invalid', 'POST', '/workers', { worker_id: 'w1', ...manifest })
  await send('garbled', 'POST', '/workers', `{"signature":"SECRET-5"`)
  await send('enforce', 'POST', '/workers/w1/enforce')
  await send('kill', 'DELETE', '/workers/w1?reason=drift')
  await send('unknown', 'DELETE', '/workers/w9')
  await send('nothing', 'GET', '/nope?token=SECRET-6')
  await send('malformed', 'GET', '/workers/%zz')
  const request = (method: string, route: string | null, status: number) => ({
    msg: 'request',
    method,
    route,
    status,
    duration_ms: Number,
  })
  const expected: Record<string, object[]> = {
    launch: [{ event: 'container_launched', seq: 1, worker_id: 'w1' }, request('POST', '/workers', 201)],
    again: [request('POST', '/workers', 200)],
    exists: [{ event: 'launch_rejected', code: 'worker_exists' }, request('POST', '/workers', 409)],
    invalid: [request('POST', '/workers', 400)],
    garbled: [request('POST', '/workers', 400)],
    enforce: [{ event: 'resource_enforced', cpu: '0.5' }, request('POST', '/workers/:id/enforce', 200)],
    kill: [{ event: 'container_killed', reason: 'drift' }, request('DELETE', '/workers/:id', 200)],
    unknown: [{ event: 'container_kill_skipped' }, request('DELETE', '/workers/:id', 404)],
    nothing: [request('GET', null, 404)],
    malformed: [request('GET', '/workers/:id', 404)],
  }
  for (const [id, wanted] of Object.entries(expected)) {
    t.equal(about(id).length, wanted.length, id)
    t.match(about(id), wanted, id)
  }
  await send('all', 'POST', '/kill-all', { reason: 'x' })
  t.match(about('all'), [{ event: 'kill_all', killed: 0, failed: 0 }, request('POST', '/kill-all', 200)])
  t.notMatch(JSON.stringify(lines), /SECRET/)
})

t.test('log: what fails is told, and nothing that was signed', async (t) => {
  const { lines, logger } = recordingLogger()
  const driver = openMemoryDriver(NO_FAULTS)
  const app = await runningApp(t, {}, { logger, driver })
  driver.launch = async (request) => {
    throw Object.assign(new TypeError('the driver has a fault'), { request, manifest: request.manifest })
  }
  const refused = await app.launch({ signature: 'SECRET-1', state_snapshot: { a: 'SECRET-2' } })
  t.equal(refused.status, 502)
  t.notMatch(refused.text, /fault|SECRET/, 'the answer shows nothing of the fault')
  const errors = lines.filter(({ level }) => Number(level) >= 50)
  t.match(errors, [
    { code: 'launch_failed', request_id: refused.headers['x-request-id'], err: { message: /fault/ } },
  ])
  t.notMatch(JSON.stringify(lines), /SECRET/)

  driver.readLimits = async () => {
    throw new RangeError('SECRET-free fault')
  }
  const broken = await runningApp(
    t,
    {},
    { logger, driver: Object.assign(openMemoryDriver(), { readLimits: driver.readLimits }) },
  )
  await broken.launch()
  const failed = await broken.app.inject({ method: 'POST', url: '/workers/w1/enforce' })
  t.equal(failed.statusCode, 500)
  t.match(failed.json(), { code: 'internal_error', instance: '/workers/w1/enforce' })
  t.notMatch(failed.payload, /fault/)
  t.equal(failed.headers['content-type'], 'application/problem+json')
})

t.test('the document: JSON and YAML say the same, and name every operation', async (t) => {
  const app = await runningApp(t)
  const json = await app.get('/openapi.json')
  const yaml = await app.get('/openapi.yaml')
  t.strictSame(parse(yaml.text), json.body)
  t.match(json.body, { openapi: '3.1.0' })
  const operations = Object.entries(Object(at(json.body, 'paths'))).flatMap(([path, methods]) =>
    Object.entries(Object(methods)).map(
      ([method, operation]) => `${method} ${path} ${at(operation, 'operationId')}`,
    ),
  )
  t.strictSame(operations.sort(), [
    'delete /workers/{id} killWorker',
    'get /events listEvents',
    'get /health health',
    'get /metrics metrics',
    'get /ready ready',
    'get /workers listWorkers',
    'get /workers/{id} getWorker',
    'post /kill-all killAll',
    'post /workers launchWorker',
    'post /workers/{id}/enforce enforceResourceBounds',
  ])
  const schemas = Object.entries(Object(at(json.body, 'components', 'schemas')))
  const closed = schemas
    .filter(([, schema]) => at(schema, 'additionalProperties') === false)
    .map(([name]) => name)
  t.strictSame(closed.sort(), ['KillAllRequest', 'Manifest', 'NetworkPolicy', 'ResourceSpec'])
})

t.test('the pages: all from here, under a policy that says so', async (t) => {
  const app = await runningApp(t)
  const outside = /(?:src|href|url)\s*[=(:]\s*["']?\s*(?:https?:)?\/\//i
  const files = ['index.css', 'swagger-ui.css', 'swagger-ui-bundle.js', 'swagger-ui-standalone-preset.js']
  for (const path of [
    '/docs',
    '/docs/',
    ...files.map((file) => `/docs/static/${file}`),
    '/docs/static/swagger-initializer.js',
  ]) {
    const page = await app.get(path)
    t.equal(page.status, 200, path)
    const policy = String(page.headers['content-security-policy'])
    t.match(policy, "default-src 'none'")
    t.notMatch(policy, /https?:|\/\/|upgrade-insecure-requests|\w\.\w|unsafe|\*/, path)
    if (!path.endsWith('.js')) t.notMatch(page.text, outside, path)
  }
  const { text } = await app.get('/docs')
  const local = [...text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => path ?? '')
  t.ok(local.length >= 5)
  for (const path of local) t.equal((await app.get(path)).status, 200, path)
  const script = (await app.get('/docs/static/swagger-initializer.js')).text.replaceAll(/^\s*\/\/.*$/gm, '')
  t.notMatch(script, /https?:\/\//, 'but in a comment')
  const missing = await app.get('/docs/static/nope')
  t.match([missing.status, missing.body], [404, { code: 'route_not_found' }])
  const tag = String((await app.get('/docs/static/index.css')).headers['etag'])
  t.equal((await app.get('/docs/static/index.css', { headers: { 'if-none-match': tag } })).status, 304)
})

t.test('every answer carries the headers that hold for all', async (t) => {
  const app = await runningApp(t)
  await app.launch()
  for (const path of [
    '/health',
    '/workers/w1',
    '/nope',
    '/events?limit=0',
    '/metrics',
    '/openapi.yaml',
    '/docs',
  ]) {
    const { headers } = await app.get(path)
    t.match(
      headers,
      { 'x-content-type-options': 'nosniff', 'x-frame-options': 'DENY', 'cache-control': 'no-store' },
      path,
    )
  }
  t.equal(listAt((await app.get('/workers')).body, 'items').length, 1)
})

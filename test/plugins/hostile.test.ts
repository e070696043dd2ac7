import { gzipSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { type Answer, at, listAt, manifest, type RunningApp, runningApp, type Sent } from '../running-app.ts'

const JSON_TYPE = { 'content-type': 'application/json' }
const code = ({ body }: Answer) => at(body, 'code')
const pointers = ({ body }: Answer) =>
  listAt(body, 'errors')
    .map((mistake) => String(at(mistake, 'pointer')))
    .sort()

const launchText = (app: RunningApp, text: string | Buffer, headers = {}) =>
  app.post('/workers', text, { ...JSON_TYPE, ...headers })

async function refusesManifest(
  t: Test,
  app: RunningApp,
  text: string | Buffer,
  expected: string[],
  name = '',
) {
  const said = name || String(text).slice(0, 100)
  const refused = await launchText(app, text)
  t.equal(refused.status, 400, said)
  t.equal(code(refused), 'manifest_invalid', said)
  t.strictSame(pointers(refused), expected.sort(), said)
}

const without = (name: string) =>
  Object.fromEntries(Object.entries(manifest()).filter(([other]) => other !== name))

t.test('each member of a manifest: missing, null, of another type, out of range', async (t) => {
  const app = await runningApp(t)
  const refuses = (changes: object, ...expected: string[]) =>
    refusesManifest(
      t,
      app,
      JSON.stringify(manifest(changes)),
      expected,
      JSON.stringify(changes).slice(0, 100),
    )
  const resources = (changes: object) => ({ resources: { cpu_limit: 1, memory_limit_mb: 1, ...changes } })
  for (const name of Object.keys(manifest())) {
    await refusesManifest(t, app, JSON.stringify(without(name)), [`#/${name}`], `without ${name}`)
    for (const value of [null, [], true]) {
      if (name !== 'parent_id' || value !== null) await refuses({ [name]: value }, `#/${name}`)
    }
  }
  const badIds = ['', '.', '-a', '_a', 'a/b', 'a b', 'ä', 'a\n', 'a\0', 'None', 'a'.repeat(129), 5, {}, '..']
  for (const id of badIds) {
    await refuses({ worker_id: id }, '#/worker_id')
    await refuses({ parent_id: id, depth: 1 }, '#/parent_id')
  }
  await refuses({ parent_id: 'w1', depth: 1 }, '#/parent_id')
  await refuses({ parent_id: null, depth: 1 }, '#/depth')
  await refuses({ parent_id: 'p', depth: 0 }, '#/depth')
  for (const depth of [-1, 0.5, '0', 2 ** 53]) await refuses({ depth }, '#/depth')
  await refuses({ state_snapshot: 'x' }, '#/state_snapshot')
  await refuses({ signature: 1 }, '#/signature')
  for (const value of [0, -1, '1', null, [1]])
    await refuses(resources({ cpu_limit: value }), '#/resources/cpu_limit')
  for (const value of [0, -1, '1', null, 1.5, 2 ** 53, false]) {
    await refuses(resources({ memory_limit_mb: value }), '#/resources/memory_limit_mb')
  }
  for (const value of [null, [], 'none', false]) {
    await refuses(resources({ network_policy: value }), '#/resources/network_policy')
  }
  for (const name of ['allow_controller', 'allow_external']) {
    for (const value of [null, 'true', 1, []]) {
      await refuses(resources({ network_policy: { [name]: value } }), `#/resources/network_policy/${name}`)
    }
  }
  await refuses({ resources: {} }, '#/resources/cpu_limit', '#/resources/memory_limit_mb')
  t.equal((await app.launch({ worker_id: `a${'.'.repeat(127)}` })).status, 201, '128 characters')
  t.equal((await app.launch({ worker_id: 'none', parent_id: 'None.', depth: 2 ** 53 - 1 })).status, 201)
})

t.test('unknown members, by their own names', async (t) => {
  const app = await runningApp(t)
  const text = JSON.stringify(manifest())
  const insert = (member: string) => text.replace('{', `{${member},`)
  const names = [
    ['"extra":1', '#/extra'],
    ['"a/b~c":1', '#/a~1b~0c'],
    ['"ä %":1', '#/%C3%A4%20%25'],
    ['"":1', '#/'],
    ['"\\ud800":1', '#/%EF%BF%BD'],
    ['"__proto__":{"worker_id":"x"}', '#/__proto__'],
    ['"constructor":{"prototype":{}}', '#/constructor'],
    ['"toString":1', '#/toString'],
    ['"Worker_id":"w"', '#/Worker_id'],
  ]
  for (const [member = '', pointer = ''] of names) await refusesManifest(t, app, insert(member), [pointer])
  await refusesManifest(t, app, text.replace('"cpu_limit"', '"gpu":1,"cpu_limit"'), ['#/resources/gpu'])
  const policy = text.replace('"memory_limit_mb":256', '"memory_limit_mb":256,"network_policy":{"deny":true}')
  await refusesManifest(t, app, policy, ['#/resources/network_policy/deny'])
  const many = Object.fromEntries(Array.from({ length: 50_000 }, (_, n) => [`m${n}`, n]))
  const refused = await app.launch(many)
  t.equal(refused.status, 400)
  t.ok(pointers(refused).length <= 1001, 'not more than is of use')
})

t.test('repeated members, at any depth and however spelt', async (t) => {
  const app = await runningApp(t)
  const text = JSON.stringify(manifest())
  const cases: [string, string[]][] = [
    [text.replace('{', '{"worker_id":"w1",'), ['#/worker_id']],
    [text.replace('{', '{"worker\\u005fid":"w1",'), ['#/worker_id']],
    [text.replace('"cpu_limit"', '"cpu_limit":0.1,"cpu_limit"'), ['#/resources/cpu_limit']],
    [text.replace('"goal"', '"\\u0067oal":1,"goal"'), ['#/state_snapshot/goal']],
    [text.replace('"goal"', '"a":[{"b":[[],{"c":1,"\\u0063":2}]}],"goal"'), ['#/state_snapshot/a/0/b/1/c']],
    [text.replace('"goal"', '"__proto__":1,"__proto__":2,"goal"'), ['#/state_snapshot/__proto__']],
    [text.replace('"goal"', '"":1,"":1,"goal"'), ['#/state_snapshot/']],
    [text.replace('"goal"', '"a/b":{},"a/b":{},"goal"'), ['#/state_snapshot/a~1b']],
    [text.replace('"goal"', '"\\ud83d\\ude00":1,"😀":1,"goal"'), ['#/state_snapshot/%F0%9F%98%80']],
    [
      text.replace('"goal"', '"x":{"y":1,"y":2},"x":{"y":1,"y":2},"goal"'),
      ['#/state_snapshot/x', '#/state_snapshot/x/y'],
    ],
    [text.replace('"signature"', '"extra":1,"extra":2,"signature"'), ['#/extra']],
  ]
  for (const [body, expected] of cases) await refusesManifest(t, app, body, expected)
  const same = { a: { k: 1 }, b: { k: 1 }, c: [{ k: 1 }, { k: 1 }], 'k":': 'k":', k: '"k":1,"k":2' }
  t.equal((await app.launch({ state_snapshot: same })).status, 201, 'the same name in other objects is none')
  const hostile = `{"a":${'{"x":1,"x":1},"a":'.repeat(20_000)}1}`
  t.ok(pointers(await launchText(app, hostile)).length <= 1001)
})

t.test('all mistakes of one body in one Problem', async (t) => {
  const app = await runningApp(t)
  const body = `{"worker_id":"None","depth":512.0,"parent_id":5,"state_snapshot":{"a":1,"a":2},"issued_at":"now",
    "resources":{"cpu_limit":0,"memory_limit_mb":5e2,"gpu":1,"network_policy":{"allow_external":"yes"}},"extra":1}`
  await refusesManifest(t, app, body, [
    '#/worker_id',
    '#/depth',
    '#/parent_id',
    '#/state_snapshot/a',
    '#/issued_at',
    '#/resources/cpu_limit',
    '#/resources/memory_limit_mb',
    '#/resources/gpu',
    '#/resources/network_policy/allow_external',
    '#/extra',
    '#/signature',
  ])
  t.equal((await app.get('/workers/None')).status, 404)
  t.strictSame(await app.events(), [], 'nothing is half done')
})

t.test('numbers', async (t) => {
  const app = await runningApp(t)
  let n = 0
  const spelt = (place: 'cpu_limit' | 'memory_limit_mb' | 'depth', number: string) => {
    n++
    const parent = place === 'depth' && number !== '0' ? '"p"' : 'null'
    const [cpu, memory, depth] = [
      place === 'cpu_limit' ? number : '1',
      place === 'memory_limit_mb' ? number : '1',
      place === 'depth' ? number : '0',
    ]
    return `{"worker_id":"w${n}","parent_id":${parent},"depth":${depth},"state_snapshot":{},"issued_at":"2026-01-06T09:30:00Z","resources":{"cpu_limit":${cpu},"memory_limit_mb":${memory}},"signature":"s"}`
  }
  for (const place of ['memory_limit_mb', 'depth'] as const) {
    const pointer = place === 'depth' ? '#/depth' : '#/resources/memory_limit_mb'
    const bad = [
      '512.0',
      '5e2',
      '5E2',
      '1e0',
      '-1',
      '9007199254740992',
      '9007199254740993',
      '1e400',
      '1e-400',
      '0.5',
    ]
    for (const number of bad)
      await refusesManifest(t, app, spelt(place, number), [pointer], `${place} ${number}`)
    for (const number of ['1', '9007199254740991']) {
      t.equal((await launchText(app, spelt(place, number))).status, 201, number)
    }
  }
  await refusesManifest(t, app, spelt('memory_limit_mb', '-0'), ['#/resources/memory_limit_mb'])
  await refusesManifest(t, app, spelt('depth', '-0').replace('"p"', 'null'), ['#/depth'])
  for (const number of ['0', '0.0', '-0', '-1', '1e400', '1e-400', `0.${'1'.repeat(100)}`]) {
    await refusesManifest(t, app, spelt('cpu_limit', number), ['#/resources/cpu_limit'], number)
  }
  for (const number of ['512.0', '5e2', '1e-300', '1.7976931348623157e308', '0.1']) {
    const launched = await launchText(app, spelt('cpu_limit', number))
    t.equal(launched.status, 201, number)
    t.ok(
      launched.text.includes(`"resources":{"cpu_limit":${number},"memory_limit_mb":1,"network_policy"`),
      number,
    )
  }
})

t.test('how deep a snapshot may be', async (t) => {
  const app = await runningApp(t)
  const nested = (levels: number, open = '{"a":', close = '}', inner = '{}') => {
    const snapshot = open.repeat(levels - 1) + inner + close.repeat(levels - 1)
    return JSON.stringify(manifest({ state_snapshot: 0 })).replace(
      '"state_snapshot":0',
      `"state_snapshot":${snapshot}`,
    )
  }
  t.equal((await launchText(app, nested(100))).status, 201)
  const mixed = nested(50, '{"a":[', ']}', '{}')
  t.equal((await launchText(app, mixed.replace('"w1"', '"w2"'))).status, 201, '99 levels of both kinds')
  for (const levels of [101, 1000, 50_000]) {
    await refusesManifest(t, app, nested(levels), ['#/state_snapshot'], `${levels} levels`)
  }
  await refusesManifest(t, app, nested(50_000, '{"a":[', ']}'), ['#/state_snapshot'], 'lists too')
  const deep = '['.repeat(50_000) + ']'.repeat(50_000)
  await refusesManifest(t, app, deep, ['#'], 'no object at all')
  await refusesManifest(t, app, JSON.stringify(manifest()).replace('"signed"', deep), ['#/signature'])
  await refusesManifest(t, app, JSON.stringify(manifest()).replace('{', `{"x":${deep},`), ['#/x'])
  const killed = await app.post('/kill-all', `{"reason":${deep}}`)
  t.equal(killed.status, 400)
})

t.test('when a manifest was issued', async (t) => {
  const app = await runningApp(t)
  const good = [
    '2026-01-06T09:30:00Z',
    '2026-01-06T09:30:00.123456+00:00',
    '2026-01-06T09:30:00.123456789012345678-23:59',
    '2024-02-29T00:00:00Z',
    '2000-02-29T23:59:59+14:00',
    '0001-01-01T00:00:00Z',
    '9999-12-31T23:59:59.9-00:00',
  ]
  const bad = [
    ...['2023-02-29T00:00:00Z', '1900-02-29T00:00:00Z', '2026-02-30T00:00:00Z', '2026-04-31T00:00:00Z'],
    ...['2026-00-01T00:00:00Z', '2026-13-01T00:00:00Z', '2026-01-00T00:00:00Z', '2026-01-32T00:00:00Z'],
    ...['2026-01-06T24:00:00Z', '2026-01-06T23:60:00Z', '2026-12-31T23:59:60Z', '2016-12-31T23:59:60Z'],
    ...['2026-01-06t09:30:00Z', '2026-01-06T09:30:00z', '2026-01-06 09:30:00Z', '2026-01-06T09:30:00'],
    ...[
      '2026-01-06T09:30Z',
      '2026-01-06',
      '2026-01-06T09:30:00.Z',
      '2026-01-06T09:30:00,5Z',
      '20260106T093000Z',
    ],
    ...[
      '2026-01-06T09:30:00+00',
      '2026-01-06T09:30:00+0000',
      '2026-01-06T09:30:00+24:00',
      '2026-01-06T09:30:00+00:60',
    ],
    ...['2026-01-06T09:30:00Z\n', ' 2026-01-06T09:30:00Z', '+2026-01-06T09:30:00Z', '12026-01-06T09:30:00Z'],
    ...['٢٠٢٦-01-06T09:30:00Z', '', 'now', `2026-01-06T09:30:00.${'1'.repeat(50_000)}`],
  ]
  for (const [n, issued_at] of good.entries()) {
    t.equal((await app.launch({ worker_id: `w${n}`, issued_at })).status, 201, issued_at)
  }
  for (const issued_at of bad) {
    await refusesManifest(
      t,
      app,
      JSON.stringify(manifest({ issued_at })),
      ['#/issued_at'],
      issued_at.slice(0, 40),
    )
  }
})

t.test('bodies that are no manifest', async (t) => {
  const app = await runningApp(t, { BODY_LIMIT_BYTES: 4096 })
  const text = JSON.stringify(manifest())
  const wrong: (string | Buffer)[] = [
    ...[
      'null',
      '1',
      '"x"',
      '[]',
      'true',
      '{',
      '{"a":}',
      '{"a":1,}',
      "{'a':1}",
      '{"a":01}',
      '{"a":NaN}',
      '{"a":+1}',
    ],
    ...[
      '{"a":"\u0001"}',
      '{} {}',
      `\ufeff${text}`,
      text.slice(0, -1),
      text.slice(0, text.length / 2),
      ' ',
      '\n',
    ],
    Buffer.concat([Buffer.from(text.slice(0, -2)), Buffer.from([0xff]), Buffer.from('"}')]),
    Buffer.from([0xc0, 0xaf]),
    Buffer.from(text, 'utf16le'),
    Buffer.from([0xed, 0xa0, 0x80]),
  ]
  for (const body of wrong) await refusesManifest(t, app, body, ['#'], JSON.stringify(body.toString()))
  await refusesManifest(
    t,
    app,
    '{}',
    Object.keys(manifest()).map((name) => `#/${name}`),
  )
  for (const sent of [{}, { headers: JSON_TYPE }, { headers: { 'content-type': 'garbage' } }, { body: '' }]) {
    const refused = await app.send('POST', '/workers', sent)
    t.equal(refused.status, 400)
    t.strictSame(pointers(refused), ['#'])
  }
  const padded = (length: number) => text + ' '.repeat(length - text.length)
  t.equal((await launchText(app, padded(4096))).status, 201, 'exactly the limit')
  for (const length of [4097, 2 * 1024 * 1024]) {
    const refused = await launchText(app, padded(length))
    t.equal(refused.status, 413)
    t.equal(code(refused), 'body_too_large')
  }
})

t.test('content types and codings', async (t) => {
  const app = await runningApp(t)
  const text = JSON.stringify(manifest())
  const json = [
    'application/json',
    'Application/JSON',
    'application/json; charset=utf-8',
    'application/json;charset=x;y',
  ]
  for (const type of [...json, ' application/json ', 'application/json;']) {
    t.ok((await launchText(app, text, { 'content-type': type })).status < 300, type)
  }
  const others = [
    'text/plain',
    'text/json',
    'application/jsonx',
    'application/problem+json',
    '*/*',
    'garbage',
    '/',
    '',
  ]
  others.push(
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/x-any',
    ';',
    'application/x-none',
  )
  for (const type of [
    ...others,
    'application/x-ignored',
    'application/json, text/plain',
    'application/ json',
  ]) {
    const refused = await launchText(app, text, { 'content-type': type })
    t.equal(refused.status, 415, type)
    t.equal(code(refused), 'unsupported_media_type')
  }
  const untyped = await app.send('POST', '/workers', { body: text })
  t.equal(untyped.status, 415, 'no type')
  const zipped = await launchText(app, gzipSync(text), { 'content-encoding': 'gzip' })
  t.equal(zipped.status, 415)
  t.equal(code(zipped), 'unsupported_media_type')
  t.equal((await launchText(app, text, { 'content-encoding': 'identity' })).status, 200)
  t.equal((await launchText(app, text, { 'content-encoding': 'Identity' })).status, 200)
  t.equal((await launchText(app, '', { 'content-encoding': 'gzip' })).status, 400, 'an empty body is none')
  t.equal((await app.events()).length, 1)
})

t.test(
  'a kill-all reads its body as JSON whatever its type, and kills nothing for one that is wrong',
  async (t) => {
    const app = await runningApp(t)
    const form = { 'content-type': 'application/x-www-form-urlencoded' }
    await app.launch()
    const wrong: (string | Buffer)[] = [
      ...[
        'reason=drift',
        '{"reason":1}',
        '{"reason":null}',
        '{"reasons":"x"}',
        '[]',
        'null',
        '"drift"',
        '{"reason":"a"',
      ],
      ...[
        '{"reason":"a","reason":"b"}',
        '{"reason":"a","\\u0072eason":"b"}',
        ' ',
        '{"__proto__":1}',
        '{"reason":"a"}x',
      ],
      Buffer.from([0xff]),
      gzipSync('{"reason":"drift"}'),
    ]
    for (const headers of [form, JSON_TYPE, { 'content-type': 'garbage' }, {}]) {
      for (const body of wrong) {
        const refused = await app.send('POST', '/kill-all', { headers, body })
        t.equal(refused.status, 400, String(body))
        t.equal(code(refused), 'request_invalid')
        t.match(at(refused.body, 'detail'), `curl -X POST localhost:3000/kill-all -d '{"reason":"drift"}'`)
      }
    }
    t.strictSame(pointers(await app.post('/kill-all', '{"reason":1,"x":2}')), ['#/reason', '#/x'])
    const zipped = { headers: { 'content-encoding': 'gzip' }, body: gzipSync('{}') }
    t.equal((await app.send('POST', '/kill-all', zipped)).status, 400)
    for (const query of ['reason=a&reason=b', 'x=1', 'reasons=x', 'cascade=true']) {
      t.equal((await app.post(`/kill-all?${query}`)).status, 400, query)
    }
    t.equal(at((await app.get('/workers/w1')).body, 'status'), 'running')
    t.equal((await app.events()).length, 1)

    const right: [Sent, string, string][] = [
      [{ headers: form, body: '{"reason":"drift"}' }, '', 'drift'],
      [{ headers: { 'content-type': 'garbage' }, body: '{"reason":"drift"}' }, '', 'drift'],
      [{ body: '{"reason":"body"}' }, '?reason=query', 'body'],
      [{ body: '{"reason":""}' }, '?reason=query', 'unspecified'],
      [{ body: '{}' }, '?reason=query', 'query'],
      [{ body: '' }, '?reason=query', 'query'],
      [{ headers: JSON_TYPE }, '?reason=', 'unspecified'],
      [{ headers: { 'content-type': 'garbage' } }, '', 'unspecified'],
      [{ headers: { 'content-encoding': 'gzip' } }, '', 'unspecified'],
      [{ body: `{"reason":"${'x'.repeat(100_000)}"}` }, '', 'x'.repeat(256)],
    ]
    for (const [sent, query, reason] of right) {
      const killed = await app.send('POST', `/kill-all${query}`, sent)
      t.equal(killed.status, 200)
      t.equal(at(killed.body, 'reason'), reason)
    }
  },
)

t.test('a kill is refused for no body, and for no text', async (t) => {
  const app = await runningApp(t)
  const bodies: Sent[] = [
    { body: '{"reason":' },
    { body: 'x'.repeat(3 * 1024 * 1024), headers: { 'content-type': 'text/plain' } },
    { body: Buffer.from([0xff]), headers: { 'content-type': 'garbage', 'content-encoding': 'br' } },
    { headers: JSON_TYPE },
  ]
  for (const sent of bodies) {
    await app.launch()
    t.strictSame(at((await app.delete('/workers/w1', sent)).body, 'killed'), ['w1'])
  }
  const emoji = encodeURIComponent('😀'.repeat(300))
  const reasons: [string, string][] = [
    ['', 'unspecified'],
    ['%20', ' '],
    ['%20%09%0A', '   '],
    ['a%00b%1Fc%7Fd%C2%85e', 'a b c d e'],
    [emoji, '😀'.repeat(256)],
    ['x'.repeat(257), 'x'.repeat(256)],
    ['%ED%A0%80', '\ufffd\ufffd\ufffd'],
    ['%zz%', '%zz%'],
    ['%E0%A4%A', '\ufffdA'.replace('A', '%A')],
    ['a+b', 'a b'],
    ['%22%5C%3C%27', '"\\<\''],
  ]
  for (const [query, reason] of reasons) {
    await app.launch()
    const killed = await app.delete(`/workers/w1?reason=${query}`)
    t.equal(killed.status, 200, query)
    t.equal(at(killed.body, 'reason'), reason, query)
    t.equal(at((await app.get('/workers/w1')).body, 'reason'), reason)
    const all = await app.post('/kill-all', { reason: query && decodeLoosely(query) })
    t.equal(at(all.body, 'reason'), reason, query)
  }
  await app.launch()
  t.equal((await app.post('/kill-all', '{"reason":"\\ud800"}')).status, 200, 'a lone surrogate')
  t.equal(at((await app.get('/workers/w1')).body, 'reason'), '\ufffd')
  await app.launch()
  const bad = [
    'reason=a&reason=b',
    'cascade=',
    'cascade=1',
    'cascade=TRUE',
    'cascade=true&cascade=true',
    'force=1',
  ]
  for (const query of bad) {
    const refused = await app.delete(`/workers/w1?${query}`)
    t.equal(refused.status, 400, query)
    t.equal(code(refused), 'request_invalid')
  }
  t.equal(at((await app.get('/workers/w1')).body, 'status'), 'running')
})

/** As a query is read. */
const decodeLoosely = (query: string) => new URLSearchParams(`x=${query}`).get('x') ?? ''

t.test('queries of the other routes', async (t) => {
  const app = await runningApp(t)
  for (const query of [
    'replace=',
    'replace=1',
    'replace=True',
    'replace=true&replace=true',
    'x=1',
    'replace',
  ]) {
    const refused = await app.launch({}, `?${query}`)
    t.equal(refused.status, 400, query)
    t.equal(code(refused), 'request_invalid')
  }
  const numbers = ['-1', '1.0', '1e2', '', ' 1', '0x1', 'abc', '9007199254740992']
  const bad = [...numbers.map((number) => `after=${number}`), ...numbers.map((number) => `limit=${number}`)]
  bad.push(
    'limit=0',
    'limit=1001',
    'worker_id=',
    'event=',
    'worker_id=a&worker_id=b',
    'event=a&event=b',
    'x=1',
  )
  for (const query of bad) {
    for (const headers of [{}, { accept: 'text/event-stream' }]) {
      const refused = await app.get(`/events?${query}`, { headers })
      t.equal(refused.status, 400, query)
      t.equal(code(refused), 'request_invalid')
    }
  }
  await app.launch()
  for (const path of ['/workers/w1', '/health', '/ready', '/metrics']) {
    t.equal((await app.get(`${path}?x=1`)).status, 400, path)
    t.equal((await app.get(`${path}?`)).status, 200, path)
  }
})

t.test('ids in paths are decoded once; what cannot be an id is 404', async (t) => {
  const app = await runningApp(t)
  const id = `a.-_${'b'.repeat(124)}`
  await app.launch({ worker_id: id })
  await app.launch({ worker_id: 'w.1' })
  const found = [id, id.replace('a', '%61'), id.replace('.', '%2E'), id.replaceAll('b', '%62')]
  for (const path of found) t.equal((await app.get(`/workers/${path}`)).status, 200, path.slice(0, 60))
  t.equal((await app.get('/workers/w%252E1')).status, 404)
  const impossible = [
    ...[
      `${id}b`,
      'None',
      'a%2fb',
      'a%2Fb',
      '..%2f..',
      '%2e%2e%2f',
      '%00',
      'a%00',
      'a%0a',
      '%20',
      'a%20',
      '%C3%A4',
      'ä',
    ],
    ...[
      '😀',
      '%zz',
      '%',
      '%E0%A4%A',
      '%FF',
      'a%',
      '%25',
      '%2561',
      '*',
      ':id',
      '{id}',
      '-a',
      '_',
      '.a',
      'a;b',
      '~',
      '__proto__',
    ],
    ...['x'.repeat(10_000), '%41'.repeat(3000)],
  ]
  for (const path of impossible) {
    for (const [method, suffix] of [
      ['GET', ''],
      ['HEAD', ''],
      ['DELETE', '?reason=x'],
      ['POST', '/enforce'],
    ] as const) {
      const refused = await app.send(method, `/workers/${path}${suffix}`)
      t.equal(refused.status, 404, `${method} ${path.slice(0, 40)}`)
      if (method !== 'HEAD') t.equal(code(refused), 'worker_not_found', path.slice(0, 40))
    }
  }
  t.equal((await app.events()).length, 2, 'what cannot be an id is no kill that was skipped')
  for (const path of [
    '/workers/',
    '/workers//',
    '//workers',
    '/workers/w.1/',
    '/Workers',
    '/workers/w.1/x',
    '/',
    '/%',
  ]) {
    t.equal((await app.get(path)).status, 404, path)
  }
})

t.test('404 and 405 of a route go before everything else', async (t) => {
  const app = await runningApp(t)
  await app.launch()
  const bodies: Sent[] = [
    {},
    { body: 'x', headers: { 'content-type': 'text/plain' } },
    { body: 'x', headers: { 'content-type': 'garbage' } },
    { body: '{' },
    { body: 'x'.repeat(2 * 1024 * 1024), headers: JSON_TYPE },
    { body: 'x', headers: { 'content-encoding': 'gzip', ...JSON_TYPE } },
  ]
  const wrong = [
    ['POST', '/nope', 404, undefined],
    ['PUT', '/workers', 405, 'GET, HEAD, POST'],
    ['DELETE', '/workers?x=1', 405, 'GET, HEAD, POST'],
    ['PATCH', '/workers/w1', 405, 'GET, HEAD, DELETE'],
    ['POST', '/workers/w1', 405, 'GET, HEAD, DELETE'],
    ['DELETE', '/workers/w1/enforce', 405, 'POST'],
    ['DELETE', '/kill-all', 405, 'POST'],
    ['POST', '/events', 405, 'GET, HEAD'],
    ['POST', '/health', 405, 'GET, HEAD'],
    ['OPTIONS', '/ready', 405, 'GET, HEAD'],
    ['POST', '/metrics', 405, 'GET, HEAD'],
    ['DELETE', '/openapi.json', 405, 'GET, HEAD'],
    ['POST', '/docs', 405, 'GET, HEAD'],
  ] as const
  for (const [method, path, status, allow] of wrong) {
    for (const sent of bodies) {
      const refused = await app.send(method, path, sent)
      t.equal(refused.status, status, `${method} ${path}`)
      t.equal(code(refused), status === 404 ? 'route_not_found' : 'method_not_allowed')
      t.equal(refused.headers['allow'], allow)
    }
  }
  const gets = await Promise.all(['/kill-all', '/workers/w1/enforce'].map((path) => app.get(path)))
  t.strictSame(
    gets.map(({ status, headers }) => [status, headers['allow']]),
    [
      [405, 'POST'],
      [405, 'POST'],
    ],
  )
})

t.test('the order of refusals of a launch', async (t) => {
  const app = await runningApp(t, { MAX_WORKERS: 1, SIMULATED_KILL_MS: 1500 })
  await app.launch()
  const plain = await app.send('POST', '/workers?x=1', {
    body: '{',
    headers: { 'content-type': 'text/plain' },
  })
  t.equal(plain.status, 415)
  const all = app.post('/kill-all')
  while ((await app.get('/ready')).status === 200) await new Promise(setImmediate)
  while (at((await app.get('/workers/w1')).body, 'status') !== 'killing') await new Promise(setImmediate)
  t.equal((await launchText(app, '{')).status, 400, 'a wrong body before the kill switch')
  const locked = await app.launch({ worker_id: 'w2' })
  t.equal(locked.status, 423, 'the kill switch before capacity')
  t.equal(code(locked), 'kill_all_in_progress')
  t.equal(locked.headers['retry-after'], undefined)
  t.equal((await app.launch({ signature: 'other' })).status, 423, 'and before 409')
  t.match((await app.get('/ready')).body, { code: 'not_ready', reasons: [{ code: 'kill_all_in_progress' }] })
  t.equal((await all).status, 200)
  t.equal((await app.launch({ worker_id: 'w2' })).status, 201)
})

t.test('Problems have the shape of RFC 9457, and a hostile path stays a URI reference', async (t) => {
  const app = await runningApp(t)
  const refused = await app.get('/workers/nobody')
  t.strictSame(refused.body, {
    type: 'urn:sandbox-orchestrator:problem:worker_not_found',
    title: 'No such worker',
    status: 404,
    detail: 'worker nobody is not known',
    instance: '/workers/nobody',
    code: 'worker_not_found',
  })
  t.equal(refused.headers['content-type'], 'application/problem+json')
  for (const path of ['/a"b<c>', '/%zz', '/ä', '/[x]', '/a|b^c`d{e}', '/%', '/a?b#c']) {
    const { body } = await app.get(path)
    const instance = String(at(body, 'instance'))
    t.match(instance, /^\/[!#-;=?-[\]_a-z~%]*$/i, path)
    t.ok(URL.canParse(instance, 'http://host'), path)
  }
})

t.test("the caller's request id, where it is sane", async (t) => {
  const app = await runningApp(t)
  const sane = ['abc', 'A-1_2.3:4/5+6=7@8', 'x'.repeat(128)]
  const insane = ['', 'a b', 'x'.repeat(129), 'ä', 'a,b', 'a"b', '<x>', 'a;b']
  for (const path of ['/health', '/nope', '/workers/%zz', '/docs', '/events?limit=0']) {
    for (const id of sane) {
      t.equal((await app.get(path, { headers: { 'x-request-id': id } })).headers['x-request-id'], id)
    }
    const given = new Set<unknown>()
    for (const id of insane) {
      given.add((await app.get(path, { headers: { 'x-request-id': id } })).headers['x-request-id'])
    }
    t.equal(given.size, insane.length)
    for (const id of insane) t.notOk(given.has(id))
  }
})

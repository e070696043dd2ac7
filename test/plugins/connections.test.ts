import { once } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import t, { type Test } from 'tap'
import {
  type Answer,
  at,
  generalTroubles,
  manifest,
  RawConnection,
  type RunningApp,
  recordingLogger,
  runningApp,
} from '../running-app.ts'

const code = (answer: Answer | undefined) => at(answer?.body, 'code')
const HOST = 'host: x\r\n'
const close = 'connection: close\r\n'

/** Says something on a connection of its own, and returns the answers that came before it was closed. */
async function told(t: Test, port: number, ...words: (string | Buffer)[]): Promise<Answer[]> {
  const connection = new RawConnection(t, port)
  for (const each of words) connection.say(each)
  await connection.closed()
  const answers = connection.answers()
  for (const answer of answers) t.strictSame(generalTroubles('GET', answer), [], answer.text.slice(0, 300))
  return answers
}

/** Sockets get their turn between two looks. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await setImmediate()
}

async function stillAnswers(t: Test, app: RunningApp, port: number): Promise<void> {
  const [answer] = await told(t, port, `GET /health HTTP/1.1\r\n${HOST}${close}\r\n`)
  t.equal(answer?.status, 200, 'it still answers')
  t.equal((await app.get('/health')).status, 200)
}

t.test('what is no request is refused with a Problem, and the process goes on', async (t) => {
  const app = await runningApp(t)
  const port = await app.listen()
  const longest = 16 * 1024
  const request = (line: string, headers = '') => `${line} HTTP/1.1\r\n${HOST}${headers}\r\n`
  const cases: [string, string | Buffer, number, string][] = [
    ['garbage', 'garbage\r\n\r\n', 400, 'request_invalid'],
    ['binary garbage', Buffer.from([0, 1, 2, 255, 13, 10, 13, 10]), 400, 'request_invalid'],
    ['TLS', Buffer.from('160301020001', 'hex'), 400, 'request_invalid'],
    ['an unknown method', request('KILL /workers/w1'), 400, 'request_invalid'],
    ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400, 'request_invalid'],
    ['another version', 'GET /health HTTP/9.9\r\n\r\n', 400, 'request_invalid'],
    ['a bad header', request('GET /health', 'a b: c\r\n'), 400, 'request_invalid'],
    ['a NUL in a header', request('GET /health', 'a: \0\r\n'), 400, 'request_invalid'],
    ['a bad length', request('POST /workers', 'content-length: x\r\n'), 400, 'request_invalid'],
    [
      'two lengths',
      request('POST /workers', 'content-length: 1\r\ncontent-length: 2\r\n'),
      400,
      'request_invalid',
    ],
    [
      'a length and chunks',
      request('POST /kill-all', 'content-length: 5\r\ntransfer-encoding: chunked\r\n'),
      400,
      'request_invalid',
    ],
    ['long headers', request('GET /health', `a: ${'x'.repeat(longest)}\r\n`), 431, 'headers_too_large'],
    ['many headers', request('GET /health', 'a: xxxxx\r\n'.repeat(4000)), 431, 'headers_too_large'],
    ['a long URL', request(`GET /${'x'.repeat(longest)}`), 414, 'uri_too_long'],
    ['a long query', request(`DELETE /workers/w1?reason=${'x'.repeat(longest)}`), 414, 'uri_too_long'],
    ['an expectation', request('GET /health', `expect: miracles\r\n`), 417, 'expectation_failed'],
    ['a tunnel', 'CONNECT example.org:443 HTTP/1.1\r\n\r\n', 405, 'method_not_allowed'],
  ]
  for (const [name, text, status, expected] of cases) {
    const answers = await told(t, port, text)
    t.equal(answers.length, 1, name)
    t.equal(answers[0]?.status, status, name)
    t.equal(code(answers[0]), expected, name)
  }
  await stillAnswers(t, app, port)
})

t.test('requests that are odd', async (t) => {
  const app = await runningApp(t)
  const port = await app.listen()
  const cases: [string, string, number][] = [
    ['no host', `GET /health HTTP/1.1\r\n${close}\r\n`, 200],
    ['HTTP/1.0', 'GET /health HTTP/1.0\r\n\r\n', 200],
    ['a whole URL', `GET http://other/health HTTP/1.1\r\n${HOST}${close}\r\n`, 200],
    [
      'an upgrade',
      `GET /health HTTP/1.1\r\n${HOST}connection: upgrade, close\r\nupgrade: websocket\r\n\r\n`,
      200,
    ],
    ['a method of others', `PROPFIND /workers HTTP/1.1\r\n${HOST}${close}\r\n`, 405],
    ['a trace', `TRACE /health HTTP/1.1\r\n${HOST}${close}\r\n`, 405],
    ['all of it', `OPTIONS * HTTP/1.1\r\n${HOST}${close}\r\n`, 404],
    ['dots', `GET /workers/.. HTTP/1.1\r\n${HOST}${close}\r\n`, 404],
    ['a path out of the pages', `GET /docs/static/../../package.json HTTP/1.1\r\n${HOST}${close}\r\n`, 400],
    ['the same, encoded', `GET /docs/static/..%2f..%2fpackage.json HTTP/1.1\r\n${HOST}${close}\r\n`, 404],
    ['raw bytes in a path', `GET /workers/\xff\xfe HTTP/1.1\r\n${HOST}${close}\r\n`, 400],
    ['a fragment', `GET /health#x HTTP/1.1\r\n${HOST}${close}\r\n`, 400],
    ['a URL of 9 KiB', `GET /workers/${'x'.repeat(9 * 1024)} HTTP/1.1\r\n${HOST}${close}\r\n`, 404],
    ['a length with an unknown route', `POST /x HTTP/1.1\r\n${HOST}${close}content-length: 1\r\n\r\nx`, 404],
    [
      'an empty body in chunks',
      `POST /kill-all HTTP/1.1\r\n${HOST}${close}transfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
      200,
    ],
    [
      'the same as a manifest of no type',
      `POST /workers HTTP/1.1\r\n${HOST}${close}content-type: garbage\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
      400,
    ],
    [
      'the same as JSON',
      `POST /workers HTTP/1.1\r\n${HOST}${close}content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
      400,
    ],
    [
      'a body for nobody',
      `POST /workers/w1/enforce HTTP/1.1\r\n${HOST}${close}transfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
      404,
    ],
  ]
  for (const [name, text, status] of cases) {
    const [answer] = await told(t, port, Buffer.from(text, 'latin1'))
    t.equal(answer?.status, status, name)
  }
  t.match(
    (
      await told(
        t,
        port,
        `POST /workers HTTP/1.1\r\n${HOST}${close}content-type: garbage\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
      )
    )[0]?.body,
    { code: 'manifest_invalid' },
    'an empty body is no body, whatever its type',
  )
  await stillAnswers(t, app, port)
})

t.test('who is refused on the connection is told under its own request id', async (t) => {
  const app = await runningApp(t, { REQUEST_TIMEOUT_MS: 100 })
  const port = await app.listen()
  const id = 'x-request-id: mine\r\n'
  const requests = [
    `GET /health HTTP/1.1\r\n${HOST}${id}expect: x\r\n\r\n`,
    `CONNECT a:1 HTTP/1.1\r\n${id}\r\n`,
    `POST /workers HTTP/1.1\r\n${HOST}${id}content-type: application/json\r\ncontent-length: 9\r\n\r\n{`,
    `POST /workers HTTP/1.1\r\n${HOST}${id}content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n`,
  ]
  for (const request of requests) {
    const [answer] = await told(t, port, request)
    t.equal(answer?.headers['x-request-id'], 'mine', `${answer?.status}`)
  }
})

t.test('what arrives too slowly is 408, and its connection is let go', async (t) => {
  const app = await runningApp(t, { REQUEST_TIMEOUT_MS: 100 })
  const port = await app.listen()
  await app.launch()
  const slow: [string, string][] = [
    ['headers', 'GET /health HTTP/1.1\r\nhost'],
    [
      'a body',
      `POST /workers HTTP/1.1\r\n${HOST}content-type: application/json\r\ncontent-length: 100\r\n\r\n{"a`,
    ],
    ['a body in chunks', `POST /kill-all HTTP/1.1\r\n${HOST}transfer-encoding: chunked\r\n\r\n3\r\n{"r`],
    ['a body where none is taken', `POST /workers/w1/enforce HTTP/1.1\r\n${HOST}content-length: 3\r\n\r\n`],
  ]
  for (const [name, text] of slow) {
    const answers = await told(t, port, text)
    t.equal(answers.length, 1, name)
    t.equal(answers[0]?.status, 408, name)
    t.equal(code(answers[0]), 'request_timeout', name)
  }
  t.equal(at((await app.get('/workers/w1')).body, 'status'), 'running')

  const patient = new RawConnection(t, port)
  patient.socket.allowHalfOpen = true
  patient.say('GET /health HTTP/1.1\r\nhost')
  await once(patient.socket, 'end')
  const connections = () =>
    new Promise<number>((resolve, reject) => {
      app.app.server.getConnections((error, count) => (error ? reject(error) : resolve(count)))
    })
  while ((await connections()) > 0) await setImmediate()
  t.pass('also where its client never closes')
  await stillAnswers(t, app, port)
})

t.test('a kill waits for no body: it is carried out while one is still coming', async (t) => {
  const app = await runningApp(t)
  const port = await app.listen()
  for (const length of ['content-length: 1000', 'transfer-encoding: chunked']) {
    await app.launch()
    const connection = new RawConnection(t, port)
    connection.say(`DELETE /workers/w1 HTTP/1.1\r\n${HOST}${length}\r\ncontent-type: x\r\n\r\n`)
    await connection.until('"killed":["w1"]')
    connection.socket.destroy()
  }
  await stillAnswers(t, app, port)
})

t.test('a body that breaks off does nothing, and one in odd pieces is whole', async (t) => {
  const app = await runningApp(t)
  const port = await app.listen()
  const text = JSON.stringify(manifest({ state_snapshot: { é: '😀' } }))
  const head = (length: number) =>
    `POST /workers HTTP/1.1\r\n${HOST}${close}content-type: application/json\r\ncontent-length: ${length}\r\n\r\n`
  const broken = new RawConnection(t, port).say(head(10_000)).say(text)
  while (app.app.server.listening && (await app.get('/health')).status !== 200);
  broken.socket.destroy()
  const all = new RawConnection(t, port).say(
    `POST /kill-all HTTP/1.1\r\n${HOST}content-length: 20\r\n\r\n{"reason`,
  )
  all.socket.resetAndDestroy()
  const bytes = Buffer.from(head(Buffer.byteLength(text)) + text)
  const whole = new RawConnection(t, port)
  whole.socket.setNoDelay(true)
  for (const byte of bytes) {
    whole.say(Buffer.from([byte]))
    await setImmediate()
  }
  await whole.closed()
  t.equal(whole.answers()[0]?.status, 201)
  t.strictSame(
    (await app.events()).map(({ event }) => event),
    ['container_launched'],
  )
  await stillAnswers(t, app, port)
})

t.test('who sends too much is told so, and can read it', async (t) => {
  const app = await runningApp(t)
  const port = await app.listen()
  const url = `http://127.0.0.1:${port}`
  const body = 'x'.repeat(4 * 1024 * 1024)
  const sent = [
    ['/workers', 'application/json', 413],
    ['/workers', 'text/plain', 415],
    ['/kill-all', 'text/plain', 413],
    ['/nope', 'application/json', 404],
    ['/workers/w1/enforce', 'application/json', 400],
  ] as const
  for (const [path, type, status] of sent) {
    for (const chunked of [false, true]) {
      const stream = new Blob([body]).stream()
      const answer = await fetch(url + path, {
        method: 'POST',
        headers: { 'content-type': type },
        ...(chunked ? { body: stream, duplex: 'half' } : { body }),
      })
      t.equal(answer.status, status, `${path} ${type} ${chunked ? 'chunked' : ''}`)
      t.equal(answer.headers.get('content-type'), 'application/problem+json')
      await answer.json()
    }
  }
  const killed = await fetch(`${url}/workers/w1`, {
    method: 'DELETE',
    headers: { 'content-type': 'x' },
    body,
  })
  t.equal(killed.status, 404)
  const expecting = await told(
    t,
    port,
    `POST /workers HTTP/1.1\r\n${HOST}${close}expect: 100-continue\r\ncontent-type: text/plain\r\ncontent-length: 1\r\n\r\n`,
    'x',
  )
  t.equal(expecting[0]?.status, 415)
  await stillAnswers(t, app, port)
})

t.test('pipelined requests are answered in order, each once, and garbage after them last', async (t) => {
  const app = await runningApp(t, { SIMULATED_KILL_MS: 30 })
  const port = await app.listen()
  await app.launch()
  const get = (path: string, headers = '') => `GET ${path} HTTP/1.1\r\n${HOST}${headers}\r\n`
  const answers = await told(
    t,
    port,
    `DELETE /workers/w1 HTTP/1.1\r\n${HOST}\r\n${get('/workers/w1')}${get('/nope')}${get('/health', close)}`,
  )
  t.strictSame(
    answers.map(({ status }) => status),
    [200, 200, 404, 200],
  )
  t.equal(at(answers[0]?.body, 'complete'), true)

  await app.launch()
  const id = 'x-request-id: kill\r\n'
  const spoilt = await told(t, port, `DELETE /workers/w1 HTTP/1.1\r\n${HOST}${id}\r\ngarbage\r\n\r\n`)
  t.strictSame(
    spoilt.map(({ status, headers }) => [status, headers['x-request-id'] === 'kill']),
    [
      [200, true],
      [400, false],
    ],
  )
  await stillAnswers(t, app, port)
})

t.test('one request of a connection at a time, but a kill goes ahead', async (t) => {
  const app = await runningApp(t, { SIMULATED_LAUNCH_MS: 60_000, LAUNCH_TIMEOUT_MS: 60_000 })
  const port = await app.listen()
  const body = JSON.stringify(manifest())
  const launch = `POST /workers HTTP/1.1\r\n${HOST}content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`
  const connection = new RawConnection(t, port).say(launch)
  await until(async () => at((await app.get('/health')).body, 'workers', 'pending') === 1)
  connection.say(`GET /health HTTP/1.1\r\n${HOST}\r\nDELETE /workers/w1 HTTP/1.1\r\n${HOST}${close}\r\n`)
  await connection.closed()
  t.strictSame(
    connection.answers().map(({ status, body }) => [status, at(body, 'code') ?? at(body, 'killed')]),
    [
      [409, 'worker_killed'],
      [200, undefined],
      [200, ['w1']],
    ],
    'the kill ended the launch that was sent before it',
  )
})

t.test('a thousand pages that nobody takes are not all made at once', async (t) => {
  const app = await runningApp(t)
  const port = await app.listen()
  for (const worker_id of ['w1', 'w2', 'w3', 'w4']) {
    await app.launch({ worker_id, state_snapshot: { padding: 'x'.repeat(900_000) } })
  }
  const before = process.memoryUsage().rss
  const reader = new RawConnection(t, port)
  reader.socket.once('data', () => reader.socket.pause())
  reader.say(`GET /workers HTTP/1.1\r\n${HOST}\r\n`.repeat(1000))
  await reader.until('HTTP/1.1 200')
  for (let turn = 0; turn < 50; turn++) await setImmediate()
  t.ok(process.memoryUsage().rss - before < 500e6, 'all of them would hold 4 GB')
  reader.socket.destroy()
  await stillAnswers(t, app, port)
})

t.test('every request leaves a line, also one whose client left or that was none', async (t) => {
  const { logger, lines } = recordingLogger()
  const app = await runningApp(t, { SIMULATED_LAUNCH_MS: 60_000, LAUNCH_TIMEOUT_MS: 60_000 }, { logger })
  const port = await app.listen()
  const line = async (matches: (line: Record<string, unknown>) => boolean) => {
    await until(async () => lines.some(matches))
    return lines.find(matches)
  }
  const body = JSON.stringify(manifest())
  const left = new RawConnection(t, port).say(
    `POST /workers HTTP/1.1\r\n${HOST}x-request-id: left\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  )
  await until(async () => at((await app.get('/health')).body, 'workers', 'pending') === 1)
  left.socket.destroy()
  t.match(await line((each) => each['request_id'] === 'left' && each['msg'] === 'request'), {
    method: 'POST',
    route: '/workers',
    aborted: true,
  })
  const [refused] = await told(t, port, 'garbage\r\n\r\n')
  const id = refused?.headers['x-request-id']
  t.match(await line((each) => each['request_id'] === id), { status: 400, code: 'request_invalid' })
})

t.test('garbage on an open stream is not answered into it', async (t) => {
  const app = await runningApp(t)
  const port = await app.listen()
  const connection = new RawConnection(t, port)
  connection.say(`GET /events HTTP/1.1\r\n${HOST}accept: text/event-stream\r\n\r\n`)
  await connection.until(': log ')
  connection.say('garbage\r\n\r\n').say('more\r\n\r\n')
  await app.launch()
  const text = await connection.until('container_launched')
  t.notMatch(text, 'problem+json')
  await app.app.close()
  await connection.closed()
})

t.test('connections that break in the middle of an answer hurt nobody', async (t) => {
  const app = await runningApp(t, { SIMULATED_KILL_MS: 20 })
  const port = await app.listen()
  await app.launch()
  const words = [
    'CONNECT a:1 HTTP/1.1\r\n\r\n',
    `DELETE /workers/w1 HTTP/1.1\r\n${HOST}\r\n`,
    `GET /events HTTP/1.1\r\n${HOST}accept: text/event-stream\r\n\r\n`,
    `GET /health HTTP/1.1\r\n${HOST}expect: x\r\n\r\n`,
    'garbage\r\n\r\n',
    `GET /docs/static/swagger-ui-bundle.js HTTP/1.1\r\n${HOST}\r\n`,
  ]
  for (const text of words) {
    const connection = new RawConnection(t, port)
    await once(connection.socket, 'connect')
    await new Promise<void>((resolve) => connection.socket.write(text, () => resolve()))
    connection.socket.resetAndDestroy()
    await connection.closed()
  }
  await stillAnswers(t, app, port)
  while (at((await app.get('/workers/w1')).body, 'status') !== 'killed') await setImmediate()
  t.pass('a kill whose caller went away is carried out')
})

import { once } from 'node:events'
import type { Readable } from 'node:stream'
import t, { type Test } from 'tap'
import { EventLog, NOBODY } from '../../src/orchestrator/event-log.ts'
import { EventStreams } from '../../src/streams/event-stream.ts'
import { at, listAt, RawConnection, type RunningApp, runningApp } from '../running-app.ts'

interface Told {
  readonly id: string | undefined
  readonly event: string
  readonly data: unknown
}

/** The events in a stream's text, as its specification reads them. */
function eventsIn(text: string): Told[] {
  return text.split('\n\n').flatMap((block) => {
    const fields = new Map<string, string>()
    for (const line of block.split('\n')) {
      const colon = line.indexOf(':')
      if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 1).replace(/^ /, ''))
    }
    const data = fields.get('data')
    if (data === undefined) return []
    return [{ id: fields.get('id'), event: fields.get('event') ?? 'message', data: JSON.parse(data) }]
  })
}

const skip = (app: RunningApp, id: string) => app.delete(`/workers/${id}`)
const seqs = (body: unknown) => listAt(body, 'items').map((event) => at(event, 'seq'))

/** A reader over HTTP of what `/events` streams. */
async function follow(t: Test, port: number, query = '', headers: Record<string, string> = {}) {
  const connection = new RawConnection(t, port)
  const lines = Object.entries({ host: 'x', accept: 'text/event-stream', ...headers })
  connection.say(
    `GET /events${query} HTTP/1.0\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`,
  )
  await connection.until(': log ')
  const body = () => connection.text.slice(connection.text.indexOf('\r\n\r\n') + 4)
  return {
    connection,
    body,
    async until(count: number): Promise<Told[]> {
      while (eventsIn(body()).length < count) await once(connection.socket, 'data')
      return eventsIn(body())
    },
  }
}

t.test('pages: from the oldest, after a seq, with filters, until there is no more', async (t) => {
  const app = await runningApp(t)
  const empty = (await app.get('/events')).body
  t.match(empty, {
    items: [],
    has_more: false,
    next_after: 0,
    oldest_seq: 1,
    newest_seq: 0,
    log_id: /^[\da-f-]{36}$/,
  })
  for (const id of ['a', 'b', 'a', 'b', 'a']) await skip(app, id)
  t.strictSame(seqs((await app.get('/events')).body), [1, 2, 3, 4, 5])
  t.strictSame(seqs((await app.get('/events?after=0')).body), [1, 2, 3, 4, 5])
  const first = (await app.get('/events?limit=2')).body
  t.match(first, { has_more: true, next_after: 2, oldest_seq: 1, newest_seq: 5, log_id: at(empty, 'log_id') })
  t.strictSame(seqs(first), [1, 2])
  const last = (await app.get('/events?after=4&limit=2')).body
  t.match(last, { has_more: false, next_after: 5 })
  t.match((await app.get('/events?after=5')).body, { items: [], has_more: false, next_after: 5 })
  const filtered = (await app.get('/events?worker_id=b&limit=1')).body
  t.strictSame([seqs(filtered), at(filtered, 'next_after'), at(filtered, 'has_more')], [[2], 2, true])
  const rest = (await app.get('/events?worker_id=b&limit=1000&after=2')).body
  t.strictSame([seqs(rest), at(rest, 'next_after'), at(rest, 'has_more')], [[4], 5, false])
  const none = (await app.get('/events?event=nothing')).body
  t.strictSame([seqs(none), at(none, 'next_after'), at(none, 'has_more')], [[], 5, false])
  t.strictSame(seqs((await app.get('/events?event=container_kill_skipped&worker_id=a')).body), [1, 3, 5])
  t.strictSame(seqs((await app.get('/events?worker_id=None')).body), [])
})

t.test('pages: what is no longer kept, or not yet here, is 410 and tells the oldest', async (t) => {
  const app = await runningApp(t, { RETAINED_EVENTS: 3 })
  for (const id of ['a', 'b', 'c', 'd', 'e']) await skip(app, id)
  for (const query of ['', '?after=0', '?after=2']) {
    const { body } = await app.get(`/events${query}`)
    t.strictSame([seqs(body), at(body, 'oldest_seq'), at(body, 'newest_seq')], [[3, 4, 5], 3, 5], query)
  }
  for (const after of [1, 6, Number.MAX_SAFE_INTEGER]) {
    const expired = await app.get(`/events?after=${after}`)
    t.equal(expired.status, 410)
    t.match(expired.body, { code: 'events_expired', detail: /oldest_seq is 3\b/ })
  }
})

t.test('a stream: new events, as they happen, each with its seq, name and fields', async (t) => {
  const app = await runningApp(t)
  const port = await app.listen()
  await skip(app, 'before')
  const { connection, until } = await follow(t, port, '', { 'x-request-id': 'stream' })
  const [head = ''] = connection.text.split('\r\n\r\n')
  t.match(head, /^HTTP\/1\.1 200/)
  t.match(head, /^content-type: text\/event-stream/im)
  t.match(head, /^cache-control: no-store\r?$/im)
  t.match(head, /^x-request-id: stream\r?$/im)
  await app.launch()
  await app.delete('/workers/w1?reason=%0A%0Aid:%207')
  const told = await until(2)
  t.match(told, [
    { id: '2', event: 'container_launched', data: { seq: 2, event: 'container_launched', worker_id: 'w1' } },
    { id: '3', event: 'container_killed', data: { seq: 3, reason: '  id: 7' } },
  ])
  t.strictSame(
    told.map(({ data }) => data),
    listAt((await app.get('/events?after=1')).body, 'items'),
  )
})

t.test('a stream resumes: Last-Event-ID before after, with filters, limit ignored', async (t) => {
  const app = await runningApp(t)
  const port = await app.listen()
  for (const id of ['a', 'b', 'a', 'b']) await skip(app, id)
  const ids = async (query: string, headers: Record<string, string>, count: number) => {
    const { until, connection } = await follow(t, port, query, headers)
    const told = await until(count)
    connection.socket.destroy()
    return told.map(({ id }) => id)
  }
  t.strictSame(await ids('?after=0', {}, 4), ['1', '2', '3', '4'])
  t.strictSame(await ids('?after=2&limit=1', {}, 2), ['3', '4'])
  t.strictSame(await ids('?after=0', { 'last-event-id': '3' }, 1), ['4'])
  t.strictSame(await ids('', { 'last-event-id': '2' }, 2), ['3', '4'])
  t.strictSame(await ids('?after=1', { 'last-event-id': '' }, 3), ['2', '3', '4'])
  t.strictSame(await ids('?after=0&worker_id=b', {}, 2), ['2', '4'])
  t.strictSame(await ids('?after=99', {}, 4), ['1', '2', '3', '4'], 'newer than the newest')
  t.strictSame(await ids('', { 'last-event-id': '9007199254740991' }, 4), ['1', '2', '3', '4'])
  for (const method of ['GET', 'HEAD'] as const) {
    const headers = { accept: 'text/event-stream', 'last-event-id': 'x' }
    t.equal((await app.send(method, '/events', { headers })).status, 400, method)
  }
  t.equal(
    (await app.get('/events', { headers: { 'last-event-id': 'x' } })).status,
    200,
    'a page has no use for it',
  )
})

t.test('a stream tells a gap first, as an event without an id', async (t) => {
  const app = await runningApp(t, { RETAINED_EVENTS: 2 })
  const port = await app.listen()
  for (const id of ['a', 'b', 'c', 'd', 'e']) await skip(app, id)
  const { until } = await follow(t, port, '?after=1')
  t.match(await until(3), [
    { id: undefined, event: 'gap', data: { from: 2, to: 3 } },
    { id: '4', event: 'container_kill_skipped' },
    { id: '5', event: 'container_kill_skipped' },
  ])
  const seamless = await follow(t, port, '?after=3')
  t.strictSame(
    (await seamless.until(2)).map(({ id }) => id),
    ['4', '5'],
  )
  const fromOldest = await follow(t, port, '?after=0')
  t.strictSame(
    (await fromOldest.until(2)).map(({ id }) => id),
    ['4', '5'],
    '0 asks for what is kept',
  )
})

t.test('who wants a stream, and who a page', async (t) => {
  const app = await runningApp(t)
  const port = await app.listen()
  for (const accept of [
    'text/event-stream',
    'TEXT/Event-Stream;q=1',
    'application/json;q=0.1, text/event-stream',
  ]) {
    const { connection } = await follow(t, port, '', { accept })
    connection.socket.destroy()
  }
  for (const accept of ['*/*', 'application/json', 'text/event-streams', 'text/*', '']) {
    const { status, headers } = await app.get('/events', { headers: { accept } })
    t.strictSame([status, headers['content-type']], [200, 'application/json; charset=utf-8'], accept)
  }
  const head = await app.send('HEAD', '/events', { headers: { accept: 'text/event-stream' } })
  t.strictSame([head.status, head.headers['content-type'], head.text], [200, 'text/event-stream', ''])
})

t.test('streams end when the service does, also one that nobody reads', async (t) => {
  const app = await runningApp(t)
  const port = await app.listen()
  const { connection, body } = await follow(t, port)
  const stuck = await follow(t, port)
  stuck.connection.socket.pause()
  await app.launch()
  await app.app.close()
  await connection.closed()
  t.match(
    eventsIn(body()).map(({ event }) => event),
    ['container_launched'],
  )
})

const event = (log: EventLog, padding = '') =>
  log.append('container_kill_skipped', { worker_id: `w${padding}`, reason: 'r' }, NOBODY)

function openStreams(t: Test, capacity = 100_000) {
  const log = new EventLog(capacity)
  const streams = new EventStreams(log, 2 ** 30)
  t.teardown(() => streams.close())
  return { log, streams }
}

const turns = async (count = 3) => {
  for (let n = 0; n < count; n++) await new Promise(setImmediate)
}

function collect(stream: Readable): { text: string } {
  const collected = { text: '' }
  stream.setEncoding('utf8').on('data', (chunk) => {
    collected.text += chunk
  })
  return collected
}

t.test('a comment keeps a stream open', async (t) => {
  const { log, streams } = openStreams(t)
  const reading = collect(streams.open(undefined, {}))
  await turns()
  for (let n = 0; n < 3; n++) {
    streams.beat()
    await turns()
  }
  event(log)
  await turns()
  t.equal(reading.text.match(/^: keep-alive$/gm)?.length, 3)
  t.equal(eventsIn(reading.text).length, 1)
})

t.test('a reader that takes nothing is cut off, holds little meanwhile, and is let go', async (t) => {
  const { log, streams } = openStreams(t)
  const stream = streams.open(0, {})
  stream.on('error', () => {})
  stream.read(0)
  for (let n = 0; n < 20_000; n++) event(log, 'x'.repeat(100))
  await turns(50)
  t.ok(stream.readableLength < 256 * 1024, `${stream.readableLength} bytes wait`)
  t.notOk(stream.destroyed)
  streams.beat()
  t.notOk(stream.destroyed, 'it has until the next comment')
  streams.beat()
  t.ok(stream.destroyed)
  await turns()
  t.equal(streams.size, 0)
})

t.test('a slow reader that goes on reading is kept, and misses nothing', async (t) => {
  const { log, streams } = openStreams(t)
  const stream = streams.open(0, {})
  for (let n = 0; n < 5000; n++) event(log, 'x'.repeat(100))
  let text = ''
  while (eventsIn(text.slice(text.lastIndexOf('id: '))).at(-1)?.id !== '5000') {
    streams.beat()
    await turns(1)
    text += stream.read() ?? ''
  }
  t.strictSame(
    eventsIn(text).map(({ id }) => Number(id)),
    Array.from({ length: 5000 }, (_, n) => n + 1),
  )
})

t.test('a reader that falls behind what is kept is cut off', async (t) => {
  const { log, streams } = openStreams(t, 1000)
  const stream = streams.open(0, {})
  stream.on('error', () => {})
  stream.read(0)
  for (let round = 0; round < 20; round++) {
    for (let n = 0; n < 500; n++) event(log, 'x'.repeat(200))
    await turns()
  }
  stream.resume()
  while (!stream.destroyed) await turns(1)
  t.equal(streams.size, 0)
})

t.test('a filter that matches nothing makes nobody wait: it looks on a slice a turn', async (t) => {
  const { log, streams } = openStreams(t, 200_000)
  for (let n = 0; n < 100_000; n++) event(log)
  const reading = collect(streams.open(0, { workerId: 'nobody' }))
  let others = 0
  const other = () => {
    others++
    if (others < 12) setImmediate(other)
  }
  other()
  await turns(12)
  t.equal(others, 12)
  log.append('container_kill_skipped', { worker_id: 'nobody', reason: '' }, NOBODY)
  while (reading.text.indexOf('id: 100001') === -1) await turns(1)
  t.equal(eventsIn(reading.text).length, 1)
})

t.test('a stream opened while the service ends, ends', async (t) => {
  const { streams } = openStreams(t)
  streams.close()
  const stream = streams.open(undefined, {})
  stream.resume()
  await once(stream, 'end')
  t.equal(streams.size, 0)
})

t.test('a reader that goes away is let go', async (t) => {
  const { log, streams } = openStreams(t)
  const stream = streams.open(undefined, {})
  collect(stream)
  t.equal(streams.size, 1)
  stream.destroy()
  await once(stream, 'close')
  t.equal(streams.size, 0)
  event(log)
  await turns()
})

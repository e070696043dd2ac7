import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import * as fs from 'node:fs'
import { connect, createServer, Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import t, { type Test } from 'tap'
import { openLog, serializeError } from '../src/log.ts'

const noStream = (): Writable => {
  throw new Error('no stream was needed')
}

/** A FIFO whose writing end is opened as a shell opens it for us, blocking. Nobody reads until `read` is called. */
function openFifo(t: Test) {
  const path = `${t.testdir()}/fifo`
  execFileSync('mkfifo', [path])
  const openReader = () => fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK)
  let reader = openReader()
  const fd = fs.openSync(path, 'w')
  t.teardown(() => fs.closeSync(fd))
  return {
    target: { fd, stream: noStream },
    closeReader: () => fs.closeSync(reader),
    reopenReader: () => {
      reader = openReader()
    },
    /** What the pipe holds now. */
    readSync: () => {
      const bytes = Buffer.alloc(2 ** 20)
      return bytes.toString('utf8', 0, fs.readSync(reader, bytes))
    },
    read: () => {
      const socket = new Socket({ fd: reader, writable: false })
      t.teardown(() => socket.destroy())
      return createInterface({ input: socket })[Symbol.asyncIterator]()
    },
  }
}

interface Line {
  level?: unknown
  msg?: unknown
  n?: unknown
  dropped?: unknown
}
const parse = (line: string): Line => JSON.parse(line)

/** Reads lines up to the first that `isLast`, and returns all of them, parsed. */
async function readUntil(lines: AsyncIterator<string>, isLast: (line: Line) => boolean) {
  const seen: Line[] = []
  for (let next = await lines.next(); !next.done; next = await lines.next()) {
    const line = parse(next.value)
    seen.push(line)
    if (isLast(line)) return seen
  }
  throw new Error(`the log ended after ${seen.length} lines`)
}

t.test(
  'a line is JSON with a label for its level, an ISO time, and of an error what may be told',
  async (t) => {
    const path = `${t.testdir()}/log`
    const fd = fs.openSync(path, 'a')
    const log = await openLog('info', { fd, stream: noStream })
    const cause = Object.assign(new Error('connect ECONNREFUSED'), {
      code: 'ECONNREFUSED',
      config: { token: 'hunter2' },
    })
    log.logger.debug('not told')
    log.logger.child({ request_id: 'r1' }).info({ worker_id: 'w1' }, 'container_launched')
    log.logger.error({ err: new Error('no runtime', { cause }) }, 'launch failed')
    await log.close(10_000)
    log.logger.info('after the end')

    const text = fs.readFileSync(path, 'utf8')
    const lines = text.trimEnd().split('\n').map(parse)
    t.match(lines, [
      {
        level: 'info',
        time: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/,
        request_id: 'r1',
        worker_id: 'w1',
        msg: 'container_launched',
      },
      {
        level: 'error',
        msg: 'launch failed',
        err: {
          type: 'Error',
          message: 'no runtime',
          stack: /log\.test/,
          cause: { code: 'ECONNREFUSED', message: 'connect ECONNREFUSED' },
        },
      },
    ])
    t.equal(lines.length, 2)
    t.strictSame(Object.keys(lines[0] ?? {}), ['level', 'time', 'request_id', 'worker_id', 'msg'])
    t.notMatch(text, /hunter2/)
    fs.closeSync(fd)
  },
)

t.test('causes that go round end', async (t) => {
  const error = new Error('snake')
  error.cause = error
  t.match(serializeError(error), { cause: { cause: { cause: { message: 'snake' } } } })
  t.doesNotThrow(() => JSON.stringify(serializeError(error)))
  t.equal(serializeError('thrown text'), 'thrown text')
})

t.test(
  'a pipe that nobody reads holds up nothing, and what was dropped is told once somebody does',
  async (t) => {
    const fifo = openFifo(t)
    const flags = () => /flags:.*/.exec(fs.readFileSync(`/proc/self/fdinfo/${fifo.target.fd}`, 'utf8'))?.[0]
    const before = flags()
    const log = await openLog('info', fifo.target)
    t.equal(flags(), before, 'the description that others share is left as it was')

    const total = 40_000
    const filling = 'x'.repeat(1000)
    for (let n = 1; n <= total; n++) log.logger.info({ n, filling }, 'line')

    const lines = await readUntil(fifo.read(), (line) => 'dropped' in line)
    const dropped = Number(lines.at(-1)?.dropped)
    const kept = lines.filter(({ msg }) => msg === 'line')
    t.equal(kept.length + dropped, total, 'each line was written, or counted')
    t.strictSame(
      kept.map(({ n }) => n),
      kept.map((_, index) => index + 1),
      'in order',
    )
    t.ok(kept.length * filling.length < 17 * 2 ** 20, 'memory is bounded')
    await log.close(10_000)
  },
)

t.test('a pipe that nobody reads does not hold up the end, nor a fatal line', async (t) => {
  const fifo = openFifo(t)
  const log = await openLog('info', fifo.target)
  log.logger.info({ filling: 'x'.repeat(2 ** 20) })
  log.logger.fatal('the end')
  await log.close(1)
  t.match(fifo.readSync(), /^{"level":"info"/)
})

t.test('a fatal line is written before the call returns, after those before it', async (t) => {
  const fifo = openFifo(t)
  const log = await openLog('info', fifo.target)
  log.logger.info('first')
  log.logger.fatal({ err: new Error('unknown state') }, 'second')
  const lines = fifo.readSync().trimEnd().split('\n').map(parse)
  t.match(lines, [{ msg: 'first' }, { level: 'fatal', msg: 'second', err: { stack: /unknown state/ } }])
  await log.close(10_000)
})

t.test(
  'a pipe whose reader is gone takes nothing and holds up nothing; the next reader finds whole lines',
  async (t) => {
    const fifo = openFifo(t)
    const log = await openLog('info', fifo.target)
    log.logger.fatal({ filling: 'x'.repeat(100_000) }, 'longer than the pipe')
    fifo.closeReader()
    log.logger.info('into the void')
    log.logger.fatal('into the void too')

    fifo.reopenReader()
    t.notMatch(fifo.readSync(), /\n/, 'the line that was cut off')
    log.logger.fatal('here again')
    const [rest, line, end] = fifo.readSync().split('\n')
    t.strictSame([rest, end], ['', ''])
    t.match(parse(line ?? ''), { msg: 'here again' })

    log.logger.info('and on')
    const lines = await readUntil(fifo.read(), (line) => 'dropped' in line)
    t.match(lines, [{ msg: 'and on' }, { level: 'error', dropped: 3 }])
    await log.close(10_000)
  },
)

t.test('a device that is full ends nothing', async (t) => {
  const fd = fs.openSync('/dev/full', 'w')
  t.teardown(() => fs.closeSync(fd))
  const log = await openLog('info', { fd, stream: noStream })
  for (let n = 0; n < 1000; n++) log.logger.info({ filling: 'x'.repeat(1000) })
  log.logger.fatal('the end')
  await t.resolves(log.close(10_000))
})

t.test('a terminal gets readable lines', async (t) => {
  const program = `
    import { openLog } from './src/log.ts'
    const log = await openLog('info', { fd: 1, stream: () => process.stdout })
    log.logger.info({ worker_id: 'w1' }, 'container_launched')
    await log.close(10_000)`
  const command = `NO_COLOR=1 ${process.execPath} --import=tsx --input-type=module -e "${program}"`
  const shown = execFileSync('script', ['-qec', command, '/dev/null'], {
    encoding: 'utf8',
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.match(shown, /^\[\d\d:\d\d:\d\d\.\d{3}\] INFO: container_launched \{"worker_id":"w1"\}\r\n$/)
})

/** A socket as the log's destination, whose descriptor cannot be opened again; `far` reads it. */
async function openSocket(t: Test) {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const arrival: Promise<Socket[]> = once(server, 'connection')
  const address = server.address()
  const near = connect(typeof address === 'object' && address ? address.port : 0, '127.0.0.1')
  const [far] = await arrival
  t.teardown(() => {
    near.destroy()
    far?.destroy()
    server.close()
  })
  if (!far) throw new Error('no connection came')
  const fd = Number(Reflect.get(Object(Reflect.get(near, '_handle')), 'fd'))
  return { near, far, fd }
}

t.test('a socket is written by its stream, and its end ends nothing', async (t) => {
  const { near, far, fd } = await openSocket(t)
  const log = await openLog('info', { fd, stream: () => near })
  log.logger.info('first')
  log.logger.info('second')
  const lines = createInterface({ input: far })[Symbol.asyncIterator]()
  t.match(await readUntil(lines, ({ msg }) => msg === 'second'), [{ msg: 'first' }, { msg: 'second' }])

  far.destroy()
  await once(near, 'close')
  for (let n = 0; n < 1000; n++) log.logger.info({ filling: 'x'.repeat(1000) }, 'into the void')
  log.logger.fatal('the end')
  await t.resolves(log.close(10_000))
})

t.test('a socket that nobody reads holds up nothing', async (t) => {
  const { near, far, fd } = await openSocket(t)
  far.pause()
  const log = await openLog('info', { fd, stream: () => near })
  for (let n = 0; n < 30_000; n++) log.logger.info({ filling: 'x'.repeat(1000) })
  t.ok(near.writableLength <= 2 ** 17, 'the stream is given one chunk at a time')
  log.logger.fatal('the end')
  await t.resolves(log.close(1))
})

t.test('a fatal line goes past what a stream still holds, on a line of its own', async (t) => {
  const { far, fd } = await openSocket(t)
  const stuck = new Writable({ write: () => {} })
  const log = await openLog('info', { fd, stream: () => stuck })
  log.logger.info({ filling: 'x'.repeat(100_000) }, 'held by the stream')
  log.logger.fatal('the end')
  const lines = createInterface({ input: far })[Symbol.asyncIterator]()
  t.equal((await lines.next()).value, '')
  t.match(await readUntil(lines, () => true), [{ msg: 'the end' }])
  await log.close(1)
})

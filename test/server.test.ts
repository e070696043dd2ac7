import { execFileSync, spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import * as fs from 'node:fs'
import { Agent, request } from 'node:http'
import { createServer, Socket } from 'node:net'
import type { Readable } from 'node:stream'
import t, { type Test } from 'tap'
import { VERSION } from '../src/version.ts'

interface Line {
  level?: unknown
  msg?: unknown
  event?: unknown
  origin?: unknown
  err?: unknown
  exit_code?: unknown
}

/** The lines of a log as they come; reading stops, and starts again, as a reader's might. */
class Lines {
  readonly seen: Line[] = []
  readonly #news = new EventEmitter()
  readonly #stream: Readable
  #rest = ''

  constructor(stream: Readable) {
    this.#stream = stream.setEncoding('utf8')
    stream.on('data', (text: string) => this.#take(text))
    stream.on('close', () => this.#news.emit('news'))
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split('\n')
    this.#rest = lines.pop() ?? ''
    for (const line of lines) if (line !== '') this.seen.push(JSON.parse(line))
    this.#news.emit('news')
  }

  async until(isIt: (line: Line) => boolean): Promise<Line> {
    for (;;) {
      const found = this.seen.find(isIt)
      if (found) return found
      if (this.#stream.closed) throw new Error(`it never came; the log was ${JSON.stringify(this.seen)}`)
      await once(this.#news, 'news')
    }
  }

  stop(): void {
    this.#stream.pause()
  }

  close(): void {
    this.#stream.destroy()
  }
}

interface Options {
  env?: NodeJS.ProcessEnv
  args?: readonly string[]
  /** Loaded before the service. */
  preload?: string
  /** What stdout is. Node makes sockets where it says pipe. */
  stdout?: 'socket' | 'fifo'
}

/** The program, started for real. */
function run(t: Test, { env = {}, args = [], preload, stdout = 'socket' }: Options = {}) {
  const imports = [
    '--import=tsx',
    ...(preload === undefined ? [] : [`--import=data:text/javascript,${encodeURIComponent(preload)}`]),
  ]
  const fifo = stdout === 'fifo' ? openFifo(t) : undefined
  const child = spawn(process.execPath, [...imports, 'src/server.ts', ...args], {
    env: { ...process.env, PORT: '0', ...env },
    stdio: ['ignore', fifo?.writer ?? 'pipe', 'pipe'],
  })
  if (fifo) fs.closeSync(fifo.writer)
  const output = fifo?.reader ?? child.stdout
  if (!output || !child.stderr) throw new Error('no output')
  const ended = once(child, 'exit').then(([code, signal]) => ({ code, signal }))
  t.teardown(() => child.kill('SIGKILL'))
  return { child, output, stderr: child.stderr, ended }
}

function openFifo(t: Test) {
  const path = `${t.testdir()}/fifo`
  execFileSync('mkfifo', [path])
  const fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK)
  const writer = fs.openSync(path, 'w')
  const reader = new Socket({ fd, writable: false })
  t.teardown(() => reader.destroy())
  return { reader, writer }
}

/** The program, once it listens. */
async function serve(t: Test, options: Options = {}) {
  const { child, output, stderr, ended } = run(t, options)
  const log = new Lines(output)
  const { msg } = await log.until(({ msg }) => String(msg).startsWith('listening'))
  const origin = /http:\/\/[\d.:]+/.exec(String(msg))?.[0] ?? ''
  const agent = new Agent({ keepAlive: true, maxSockets: 16 })
  t.teardown(() => agent.destroy())
  const call = (method: string, path: string, body?: object) => callAt(agent, origin + path, method, body)
  return { child, stderr, ended, log, call, listening: String(msg) }
}

function callAt(
  agent: Agent,
  url: string,
  method: string,
  body?: object,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const headers = body ? { 'content-type': 'application/json' } : {}
    const sent = request(url, { agent, method, headers }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text })).on('error', reject)
    })
    sent.on('error', reject).end(body && JSON.stringify(body))
  })
}
type Call = Awaited<ReturnType<typeof serve>>['call']

const manifest = (worker_id: string) => ({
  worker_id,
  parent_id: null,
  depth: 0,
  state_snapshot: {},
  issued_at: '2026-01-06T09:30:00Z',
  resources: { cpu_limit: 0.5, memory_limit_mb: 256 },
  signature: 'signed',
})

/** Starts a launch, and waits until the service has it in hand. Its answer comes later, in an object that does not await it. */
async function beginLaunch(call: Call, id: string) {
  const answer = call('POST', '/workers', manifest(id))
  answer.catch(() => {})
  await answers(call, `/workers/${id}`, 200)
  return { answer }
}

/** Asks until the answer has this status. */
async function answers(call: Call, path: string, status: number): Promise<void> {
  while ((await call('GET', path)).status !== status);
}

/** Asks until a launch would be refused, or nobody is left to ask. */
async function drains(call: Call): Promise<void> {
  const stillReady = () =>
    call('GET', '/ready').then(
      ({ status }) => status === 200,
      () => false,
    )
  while (await stillReady());
}

/** Many kills of what nobody knows: some 2 MB of log. */
async function writeMuchLog(call: Call): Promise<void> {
  const path = `/workers/nobody?reason=${encodeURIComponent('☠️'.repeat(128))}`
  const kills = Array.from({ length: 1500 }, () => call('DELETE', path))
  for (const { status } of await Promise.all(kills)) if (status !== 404) throw new Error(`status ${status}`)
}

// Most of what each test takes is the start of a process.
t.jobs = 2

async function output(t: Test, options: Options) {
  const { output, stderr, ended } = run(t, options)
  const texts = [output, stderr].map(async (stream) => {
    let text = ''
    for await (const part of stream) text += part
    return text
  })
  const [out, err] = await Promise.all(texts)
  return { ...(await ended), out: out ?? '', err: err ?? '' }
}

t.test('--help tells the settings, --version the version', { buffered: true }, async (t) => {
  const help = await output(t, { args: ['--help'] })
  t.match(help, { code: 0, err: '', out: /^Usage: sandbox-orchestrator .*\n/ })
  t.match(help.out, /^ {2}PORT +3000 +Port to listen on/m)
  t.strictSame(await output(t, { args: ['--version'] }), {
    code: 0,
    signal: null,
    out: `${VERSION}\n`,
    err: '',
  })
})

t.test('what is no option, and what is no setting, is told on stderr', { buffered: true }, async (t) => {
  for (const argument of ['--port=80', 'start']) {
    const refused = await output(t, { args: [argument] })
    t.match(
      refused,
      { code: 1, out: '', err: /^sandbox-orchestrator: .*; --help tells what there is\n$/ },
      argument,
    )
  }
  t.match(await output(t, { env: { PORT: 'http', LOG_LEVEL: 'loud' } }), {
    code: 1,
    out: '',
    err: [
      'sandbox-orchestrator: PORT is "http"; it must be a decimal integer from 0 to 65535\n',
      'sandbox-orchestrator: LOG_LEVEL is "loud"; it must be one of fatal, error, warn, info, debug, trace, silent\n',
    ].join(''),
  })
})

t.test('a port in use is one line, and the end', { buffered: true }, async (t) => {
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  t.teardown(() => other.close())
  const address = other.address()
  const port = String(typeof address === 'object' ? address?.port : address)
  const { code, out, err } = await output(t, { env: { PORT: port } })
  t.match([code, err], [1, ''])
  t.match(
    out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line)),
    [{ level: 'fatal', msg: `cannot start: listen EADDRINUSE: address already in use 127.0.0.1:${port}` }],
  )
})

t.test('SIGTERM lets the requests in flight end', { buffered: true }, async (t) => {
  const service = await serve(t, { env: { SIMULATED_LAUNCH_MS: '500', MAX_WORKER: '3' } })
  t.match(
    service.listening,
    new RegExp(`^listening on http://127\\.0\\.0\\.1:\\d+, driver memory, version ${VERSION}$`),
  )
  await service.log.until(({ level, msg }) => level === 'warn' && String(msg).includes('MAX_WORKERS'))

  const { answer } = await beginLaunch(service.call, 'w1')
  service.child.kill('SIGTERM')
  t.equal((await answer).status, 201)
  t.strictSame(await service.ended, { code: 0, signal: null })
  await service.log.until(({ msg, exit_code }) => msg === 'ended' && exit_code === 0)
  t.notOk(service.log.seen.some(({ msg }) => String(msg).includes('are cut')))
  t.equal(service.stderr.read(), null, 'nothing on stderr')
})

t.test('what is still in flight when the grace is over is cut off', { buffered: true }, async (t) => {
  const service = await serve(t, {
    env: { SIMULATED_LAUNCH_MS: '600000', LAUNCH_TIMEOUT_MS: '600000', SHUTDOWN_GRACE_MS: '1' },
  })
  const { answer } = await beginLaunch(service.call, 'w1')
  service.child.kill('SIGINT')
  await t.rejects(answer)
  t.strictSame(await service.ended, { code: 0, signal: null })
  await service.log.until(({ level, msg }) => level === 'warn' && String(msg).includes('are cut'))
})

t.test('a second signal ends it at once, SIGHUP as ever', { buffered: true }, async (t) => {
  const env = { SIMULATED_LAUNCH_MS: '600000', LAUNCH_TIMEOUT_MS: '600000', SHUTDOWN_GRACE_MS: '600000' }
  const service = await serve(t, { env })
  await beginLaunch(service.call, 'w1')
  service.child.kill('SIGTERM')
  await service.log.until(({ msg }) => msg === 'shutting down')
  service.child.kill('SIGINT')
  t.strictSame(await service.ended, { code: 1, signal: null })

  const other = await serve(t)
  other.child.kill('SIGHUP')
  t.strictSame(await other.ended, { code: null, signal: 'SIGHUP' })
})

t.test(
  'ON_SHUTDOWN=kill kills every worker first, and its exit code tells whether they are dead',
  async (t) => {
    const service = await serve(t, { env: { ON_SHUTDOWN: 'kill' } })
    t.equal((await service.call('POST', '/workers', manifest('w1'))).status, 201)
    service.child.kill('SIGTERM')
    t.strictSame(await service.ended, { code: 0, signal: null })
    await service.log.until(({ event }) => event === 'kill_all')

    const env = { ON_SHUTDOWN: 'kill', SIMULATED_KILL_FAILURE_RATE: '1', KILL_TIMEOUT_MS: '100' }
    const unlucky = await serve(t, { env })
    t.equal((await unlucky.call('POST', '/workers', manifest('w1'))).status, 201)
    unlucky.child.kill('SIGTERM')
    t.strictSame(await unlucky.ended, { code: 1, signal: null })
    await unlucky.log.until(({ msg }) => msg === 'not every worker is confirmed dead')
  },
)

t.test('an unexpected error is told with its stack, and is the end', { buffered: true }, async (t) => {
  const preload = `
    process.on('SIGUSR2', () => { throw new Error('out of the blue') })
    process.on('SIGWINCH', () => { process.emitWarning('take care') })
    process.on('SIGIO', () => { Promise.reject(new Error('unhandled')) })`
  const service = await serve(t, { preload })
  service.child.kill('SIGWINCH')
  await service.log.until(({ level, msg }) => level === 'warn' && msg === 'take care')
  service.child.kill('SIGUSR2')
  t.strictSame(await service.ended, { code: 1, signal: null })
  t.match(await service.log.until(({ level }) => level === 'fatal'), {
    origin: 'uncaughtException',
    err: { message: 'out of the blue', stack: /\n +at / },
  })
  t.equal(service.stderr.read(), null, 'nothing on stderr')

  const other = await serve(t, { preload })
  other.child.kill('SIGIO')
  t.strictSame(await other.ended, { code: 1, signal: null })
  t.match(await other.log.until(({ level }) => level === 'fatal'), { origin: 'unhandledRejection' })
})

for (const stdout of ['socket', 'fifo'] as const) {
  t.test(
    `a log that nobody reads (${stdout}) holds up neither a kill nor the end`,
    { buffered: true },
    async (t) => {
      const service = await serve(t, { stdout })
      t.equal((await service.call('POST', '/workers', manifest('w1'))).status, 201)
      service.log.stop()
      await writeMuchLog(service.call)
      t.equal((await service.call('DELETE', '/workers/w1')).status, 200)
      service.child.kill('SIGTERM')
      t.strictSame(await service.ended, { code: 0, signal: null })
    },
  )

  t.test(
    `a log that nobody reads (${stdout}) does not hold up a second signal`,
    { buffered: true },
    async (t) => {
      const env = { SIMULATED_LAUNCH_MS: '600000', LAUNCH_TIMEOUT_MS: '600000', SHUTDOWN_GRACE_MS: '600000' }
      const service = await serve(t, { stdout, env })
      service.log.stop()
      await writeMuchLog(service.call)
      await beginLaunch(service.call, 'w1')
      service.child.kill('SIGTERM')
      await drains(service.call)
      service.child.kill('SIGTERM')
      t.strictSame(await service.ended, { code: 1, signal: null })
    },
  )

  t.test(`a log whose reader is gone (${stdout}) ends nothing`, { buffered: true }, async (t) => {
    const service = await serve(t, { stdout })
    t.equal((await service.call('POST', '/workers', manifest('w1'))).status, 201)
    service.log.close()
    service.stderr.destroy()
    await writeMuchLog(service.call)
    t.equal((await service.call('DELETE', '/workers/w1')).status, 200)
    service.child.kill('SIGTERM')
    t.strictSame(await service.ended, { code: 0, signal: null })
  })
}

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { Ajv2020, type Options, type ValidateFunction } from 'ajv/dist/2020.js'
import type { FastifyInstance, InjectOptions } from 'fastify'
import { pino } from 'pino'
import type { Test } from 'tap'
import { SIGNED_TIME } from '../schemas/manifest.ts'
import { buildApp, type Parts } from '../src/app.ts'
import { readConfig } from '../src/config.ts'
import { serializeError } from '../src/log.ts'
import { isTimestamp } from '../src/manifest/timestamp.ts'

/** Any member of an answer, without a cast: what is not there is undefined. */
export function at(value: unknown, ...path: (string | number)[]): unknown {
  return path.reduce<unknown>((inner, name) => {
    return typeof inner === 'object' && inner !== null ? Reflect.get(inner, name) : undefined
  }, value)
}

export const listAt = (value: unknown, ...path: (string | number)[]): unknown[] => {
  const list = at(value, ...path)
  return Array.isArray(list) ? list : []
}

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  readonly text: string
  /** The text as JSON, where it is JSON. */
  readonly body: unknown
}

export type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | 'OPTIONS'

export interface Sent {
  readonly headers?: Record<string, string>
  /** An object is sent as JSON, with its content type; a text or bytes as they are, with none. */
  readonly body?: object | string | Buffer
}

/** Settings as the environment would give them. */
export type Env = Readonly<Record<string, string | number>>

/** An app that closes with its test, and whose every answer is held to the document and to what holds for all. */
export class RunningApp {
  readonly app: FastifyInstance
  readonly #t: Test
  readonly #document: Document

  constructor(t: Test, app: FastifyInstance) {
    this.#t = t
    this.app = app
    this.#document = new Document(app.swagger())
  }

  async send(method: Method, url: string, { headers = {}, body }: Sent = {}): Promise<Answer> {
    const isPlain = body === undefined || typeof body === 'string' || Buffer.isBuffer(body)
    const options: InjectOptions = {
      method,
      url,
      headers: isPlain ? headers : { 'content-type': 'application/json', ...headers },
      ...(body !== undefined && { payload: isPlain ? body : JSON.stringify(body) }),
    }
    const { statusCode: status, headers: received, payload: text } = await this.app.inject(options)
    const type = String(received['content-type'] ?? '')
    const answer = {
      status,
      headers: received,
      text,
      body: /json/.test(type) && text ? JSON.parse(text) : undefined,
    }
    this.#check(method, url, answer)
    return answer
  }

  get = (url: string, sent?: Sent) => this.send('GET', url, sent)
  post = (url: string, body?: Sent['body'], headers?: Record<string, string>) =>
    this.send('POST', url, { ...(body !== undefined && { body }), ...(headers && { headers }) })
  delete = (url: string, sent?: Sent) => this.send('DELETE', url, sent)
  launch = (changes: object = {}, query = '') => this.post(`/workers${query}`, manifest(changes))

  /** All events so far, without `seq` and `timestamp`. */
  async events(query = ''): Promise<Record<string, unknown>[]> {
    const { body } = await this.get(`/events?limit=1000${query}`)
    return listAt(body, 'items').map((event) => {
      const { seq, timestamp, ...rest } = Object(event)
      return rest
    })
  }

  /** Listens, and returns the port. */
  async listen(): Promise<number> {
    await this.app.listen({ port: 0, host: '127.0.0.1' })
    const address = this.app.server.address()
    if (typeof address !== 'object' || address === null) throw new Error('it does not listen on a port')
    return address.port
  }

  #check(method: Method, url: string, answer: Answer): void {
    const said = `${method} ${url.slice(0, 80)} → ${answer.status}`
    const trouble = [...generalTroubles(method, answer), ...this.#document.troubles(method, url, answer)]
    if (trouble.length > 0)
      this.#t.fail(`${said}: ${trouble.join('; ')}`, { answer: answer.text.slice(0, 2000) })
  }
}

const RETRIED = ['capacity_exhausted', 'runtime_unavailable', 'shutting_down', 'not_ready']

/** What holds for every answer. */
export function generalTroubles(method: string, { status, headers, body }: Answer): string[] {
  const troubles: string[] = []
  if (!headers['x-request-id']) troubles.push('no x-request-id')
  if (headers['cache-control'] !== 'no-store') troubles.push(`cache-control ${headers['cache-control']}`)
  const mayRetry = RETRIED.includes(String(at(body, 'code')))
  if (method !== 'HEAD' && mayRetry !== (headers['retry-after'] !== undefined)) {
    troubles.push(`retry-after is ${headers['retry-after']}`)
  }
  if (status < 400) return troubles
  if (headers['content-type'] !== 'application/problem+json') troubles.push(`type ${headers['content-type']}`)
  if (method === 'HEAD') return troubles
  if (at(body, 'status') !== status) troubles.push('the status in the Problem is another')
  if (at(body, 'type') !== `urn:sandbox-orchestrator:problem:${at(body, 'code')}`) troubles.push('its type')
  if (status === 405 && !headers['allow']) troubles.push('no allow')
  if (status >= 500 && at(body, 'code') === 'internal_error') troubles.push('an internal error')
  return troubles
}

/** The OpenAPI document, to hold answers to it. */
class Document {
  readonly #document: unknown
  readonly #ajv = new Ajv2020({ strict: false, allErrors: true, formats: FORMATS, unicodeRegExp: true })
  readonly #validators = new Map<string, ValidateFunction>()

  constructor(document: object) {
    this.#document = document
    this.#ajv.addSchema(document, 'document')
  }

  troubles(method: Method, url: string, { status, headers, body }: Answer): string[] {
    const path = this.#pathOf(url)
    if (path === undefined || method === 'HEAD') return []
    const operation = at(this.#document, 'paths', path, method.toLowerCase())
    if (operation === undefined) return []
    const content = at(operation, 'responses', String(status), 'content')
    if (content === undefined) return [`${status} is not documented`]
    const [type = ''] = String(headers['content-type']).split(';')
    if (at(content, type) === undefined) return [`${type} is not documented`]
    if (
      at(operation, 'responses', String(status), 'headers', 'retry-after') === undefined &&
      headers['retry-after']
    )
      return ['retry-after is not documented']
    if (!/json/.test(type)) return []
    const pointer = [
      'paths',
      path,
      method.toLowerCase(),
      'responses',
      String(status),
      'content',
      type,
      'schema',
    ]
      .map((token) => encodeURIComponent(token.replaceAll('~', '~0').replaceAll('/', '~1')))
      .join('/')
    const validate = this.#validator(`document#/${pointer}`)
    return validate(body) ? [] : [this.#ajv.errorsText(validate.errors)]
  }

  #pathOf(url: string): string | undefined {
    const [path = ''] = url.split('?')
    const paths = Object.keys(Object(at(this.#document, 'paths')))
    return paths.find((template) => new RegExp(`^${template.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(path))
  }

  #validator($ref: string): ValidateFunction {
    const known = this.#validators.get($ref)
    if (known !== undefined) return known
    const compiled = this.#ajv.compile({ $ref })
    this.#validators.set($ref, compiled)
    return compiled
  }
}

const FORMATS: NonNullable<Options['formats']> = {
  int32: true,
  int64: true,
  double: true,
  'date-time': isTimestamp,
  [SIGNED_TIME]: isTimestamp,
  uri: (text: string) => URL.canParse(text),
  'uri-reference': (text: string) => /^[!-~]+$/.test(text) && URL.canParse(text, 'http://host/'),
}

/** Starts an app that has read its runtime's list. What it may still hold dies with the test. */
export async function runningApp(t: Test, env: Env = {}, parts: Parts = {}): Promise<RunningApp> {
  const texts = Object.entries(env).map(([name, value]) => [name, String(value)])
  const reading = readConfig(Object.fromEntries(texts))
  if ('mistakes' in reading) throw new Error(reading.mistakes.join('; '))
  if (reading.warnings.length > 0) throw new Error(reading.warnings.join('; '))
  const app = await buildApp(reading.config, parts)
  t.teardown(async () => {
    app.server.closeAllConnections()
    await app.close()
  })
  await app.ready()
  return new RunningApp(t, app)
}

/** A logger and the lines that it wrote. */
export function recordingLogger() {
  const lines: Record<string, unknown>[] = []
  const write = (line: string) => {
    lines.push(JSON.parse(line))
  }
  return {
    lines,
    logger: pino({ level: 'trace', base: null, serializers: { err: serializeError } }, { write }),
  }
}

export const manifest = (changes: object = {}): Record<string, unknown> => ({
  worker_id: 'w1',
  parent_id: null,
  depth: 0,
  state_snapshot: { goal: 'count to ten' },
  issued_at: '2026-01-06T09:30:00.123456+00:00',
  resources: { cpu_limit: 0.5, memory_limit_mb: 256 },
  signature: 'signed',
  ...changes,
})

/** A connection, on which anything can be said. */
export class RawConnection {
  readonly socket: Socket
  text = ''
  readonly #closed: Promise<unknown>

  constructor(t: Test, port: number) {
    this.socket = connect({ port, host: '127.0.0.1' })
    this.socket.on('error', () => {})
    this.socket.setEncoding('latin1')
    this.socket.on('data', (chunk: string) => {
      this.text += chunk
    })
    this.#closed = once(this.socket, 'close')
    t.teardown(() => this.socket.destroy())
  }

  say(text: string | Buffer): this {
    this.socket.write(text)
    return this
  }

  /** All that came, once it contains this. */
  async until(expected: string | RegExp): Promise<string> {
    const found = () =>
      typeof expected === 'string' ? this.text.includes(expected) : expected.test(this.text)
    while (!found()) {
      if (this.socket.closed) throw new Error(`closed before ${expected} came, after ${this.text}`)
      await Promise.race([once(this.socket, 'data'), this.#closed])
    }
    return this.text
  }

  /** All that came, once the other side has closed. */
  async closed(): Promise<string> {
    await this.#closed
    return this.text
  }

  /** The answers among what came, in order. */
  answers(): Answer[] {
    const answers: Answer[] = []
    for (let rest = this.text; rest !== ''; ) {
      const end = rest.indexOf('\r\n\r\n')
      const [statusLine = '', ...lines] = rest.slice(0, end).split('\r\n')
      const headers = Object.fromEntries(
        lines.map((line) => [
          line.slice(0, line.indexOf(':')).toLowerCase(),
          line.slice(line.indexOf(':') + 1).trim(),
        ]),
      )
      const length = Number(headers['content-length'] ?? rest.length)
      const text = rest.slice(end + 4, end + 4 + length)
      const status = Number(statusLine.split(' ')[1])
      if (status >= 200) {
        const body = /json/.test(headers['content-type'] ?? '') ? JSON.parse(text) : undefined
        answers.push({ status, headers, text, body })
      }
      rest = status < 200 ? rest.slice(end + 4) : rest.slice(end + 4 + length)
    }
    return answers
  }
}

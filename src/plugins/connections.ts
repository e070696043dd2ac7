import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import type { FastifyBaseLogger, FastifyInstance, FastifyReply } from 'fastify'
import { PROBLEMS, type ProblemCode } from '../../schemas/problem.ts'
import { OrchestratorError } from '../orchestrator/errors.ts'
import { problemOf } from './problems.ts'
import { requestIdOf } from './request-id.ts'
import { SECURITY_HEADERS } from './security-headers.ts'

/** Refusals of what never became a request, written straight to the connection. */
const CONNECTION_CODES: Readonly<Record<string, ProblemCode>> = {
  HPE_HEADER_OVERFLOW: 'headers_too_large',
  ERR_HTTP_REQUEST_TIMEOUT: 'request_timeout',
}

const CONNECTION_DETAILS: Partial<Readonly<Record<ProblemCode, string>>> = {
  headers_too_large: 'request line and headers are longer than 16 KiB together',
  request_timeout: 'the request did not arrive in time: send its headers and body without pauses',
}

/** A client that does not close is cut off after this; until then, what it still sends must not reset the answer. */
const LINGER_MS = 1000

/** The latest request of each connection, by its reply: an error of the connection may concern it. */
const latest = new WeakMap<Duplex, FastifyReply>()
const refused = new WeakSet<Duplex>()

/** What an answer tells of the request that it refuses. */
type Refused = Pick<IncomingMessage, 'headers'> & { readonly url?: string | undefined }

const UNREADABLE: Refused = { headers: {} }

interface RawAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | number>>
  readonly body: string
}

function rawProblem(
  code: ProblemCode,
  detail: string,
  { headers: sent, url = '/' }: Refused,
  id = requestIdOf({ headers: sent }),
): RawAnswer {
  const body = JSON.stringify(problemOf(new OrchestratorError(code, detail), url))
  const headers = {
    ...SECURITY_HEADERS,
    'x-request-id': id,
    'content-type': 'application/problem+json',
    'content-length': Buffer.byteLength(body),
    connection: 'close',
  }
  return { status: PROBLEMS[code].status, headers, body }
}

function sendRaw(socket: Duplex, { status, headers, body }: RawAnswer): void {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join('')}\r\n${body}`)
  const cut = setTimeout(() => socket.destroy(), LINGER_MS).unref()
  socket.once('close', () => clearTimeout(cut))
}

/** The request line alone may be what is too long. */
const isLongRequestLine = (error: Error): boolean => {
  if (!('rawPacket' in error) || !Buffer.isBuffer(error.rawPacket)) return false
  const line = error.rawPacket.subarray(0, 16 * 1024).toString('latin1')
  return /^[A-Z]+ \//.test(line) && !line.includes('\r\n')
}

function connectionCode(error: Error & { code?: string }): ProblemCode {
  const code = CONNECTION_CODES[error.code ?? ''] ?? 'request_invalid'
  return code === 'headers_too_large' && isLongRequestLine(error) ? 'uri_too_long' : code
}

/** For Fastify's `clientErrorHandler`: what never became a request, or not a whole one. */
export function refuseConnection(
  this: FastifyInstance,
  error: Error & { code?: string },
  socket: Duplex,
): void {
  // What goes on coming after the first error is an error each time.
  if (error.code === 'ECONNRESET' || socket.destroyed || refused.has(socket)) return
  refused.add(socket)
  const reply = latest.get(socket)
  const isWhole = reply === undefined || reply.request.raw.complete
  const isAnswered = reply === undefined || reply.raw.writableEnded
  if (isWhole && isAnswered) sendRefusal(this.log, error, socket)
  else if (isWhole) reply?.raw.once('finish', () => sendRefusal(this.log, error, socket))
  else if (reply?.raw.headersSent) socket.destroy()
  else sendRefusal(this.log, error, socket, reply)
}

function sendRefusal(
  log: FastifyBaseLogger,
  error: Error & { code?: string },
  socket: Duplex,
  reply?: FastifyReply,
): void {
  if (!socket.writable) {
    socket.destroy()
    return
  }
  const code = connectionCode(error)
  const detail = CONNECTION_DETAILS[code] ?? `not an HTTP request that can be understood: ${error.message}`
  const answer = rawProblem(code, detail, reply?.request.raw ?? UNREADABLE, reply?.request.id)
  // A request that Fastify knows has a line of its own when its connection closes.
  if (reply === undefined)
    log.info({ request_id: answer.headers['x-request-id'], status: answer.status, code }, 'request')
  sendRaw(socket, answer)
}

function refuseExpectation(request: IncomingMessage, response: ServerResponse): void {
  const detail = `expect: ${request.headers.expect} cannot be met: only 100-continue is`
  const { status, headers, body } = rawProblem('expectation_failed', detail, request)
  response.writeHead(status, headers).end(body)
}

function refuseTunnel(request: IncomingMessage, socket: Duplex): void {
  // Nobody else listens any more, and an error that nobody hears ends the process.
  socket.on('error', () => socket.destroy())
  socket.resume()
  const detail = 'CONNECT is not allowed: this is no proxy'
  const { status, headers, body } = rawProblem('method_not_allowed', detail, { headers: request.headers })
  sendRaw(socket, { status, headers: { ...headers, allow: 'GET, HEAD, POST, DELETE' }, body })
}

/** What Node answers by itself, or not at all, is answered as every other refusal is. */
export function connectionRefusals(app: FastifyInstance): void {
  app.server.on('checkExpectation', refuseExpectation)
  app.server.on('connect', refuseTunnel)
  app.addHook('onRequest', (request, reply, done) => {
    latest.set(request.raw.socket, reply)
    done()
  })
}

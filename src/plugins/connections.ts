import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { PROBLEMS, type ProblemCode } from '../../schemas/problem.ts'
import { OrchestratorError } from '../orchestrator/errors.ts'
import { problemOf } from './problems.ts'
import { newRequestId } from './request-id.ts'
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

function rawProblem(code: ProblemCode, detail: string): string {
  const body = JSON.stringify(problemOf(new OrchestratorError(code, detail), '/'))
  const { status } = PROBLEMS[code]
  const headers = {
    ...SECURITY_HEADERS,
    'x-request-id': newRequestId(),
    'content-type': 'application/problem+json',
    'content-length': Buffer.byteLength(body),
    connection: 'close',
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  return `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join('')}\r\n${body}`
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

/** For Fastify's `clientErrorHandler`: what never became a request. */
export function refuseConnection(error: Error & { code?: string }, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return
  const code = connectionCode(error)
  const detail = CONNECTION_DETAILS[code] ?? `not an HTTP request that can be understood: ${error.message}`
  if (socket.writable) socket.end(rawProblem(code, detail))
  else socket.destroy()
}

function refuseExpectation(request: IncomingMessage, response: ServerResponse): void {
  const detail = `expect: ${request.headers.expect} cannot be met: only 100-continue is`
  response.shouldKeepAlive = false
  response.socket?.end(rawProblem('expectation_failed', detail))
}

/** What Node answers by itself, or not at all, is answered as every other refusal is. */
export function connectionRefusals(app: FastifyInstance): void {
  app.server.on('checkExpectation', refuseExpectation)
  app.server.on('connect', (_request: IncomingMessage, socket: Duplex) => {
    socket.end(rawProblem('method_not_allowed', 'CONNECT is not allowed: this is no proxy'))
  })
}

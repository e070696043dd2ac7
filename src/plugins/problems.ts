import type { IncomingMessage } from 'node:http'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { PROBLEMS, type Problem, type ProblemCode } from '../../schemas/problem.ts'
import { OrchestratorError } from '../orchestrator/errors.ts'
import { SECURITY_HEADERS } from './security-headers.ts'

/** What Fastify itself refuses, by its codes. */
const FRAMEWORK_CODES: Readonly<Record<string, ProblemCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'body_too_large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
  FST_ERR_MAX_PARAM_LENGTH: 'uri_too_long',
}

const TOO_LARGE = 'the body is larger than BODY_LIMIT_BYTES allows: send less, or raise it'

/** A URI reference, whatever the client's path holds. */
const instanceOf = (url: string): string => {
  const [path = '/'] = url.split(/[?#]/, 1)
  return path.toWellFormed().replace(/[^!-~]|["<>\\^`{|}]|%(?![\dA-Fa-f]{2})/g, encodeURIComponent)
}

const isFastifyError = (error: unknown): error is FastifyError =>
  error instanceof Error && 'code' in error && typeof error.code === 'string'

/** The error that any thrown thing is for a client; what is not expected is `internal_error` and shows nothing. */
export function refusalOf(error: unknown): OrchestratorError {
  if (error instanceof OrchestratorError) return error
  if (isFastifyError(error) && error.statusCode !== undefined && error.statusCode < 500) {
    const code = FRAMEWORK_CODES[error.code] ?? 'request_invalid'
    return new OrchestratorError(code, code === 'body_too_large' ? TOO_LARGE : error.message)
  }
  return new OrchestratorError(
    'internal_error',
    'the service failed; its log says more under this x-request-id',
    {
      cause: error,
    },
  )
}

export function problemOf(error: OrchestratorError, url: string): Problem {
  const { status, title } = PROBLEMS[error.code]
  return {
    type: `urn:sandbox-orchestrator:problem:${error.code}`,
    title,
    status,
    detail: error.message,
    instance: instanceOf(url),
    code: error.code,
    ...(error.mistakes !== undefined && { errors: [...error.mistakes] }),
    ...(error.report !== undefined && { report: error.report }),
    ...(error.obstacles !== undefined && { reasons: [...error.obstacles] }),
  }
}

function sendProblem(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const refusal = refusalOf(error)
  const { status, retryAfter } = PROBLEMS[refusal.code]
  if (status >= 500 && refusal.cause !== undefined) {
    request.log.error({ request_id: request.id, code: refusal.code, err: refusal.cause }, refusal.message)
  }
  if (retryAfter !== undefined) reply.header('retry-after', retryAfter)
  // As a buffer: with a text Fastify would add a charset, which this media type does not have (RFC 9457, section 6.1).
  const body = Buffer.from(JSON.stringify(problemOf(refusal, request.originalUrl)))
  return reply.code(status).type('application/problem+json').send(body)
}

/** The methods under which this path is a route. */
const allowedMethods = (app: FastifyInstance, path: string): string[] =>
  app.supportedMethods.filter((method) => app.findRoute({ url: path, method }) !== null)

function refuseRoute(app: FastifyInstance, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const [path = '/'] = request.url.split('?', 1)
  const allowed = allowedMethods(app, path)
  // Where the method is allowed, the route itself found nothing.
  if (allowed.length === 0 || allowed.includes(request.method)) {
    const detail = `${instanceOf(request.originalUrl)} is no route; GET /openapi.yaml lists them`
    return sendProblem(new OrchestratorError('route_not_found', detail), request, reply)
  }
  reply.header('allow', allowed.join(', '))
  const detail = `${request.method} is not allowed here; allowed: ${allowed.join(', ')}`
  return sendProblem(new OrchestratorError('method_not_allowed', detail), request, reply)
}

/** So much of a body that is too large is taken before its client is cut off. */
const MAX_DRAINED_BYTES = 16 * 1024 * 1024

/** Whoever still sends when the connection is closed takes it for broken, and never reads why. */
function drain(request: IncomingMessage): Promise<void> {
  return new Promise((resolve) => {
    let taken = 0
    const take = (chunk: Buffer) => {
      taken += chunk.length
      if (taken > MAX_DRAINED_BYTES) resolve()
    }
    if (request.complete || request.destroyed) resolve()
    else request.on('data', take).once('end', resolve).once('close', resolve)
  })
}

/** Every refusal, the framework's own included, becomes an RFC 9457 problem here. */
export function problems(app: FastifyInstance): void {
  app.setErrorHandler(async (error, request, reply) => {
    // Fastify's word on a QUERY without a content type, whether or not there is such a route: there is none.
    if (isFastifyError(error) && error.code === 'FST_ERR_ROUTE_MISSING_CONTENT_TYPE') {
      return refuseRoute(app, request, reply)
    }
    if (refusalOf(error).code === 'body_too_large') await drain(request.raw)
    return sendProblem(error, request, reply)
  })
  app.setNotFoundHandler((request, reply) => refuseRoute(app, request, reply))
}

/** For Fastify's `frameworkErrors`: what fails before any hook runs, so its headers are set here. */
export function refuseEarly(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  reply.headers(SECURITY_HEADERS).header('x-request-id', request.id)
  sendProblem(error, request, reply)
}

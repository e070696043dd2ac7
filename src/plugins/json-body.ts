import type { IncomingMessage } from 'node:http'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type JsonBody, parseJsonBody } from '../manifest/json-body.ts'
import { OrchestratorError } from '../orchestrator/errors.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * What a route makes of a body. `json` (as by default): only `application/json`. `any-type`: JSON, whatever the
     * content type says. `none`: there must be none. `ignored`: whatever it is, it is dropped; for kills, which no
     * body may stop.
     */
    body?: 'json' | 'any-type' | 'none' | 'ignored'
  }
}

/** A body that is no JSON, and why. What it should have been is its route's to say. */
export class MalformedBody {
  readonly detail: string
  constructor(detail: string) {
    this.detail = detail
  }
}

const JSON_ONLY = 'application/json'
/** Types that no client sends: each names a parser. */
const ANY_TYPE = 'application/x-any'
const NONE = 'application/x-none'
const IGNORED = 'application/x-ignored'
const NOT_JSON = 'application/x-not-json'

function parse(bytes: Buffer): JsonBody | MalformedBody | undefined {
  if (bytes.length === 0) return undefined
  try {
    return parseJsonBody(bytes)
  } catch (error) {
    if (error instanceof SyntaxError) return new MalformedBody(error.message)
    throw error
  }
}

const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0

function parserFor({ raw, routeOptions, is404 }: FastifyRequest): string {
  // A route that is none says so, whatever was sent to it.
  const treatment = is404 ? 'ignored' : routeOptions.config.body
  if (treatment === 'any-type') return ANY_TYPE
  if (treatment === 'none') return NONE
  if (treatment === 'ignored') return IGNORED
  const [mediaType = ''] = (raw.headers['content-type'] ?? '').split(';', 1)
  return mediaType.trim().toLowerCase() === JSON_ONLY ? JSON_ONLY : NOT_JSON
}

/** Fastify chooses the parser by this header, and refuses what is no media type before any parser sees it. */
function chooseParser(request: FastifyRequest): void {
  const { raw } = request
  if (hasBody(raw)) raw.headers['content-type'] = parserFor(request)
  else delete raw.headers['content-type']
}

/** Refuses at the first byte: an empty body is none, and only what came shows which it is. */
function expectNothing(
  payload: IncomingMessage,
  done: (error: Error | null) => void,
  refusal: () => Error,
): void {
  const refuse = () => {
    payload.off('end', accept)
    payload.resume()
    done(refusal())
  }
  const accept = () => {
    payload.off('data', refuse)
    done(null)
  }
  payload.once('data', refuse).once('end', accept)
}

/** Bodies arrive as {@link JsonBody}, with the text that was sent; an empty body is none, whatever its type. */
export function jsonBody(app: FastifyInstance): void {
  app.addHook('onRequest', (request, _reply, done) => {
    chooseParser(request)
    done()
  })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(ANY_TYPE, { parseAs: 'buffer' }, (_request, bytes: Buffer, done) => {
    done(null, parse(bytes))
  })
  app.addContentTypeParser(JSON_ONLY, { parseAs: 'buffer' }, (request, bytes: Buffer, done) => {
    const coding = request.headers['content-encoding'] ?? 'identity'
    if (bytes.length === 0 || coding.toLowerCase() === 'identity') done(null, parse(bytes))
    else {
      const detail = `content-encoding ${coding} is not understood: send it plain`
      done(new OrchestratorError('unsupported_media_type', detail))
    }
  })
  app.addContentTypeParser(IGNORED, (_request, payload, done) => {
    payload.resume()
    done(null)
  })
  app.addContentTypeParser(NONE, (_request, payload, done) => {
    expectNothing(
      payload,
      done,
      () => new OrchestratorError('request_invalid', 'this route takes no body: send none'),
    )
  })
  app.addContentTypeParser(NOT_JSON, (_request, payload, done) => {
    expectNothing(
      payload,
      done,
      () =>
        new OrchestratorError('unsupported_media_type', 'the body is not application/json: send it as that'),
    )
  })
}

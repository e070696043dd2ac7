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

const NONE = 'application/x-none'
const IGNORED = 'application/x-ignored'

function parse(bytes: Buffer): JsonBody | MalformedBody | undefined {
  if (bytes.length === 0) return undefined
  try {
    return parseJsonBody(bytes)
  } catch (error) {
    if (error instanceof SyntaxError) return new MalformedBody(error.message)
    throw error
  }
}

/** Fastify chooses the parser by this header, and refuses what is no media type before any parser sees it. */
function chooseParser({ raw, routeOptions }: FastifyRequest): void {
  const treatment = routeOptions.config.body
  if (treatment === 'any-type') raw.headers['content-type'] = 'application/json'
  else if (treatment === 'none') raw.headers['content-type'] = NONE
  else if (treatment === 'ignored') raw.headers['content-type'] = IGNORED
  else if (raw.headers['content-length'] === '0') delete raw.headers['content-type']
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
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, bytes: Buffer, done) => {
    const coding = request.headers['content-encoding']
    if (coding === undefined || coding === 'identity') done(null, parse(bytes))
    else
      done(
        new OrchestratorError(
          'unsupported_media_type',
          `content-encoding ${coding} is not understood: send it plain`,
        ),
      )
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
  app.addContentTypeParser('*', (request, payload, done) => {
    const type = request.headers['content-type'] ?? 'missing'
    const refusal = () =>
      new OrchestratorError('unsupported_media_type', `content-type is ${type}: send application/json`)
    expectNothing(payload, done, refusal)
  })
}

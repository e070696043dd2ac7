import type { FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { EventLog } from '../orchestrator/event-log.ts'

export interface EndedRequest {
  readonly method: string
  /** The template; null where it is no route. */
  readonly route: string | null
  readonly status: number
  readonly seconds: number
}

const endedRequest = (request: FastifyRequest, reply: FastifyReply): EndedRequest => ({
  method: request.method,
  route: request.routeOptions.url ?? null,
  status: reply.raw.statusCode,
  seconds: reply.elapsedTime / 1000,
})

const milliseconds = (seconds: number) => Math.round(seconds * 1e6) / 1000

/** One line a request, under the request's id, also where its client went away; `onEnd` hears of each too. */
export function requestLog(app: FastifyInstance, onEnd: (request: EndedRequest) => void): void {
  app.addHook('onRequest', (request, reply, done) => {
    // Not in `onResponse`, which is not called where the client left before the answer.
    reply.raw.once('close', () => {
      const ended = endedRequest(request, reply)
      const { method, route, status, seconds } = ended
      const line = { request_id: request.id, method, route, status, duration_ms: milliseconds(seconds) }
      app.log.info(reply.raw.writableFinished ? line : { ...line, aborted: true }, 'request')
      onEnd(ended)
    })
    done()
  })
}

/** One line an event, under the id of the request that made it happen. */
export function eventLogLines(events: EventLog, log: FastifyBaseLogger): void {
  events.subscribe(({ name, seq, timestamp, fields }, { requestId }) => {
    const request = requestId === undefined ? undefined : { request_id: requestId }
    log.info({ ...request, event: name, seq, timestamp, ...fields }, name)
  })
}

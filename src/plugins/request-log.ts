import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import type { EventLog } from '../orchestrator/event-log.ts'

/** One line a request, under the request's id. */
export function requestLog(app: FastifyInstance): void {
  app.addHook('onResponse', (request, reply, done) => {
    const line = {
      request_id: request.id,
      method: request.method,
      route: request.routeOptions.url ?? null,
      status: reply.statusCode,
      duration_ms: Math.round(reply.elapsedTime * 1000) / 1000,
    }
    app.log.info(line, 'request')
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

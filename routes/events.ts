import type { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { EventPageText, EventsHeaders, EventsQuery } from '../schemas/event.ts'
import { JsonText } from '../schemas/references.ts'
import { refusals } from '../schemas/refusals.ts'
import type { EventLog } from '../src/orchestrator/event-log.ts'
import { isStreamWanted } from '../src/streams/accept.ts'
import { type EventStreams, resumePoint } from '../src/streams/event-stream.ts'

interface Needs {
  readonly events: EventLog
  readonly streams: EventStreams
}

/** Text on the wire, written as it is read. */
const StreamText = Type.Unsafe<Readable | ''>({ type: 'string' })

export const events: FastifyPluginAsyncTypebox<Needs> = async (app, { events: log, streams }) => {
  app.get(
    '/events',
    {
      links: {
        200: { next: { operationId: 'listEvents', parameters: { after: '$response.body#/next_after' } } },
      },
      schema: {
        operationId: 'listEvents',
        summary: 'Read what happened, or follow it with Accept: text/event-stream',
        tags: ['events'],
        querystring: EventsQuery,
        headers: EventsHeaders,
        response: {
          200: {
            description: 'A page; or a stream, each event with `seq` as its id.',
            content: {
              'application/json': { schema: EventPageText },
              'text/event-stream': { schema: StreamText },
            },
          },
          ...refusals('request_invalid', 'events_expired'),
        },
      },
    },
    async ({ method, headers, query: { after, limit = 100, worker_id, event } }, reply) => {
      const filter = { workerId: worker_id, name: event }
      if (isStreamWanted(headers.accept)) {
        const resumeAfter = resumePoint(headers['last-event-id'], after)
        reply.type('text/event-stream')
        return method === 'HEAD' ? '' : streams.open(resumeAfter, filter)
      }
      return new JsonText(log.page(after, limit, filter))
    },
  )
}

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { KillAllQuery, KillAllRequest, KillReport } from '../schemas/kill.ts'
import { ref } from '../schemas/references.ts'
import { refusals } from '../schemas/refusals.ts'
import type { Orchestrator } from '../src/orchestrator/orchestrator.ts'

interface Needs {
  readonly orchestrator: Orchestrator
  /** Of a body, in bytes; a kill is not refused for its text, so not less than any sane one. */
  readonly bodyLimit: number
}

export const killAll: FastifyPluginAsyncTypebox<Needs> = async (app, { orchestrator, bodyLimit }) => {
  app.post(
    '/kill-all',
    {
      bodyLimit,
      config: { body: 'any-type', urgent: true },
      schema: {
        operationId: 'killAll',
        summary: 'Kill every worker, and answer when all are dead',
        description:
          'A barrier: until it has answered, nothing is launched. One that comes while one runs joins it.',
        tags: ['kill-all'],
        querystring: KillAllQuery,
        body: ref(KillAllRequest),
        response: {
          200: { ...ref(KillReport), description: 'Nothing of ours lives.' },
          ...refusals('request_invalid', 'body_too_large', 'kill_unconfirmed'),
        },
      },
    },
    ({ body, query, id }) => orchestrator.killAll(body.reason ?? query.reason, { requestId: id }),
  )
}

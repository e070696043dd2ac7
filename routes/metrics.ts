import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Registry } from 'prom-client'
import { Type } from 'typebox'
import { NoQuery } from '../schemas/no-query.ts'
import { refusals } from '../schemas/refusals.ts'

const MetricsText = Type.String({ examples: ['sandbox_workers{status="running"} 2'] })

export const metrics: FastifyPluginAsyncTypebox<{ registry: Registry }> = async (app, { registry }) => {
  app.get(
    '/metrics',
    {
      schema: {
        operationId: 'metrics',
        summary: 'Metrics, as Prometheus reads them',
        tags: ['service'],
        querystring: NoQuery,
        response: {
          200: {
            description: 'Text exposition format.',
            content: { 'text/plain': { schema: MetricsText } },
          },
          ...refusals('request_invalid'),
        },
      },
    },
    async (_request, reply) => {
      reply.type(registry.contentType)
      return registry.metrics()
    },
  )
}

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Registry } from 'prom-client'
import { refusals } from '../schemas/refusals.ts'

export const metrics: FastifyPluginAsyncTypebox<{ registry: Registry }> = async (app, { registry }) => {
  app.get(
    '/metrics',
    {
      schema: {
        operationId: 'metrics',
        summary: 'Metrics, as Prometheus reads them',
        tags: ['service'],
        response: {
          200: {
            description: 'Text exposition format.',
            content: { 'text/plain': { schema: { type: 'string' } } },
          },
          ...refusals(),
        },
      },
    },
    async (_request, reply) => {
      reply.type(registry.contentType)
      return registry.metrics()
    },
  )
}

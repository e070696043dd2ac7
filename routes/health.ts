import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Health, Ready } from '../schemas/health.ts'
import { NoQuery } from '../schemas/no-query.ts'
import { ref } from '../schemas/references.ts'
import { refusals } from '../schemas/refusals.ts'
import type { Orchestrator } from '../src/orchestrator/orchestrator.ts'

interface Needs {
  readonly orchestrator: Orchestrator
  readonly version: string
}

const tags = ['service']

export const health: FastifyPluginAsyncTypebox<Needs> = async (app, { orchestrator, version }) => {
  app.get(
    '/health',
    {
      schema: {
        operationId: 'health',
        summary: 'Does the process live?',
        tags,
        querystring: NoQuery,
        response: { 200: { ...ref(Health), description: 'It does.' }, ...refusals('request_invalid') },
      },
    },
    async () => ({
      status: 'ok',
      version,
      driver: orchestrator.driverName,
      workers: { ...orchestrator.counts },
    }),
  )

  app.get(
    '/ready',
    {
      schema: {
        operationId: 'ready',
        summary: 'Would a launch be accepted?',
        description: 'It says no more: a kill works whatever this answers.',
        tags,
        querystring: NoQuery,
        response: {
          200: { ...ref(Ready), description: 'It would.' },
          ...refusals('request_invalid', 'not_ready'),
        },
      },
    },
    async () => {
      orchestrator.checkReady()
      return { ready: true as const }
    },
  )
}

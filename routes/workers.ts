import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { EnforcementReport } from '../schemas/enforcement.ts'
import { KillQuery, KillReport } from '../schemas/kill.ts'
import { Manifest } from '../schemas/manifest.ts'
import { NoQuery } from '../schemas/no-query.ts'
import { JsonText, ref } from '../schemas/references.ts'
import { refusals } from '../schemas/refusals.ts'
import {
  ContainerRecordText,
  LaunchQuery,
  ListQuery,
  WorkerPageText,
  WorkerParams,
} from '../schemas/worker.ts'
import type { AcceptedManifest } from '../src/manifest/manifest.ts'
import type { Orchestrator } from '../src/orchestrator/orchestrator.ts'

/** On the wire a Manifest; the handler gets it with the text that was signed. */
const ManifestBody = Type.Unsafe<AcceptedManifest>(Type.Ref(Manifest.$id))

const Location = Type.String({ description: 'The path of its record.', examples: ['/workers/w1'] })

const tags = ['workers']

/** What can be done with a worker that was launched. */
const parameters = { id: '$request.body#/worker_id' }
const links = {
  get: { operationId: 'getWorker', parameters },
  enforce: { operationId: 'enforceResourceBounds', parameters },
  kill: { operationId: 'killWorker', parameters },
}

export const workers: FastifyPluginAsyncTypebox<{ orchestrator: Orchestrator }> = async (
  app,
  { orchestrator },
) => {
  app.post(
    '/workers',
    {
      links: { 200: links, 201: links },
      schema: {
        operationId: 'launchWorker',
        summary: 'Launch a worker, and answer when it runs inside its limits',
        description: 'Send the same manifest again to learn what became of it: it is never launched twice.',
        tags,
        querystring: LaunchQuery,
        body: ManifestBody,
        response: {
          200: { ...ContainerRecordText, description: 'Exactly this manifest runs already.' },
          201: { ...ContainerRecordText, description: 'It runs.', headers: { location: Location } },
          ...refusals(
            'manifest_invalid',
            'limit_not_enforceable',
            'request_invalid',
            'worker_exists',
            'worker_killed',
            'body_too_large',
            'unsupported_media_type',
            'kill_all_in_progress',
            'launch_failed',
            'capacity_exhausted',
            'runtime_unavailable',
            'shutting_down',
            'launch_timeout',
            'kill_unconfirmed',
          ),
        },
      },
    },
    async (request, reply) => {
      const { created, record } = await orchestrator.launch(request.body, request.query, {
        requestId: request.id,
      })
      if (created) reply.code(201).header('location', `/workers/${record.workerId}`)
      return new JsonText(record.toJson())
    },
  )

  app.get(
    '/workers',
    {
      schema: {
        operationId: 'listWorkers',
        summary: 'List workers in the order in which their launches were accepted',
        tags,
        querystring: ListQuery,
        response: { 200: { ...WorkerPageText, description: 'A page.' }, ...refusals('request_invalid') },
      },
    },
    async ({ query: { status, parent_id, limit = 100, cursor } }) => {
      const { items, nextCursor } = orchestrator.list({ status, parentId: parent_id, limit, cursor })
      return new JsonText(`{"items":[${items.join(',')}],"next_cursor":${JSON.stringify(nextCursor)}}`)
    },
  )

  app.get(
    '/workers/:id',
    {
      schema: {
        operationId: 'getWorker',
        summary: 'Look at a worker, also at one that has ended',
        tags,
        params: WorkerParams,
        querystring: NoQuery,
        response: {
          200: { ...ContainerRecordText, description: 'Its record.' },
          ...refusals('request_invalid', 'worker_not_found'),
        },
      },
    },
    async ({ params: { id } }) => new JsonText(orchestrator.get(id).toJson()),
  )

  app.delete(
    '/workers/:id',
    {
      config: { body: 'ignored', urgent: true },
      schema: {
        operationId: 'killWorker',
        summary: 'Kill a worker at once, and answer when it is dead',
        description: 'No signal that it could catch, no grace. Safe to repeat.',
        tags,
        params: WorkerParams,
        querystring: KillQuery,
        response: {
          200: { ...ref(KillReport), description: 'Everything named is dead.' },
          ...refusals('request_invalid', 'worker_not_found', 'kill_unconfirmed'),
        },
      },
    },
    ({ params, query, id }) => orchestrator.kill(params.id, query, { requestId: id }),
  )

  app.post(
    '/workers/:id/enforce',
    {
      config: { body: 'none' },
      schema: {
        operationId: 'enforceResourceBounds',
        summary: 'Read back what the runtime applies to a worker, and repair what differs',
        description: 'Where a limit differs after the repair, the worker is killed.',
        tags,
        params: WorkerParams,
        querystring: NoQuery,
        response: {
          200: { ...ref(EnforcementReport), description: 'What was found, and what holds now.' },
          ...refusals('request_invalid', 'worker_not_found', 'worker_not_running', 'runtime_unavailable'),
        },
      },
    },
    ({ params, id }) => orchestrator.enforce(params.id, { requestId: id }),
  )
}

import swagger, { type SwaggerTransformObject } from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import { stringify } from 'yaml'
import { Drift, EnforcementReport, LimitValue, ObservedLimits, Usage } from '../../schemas/enforcement.ts'
import { Event, EventPage } from '../../schemas/event.ts'
import { Health, Ready, WorkerCounts } from '../../schemas/health.ts'
import { KillAllRequest, KillFailure, KillReport } from '../../schemas/kill.ts'
import { Manifest, NetworkPolicy, ResourceSpec } from '../../schemas/manifest.ts'
import { Mistake, Obstacle, Problem } from '../../schemas/problem.ts'
import {
  ContainerRecord,
  EffectiveNetworkPolicy,
  EffectiveResourceSpec,
  WorkerPage,
} from '../../schemas/worker.ts'
import { SECURITY_HEADERS } from './security-headers.ts'

const COMPONENTS = [
  NetworkPolicy,
  ResourceSpec,
  Manifest,
  EffectiveNetworkPolicy,
  EffectiveResourceSpec,
  ContainerRecord,
  WorkerPage,
  KillFailure,
  KillReport,
  KillAllRequest,
  ObservedLimits,
  Usage,
  LimitValue,
  Drift,
  EnforcementReport,
  Event,
  EventPage,
  Mistake,
  Obstacle,
  Problem,
  WorkerCounts,
  Health,
  Ready,
]

const DESCRIPTION = `Launches, bounds and kills the sandboxes in which AI agent workers run.

Request schemas are closed: an unknown member is refused. Answer schemas are open: expect new members, and new values of
\`status\`, \`cause\`, \`event\` and \`code\`. Every refusal is a Problem (RFC 9457); decide by its \`code\`.`

/** The document, written from the routes as they are registered after this. */
export async function openapi(app: FastifyInstance, version: string): Promise<void> {
  for (const schema of COMPONENTS) app.addSchema(schema)
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'sandbox-orchestrator',
        description: DESCRIPTION,
        version,
        license: { name: 'MIT', identifier: 'MIT' },
      },
      servers: [{ url: '/', description: 'Where this document came from' }],
      security: [],
      tags: [
        { name: 'workers', description: 'Launch, look at, bound and kill workers' },
        { name: 'kill-all', description: 'The red button' },
        { name: 'events', description: 'What happened, in order' },
        { name: 'service', description: 'The service itself' },
      ],
    },
    transformObject,
    refResolver: {
      buildLocalReference: (json, _baseUri, _fragment, index) =>
        typeof json['$id'] === 'string' ? json['$id'] : `schema-${index}`,
    },
  })
  await app.register(pages)
}

/** The plugin calls every body required; a kill-all's may be missing. */
const transformObject: SwaggerTransformObject = (document) => {
  if ('swaggerObject' in document) return document.swaggerObject
  // A copy: its parts are what requests are validated by.
  const openapiObject = structuredClone(document.openapiObject)
  const body = openapiObject.paths?.['/kill-all']?.post?.requestBody
  if (body !== undefined && 'required' in body) body.required = false
  addNumberFormats(openapiObject)
  return openapiObject
}

/** Without them generated clients in Go and Java would take numbers for ones of 32 bits. */
function addNumberFormats(node: object): void {
  const { type, maximum } = { type: undefined, maximum: undefined, ...node }
  const format = numberFormat(type, maximum)
  if (format !== undefined) Object.assign(node, { format })
  for (const part of Object.values(node)) {
    if (typeof part === 'object' && part !== null) addNumberFormats(part)
  }
}

function numberFormat(type: unknown, maximum: unknown): string | undefined {
  if (type === 'number') return 'double'
  if (type !== 'integer') return undefined
  return typeof maximum === 'number' && maximum < 2 ** 31 ? 'int32' : 'int64'
}

/** In YAML, every part written out: not all who read it know aliases. */
export const yamlDocument = (app: FastifyInstance): string =>
  stringify(app.swagger(), { aliasDuplicateObjects: false })

/** Everything that the pages show comes from here: a containment plane may have no other host to ask. */
const PAGES_CSP = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

/** Swagger UI, under `/docs`. */
const pages: FastifyPluginAsync = async (app) => {
  app.addHook('onSend', (_request, reply, _payload, done) => {
    // Its files come with a header of their own.
    reply.header('cache-control', SECURITY_HEADERS['cache-control'])
    done()
  })
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    staticCSP: PAGES_CSP,
    uiConfig: { validatorUrl: null },
  })
}

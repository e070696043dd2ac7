import { Ajv, type ErrorObject } from 'ajv'
import type { FastifyInstance, FastifySchema } from 'fastify'
import type { FastifyRouteSchemaDef, FastifyValidationResult } from 'fastify/types/schema.js'
import { KillAllRequest } from '../../schemas/kill.ts'
import { Manifest } from '../../schemas/manifest.ts'
import type { Mistake } from '../../schemas/problem.ts'
import { OrchestratorError } from '../orchestrator/errors.ts'
import { readKillAllBody, readManifestBody } from './body-readers.ts'

/** How the body of each schema is read. A body that is to come back as it was sent can't be read by its schema alone. */
const BODY_READERS = new Map<string, typeof readManifestBody | typeof readKillAllBody>([
  [Manifest.$id, readManifestBody],
  [KillAllRequest.$id, readKillAllBody],
])

const ajv = new Ajv({ allErrors: true })

type Compiled = FastifyValidationResult

const result = (value: unknown) => (value instanceof OrchestratorError ? { error: value } : { value })

function compileBody(schema: object): Compiled {
  const reader = '$ref' in schema ? BODY_READERS.get(String(schema.$ref)) : undefined
  if (reader === undefined)
    throw new Error(`no reader for the body ${JSON.stringify(schema)}: add it to BODY_READERS`)
  return (body) => result(reader(body))
}

/** A path id that cannot be an id names no worker. */
function compileParams(schema: object): Compiled {
  const validate = ajv.compile(schema)
  return (params) =>
    validate(params)
      ? { value: params }
      : { error: new OrchestratorError('worker_not_found', 'this is no worker id, so no worker has it') }
}

const typeOf = (schema: unknown): unknown =>
  typeof schema === 'object' && schema !== null && 'type' in schema ? schema.type : undefined

/** Query values are text: only what reads as the wanted type becomes it, the rest is left for the schema to refuse. */
function fromText(type: unknown, text: unknown): unknown {
  if (typeof text !== 'string') return text
  if (type === 'integer' && /^\d+$/.test(text)) return Number(text)
  if (type === 'boolean' && (text === 'true' || text === 'false')) return text === 'true'
  return text
}

const EXPECTED: Readonly<Record<string, string>> = {
  integer: 'decimal digits',
  boolean: 'true or false',
  string: 'given once',
}

function queryMistake({ keyword, instancePath, params, message }: ErrorObject): Mistake {
  const pointer = (name: unknown) => `#${instancePath}${name === undefined ? '' : `/${String(name)}`}`
  if (keyword === 'additionalProperties') {
    return { detail: 'is no parameter of this route', pointer: pointer(params['additionalProperty']) }
  }
  if (keyword === 'type')
    return { detail: `must be ${EXPECTED[String(params['type'])]}`, pointer: pointer(undefined) }
  if (keyword === 'enum')
    return { detail: `must be one of ${params['allowedValues'].join(', ')}`, pointer: pointer(undefined) }
  return { detail: message ?? keyword, pointer: pointer(undefined) }
}

function compileQuery(schema: object): Compiled {
  const validate = ajv.compile(schema)
  const properties =
    'properties' in schema && typeof schema.properties === 'object' ? (schema.properties ?? {}) : {}
  const types = new Map(Object.entries(properties).map(([name, property]) => [name, typeOf(property)]))
  return (query: Record<string, unknown>) => {
    const value = Object.fromEntries(
      Object.entries(query).map(([name, text]) => [name, fromText(types.get(name), text)]),
    )
    if (validate(value)) return { value }
    const mistakes = (validate.errors ?? []).map(queryMistake)
    const told = mistakes.map(({ pointer, detail }) => `${pointer.slice(2)} ${detail}`).join('; ')
    return { error: new OrchestratorError('request_invalid', `query: ${told}`) }
  }
}

function compile({ schema, httpPart }: FastifyRouteSchemaDef<FastifySchema>): Compiled {
  switch (httpPart) {
    case 'body':
      return compileBody(schema)
    case 'params':
      return compileParams(schema)
    case 'querystring':
      return compileQuery(schema)
    default:
      // Headers are read by hand where one matters; their schema is for the document.
      return () => true
  }
}

/** Requests are held to their schemas without coercion; answers are open, so nothing is cut from them. */
export function validation(app: FastifyInstance): void {
  app.setValidatorCompiler(compile)
}

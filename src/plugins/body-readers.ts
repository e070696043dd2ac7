import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv'
import { KillAllRequest } from '../../schemas/kill.ts'
import { Manifest, NetworkPolicy, ResourceSpec, SIGNED_TIME } from '../../schemas/manifest.ts'
import type { Mistake } from '../../schemas/problem.ts'
import { type JsonBody, parseJsonBody, spellingMistakes } from '../manifest/json-body.ts'
import { pointerToken } from '../manifest/json-text.ts'
import {
  type AcceptedManifest,
  acceptedManifest,
  distinctMistakes,
  manifestMistakes,
} from '../manifest/manifest.ts'
import { isTimestamp } from '../manifest/timestamp.ts'
import { OrchestratorError } from '../orchestrator/errors.ts'
import { MalformedBody } from './json-body.ts'

/** Nothing is coerced, defaulted or removed, and every mistake is named. */
const ajv = new Ajv({ allErrors: true, formats: { [SIGNED_TIME]: isTimestamp } })
ajv.addSchema(NetworkPolicy).addSchema(ResourceSpec)
const isManifest = ajv.compile<Manifest>(Manifest)
const isKillAllRequest = ajv.compile<KillAllRequest>(KillAllRequest)

/** What the parser hands over for a route with a body; null where there was none. */
type Body = JsonBody | MalformedBody | null

const TYPE_NAMES: Readonly<Record<string, string>> = {
  object: 'an object',
  integer: 'an integer',
  null: 'null',
}

const TIMESTAMP = 'YYYY-MM-DDTHH:MM:SS[.fraction](Z|±HH:MM), a date that exists, upper case'

function detailOf({ keyword, params, message }: ErrorObject): string {
  switch (keyword) {
    case 'required':
      return 'is missing'
    case 'additionalProperties':
      return 'is not known here: leave it out'
    case 'type':
      return `must be ${TYPE_NAMES[String(params['type'])] ?? `a ${params['type']}`}`
    case 'not':
      return 'must not be None: the controller signs a missing parent so'
    case 'format':
      return `must be a time as ${TIMESTAMP}`
    default:
      return message ?? `does not hold: ${keyword}`
  }
}

function pointerOf({ keyword, instancePath, params }: ErrorObject): string {
  const place = instancePath
    .split('/')
    .map((token) => pointerToken(token.replaceAll('~1', '/').replaceAll('~0', '~')))
    .join('/')
  const member = { required: params['missingProperty'], additionalProperties: params['additionalProperty'] }[
    keyword
  ]
  return `#${place}${member === undefined ? '' : `/${pointerToken(String(member))}`}`
}

/** Members of the objects that a schema closes; more than these are not named one by one, which would take its time. */
const MAX_MEMBERS = 1000

const membersOf = (value: unknown): number =>
  typeof value === 'object' && value !== null ? Object.keys(value).length : 0

function crowded(value: unknown): Mistake[] {
  const places = [{ pointer: '#', place: value }]
  if (typeof value === 'object' && value !== null && 'resources' in value) {
    const { resources } = value
    places.push({ pointer: '#/resources', place: resources })
    if (typeof resources === 'object' && resources !== null && 'network_policy' in resources) {
      places.push({ pointer: '#/resources/network_policy', place: resources.network_policy })
    }
  }
  return places
    .filter(({ place }) => membersOf(place) > MAX_MEMBERS)
    .map(({ pointer, place }) => ({
      detail: `has ${membersOf(place)} members, most of them not known here`,
      pointer,
    }))
}

/** One mistake a place; the branches of an alternative are told together. */
function shapeMistakes(validate: ValidateFunction): Mistake[] {
  const details = new Map<string, string[]>()
  for (const error of validate.errors ?? []) {
    if (error.keyword === 'anyOf') continue
    const pointer = pointerOf(error)
    const detail = detailOf(error)
    const others = details.get(pointer)
    if (others === undefined) details.set(pointer, [detail])
    else if (!others.includes(detail)) others.push(detail)
  }
  return [...details].map(([pointer, alternatives]) => ({ detail: alternatives.join(' or '), pointer }))
}

const invalidManifest = (message: string, mistakes: readonly Mistake[]) =>
  new OrchestratorError('manifest_invalid', message, { mistakes })

function summary(mistakes: readonly Mistake[]): string {
  const [first] = mistakes
  if (first === undefined) return ''
  const others = mistakes.length - 1
  return `${first.pointer} ${first.detail}${others === 0 ? '' : `; and ${others} more, see errors`}`
}

/** The manifest in a body, or why it is none: every mistake at once. */
export function readManifestBody(body: Body): AcceptedManifest | OrchestratorError {
  if (body === null)
    return invalidManifest('the body is missing: send a manifest', [{ detail: 'is missing', pointer: '#' }])
  if (body instanceof MalformedBody) {
    return invalidManifest(`the body is not JSON: ${body.detail}`, [{ detail: body.detail, pointer: '#' }])
  }
  const { value } = body
  const crowds = crowded(value)
  if (crowds.length > 0) return invalidManifest(summary(crowds), crowds)
  const hasShape = isManifest(value)
  const mistakes = manifestMistakes(body, hasShape ? [] : shapeMistakes(isManifest))
  if (hasShape && mistakes.length === 0) return acceptedManifest(body, value)
  return invalidManifest(summary(mistakes), mistakes)
}

/** The manifest that a runtime holds for a sandbox; undefined where it is none. */
export function readStoredManifest(text: string): AcceptedManifest | undefined {
  try {
    const manifest = readManifestBody(parseJsonBody(Buffer.from(text)))
    return manifest instanceof OrchestratorError ? undefined : manifest
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

const KILL_ALL_LINES =
  'this would have worked: curl -X POST localhost:3000/kill-all -d \'{"reason":"drift"}\', or the same without a body'

/** What a kill-all was told, or why that can't be read. */
export function readKillAllBody(body: Body): KillAllRequest | OrchestratorError {
  if (body === null) return {}
  if (body instanceof MalformedBody) {
    const mistakes = [{ detail: body.detail, pointer: '#' }]
    return new OrchestratorError(
      'request_invalid',
      `the body is not JSON: ${body.detail}; ${KILL_ALL_LINES}`,
      { mistakes },
    )
  }
  const { value } = body
  const crowds = crowded(value)
  const hasShape = crowds.length === 0 && isKillAllRequest(value)
  const mistakes =
    crowds.length > 0
      ? crowds
      : distinctMistakes([...(hasShape ? [] : shapeMistakes(isKillAllRequest)), ...spellingMistakes(body)])
  if (hasShape && mistakes.length === 0) return value
  return new OrchestratorError('request_invalid', `${summary(mistakes)}; ${KILL_ALL_LINES}`, { mistakes })
}

import { type Static, Type } from 'typebox'
import { KillReport } from './kill.ts'
import { named, openEnum, ref } from './references.ts'

interface ProblemKind {
  readonly status: number
  readonly title: string
  /** Seconds after which it may go better. Only where waiting can cure it: a kill switch must not be retried against. */
  readonly retryAfter?: number
}

/** Each code, and how HTTP says it. The only place that knows. */
const KINDS = {
  manifest_invalid: { status: 400, title: 'The manifest is invalid' },
  limit_not_enforceable: { status: 400, title: 'A limit cannot be enforced by this runtime' },
  request_invalid: { status: 400, title: 'The request is invalid' },
  route_not_found: { status: 404, title: 'No such route' },
  worker_not_found: { status: 404, title: 'No such worker' },
  method_not_allowed: { status: 405, title: 'The route has no such method' },
  request_timeout: { status: 408, title: 'The request took too long to arrive' },
  worker_exists: { status: 409, title: 'The worker runs with another manifest' },
  worker_killed: { status: 409, title: 'The worker was killed' },
  worker_not_running: { status: 409, title: 'The worker is not running' },
  events_expired: { status: 410, title: 'These events are not in the log' },
  body_too_large: { status: 413, title: 'The body is too large' },
  uri_too_long: { status: 414, title: 'The URL is too long' },
  unsupported_media_type: { status: 415, title: 'The body is not JSON' },
  expectation_failed: { status: 417, title: 'The expectation cannot be met' },
  kill_all_in_progress: { status: 423, title: 'A kill-all is under way' },
  headers_too_large: { status: 431, title: 'The headers are too large' },
  internal_error: { status: 500, title: 'The service failed' },
  launch_failed: { status: 502, title: 'The runtime did not launch the worker' },
  capacity_exhausted: { status: 503, title: 'No capacity is left', retryAfter: 5 },
  runtime_unavailable: { status: 503, title: 'The runtime does not answer', retryAfter: 5 },
  shutting_down: { status: 503, title: 'The service is ending', retryAfter: 5 },
  not_ready: { status: 503, title: 'Launches would be refused', retryAfter: 5 },
  launch_timeout: { status: 504, title: 'The worker did not start in time' },
  kill_unconfirmed: { status: 504, title: 'A death is not confirmed' },
} as const satisfies Record<string, ProblemKind>

export type ProblemCode = keyof typeof KINDS

export const PROBLEMS: Readonly<Record<ProblemCode, ProblemKind>> = KINDS

export const Mistake = named(
  'Mistake',
  Type.Object(
    {
      detail: Type.String(),
      pointer: Type.String({ description: 'Where, as a JSON pointer.', examples: ['#/resources/cpu_limit'] }),
    },
    { description: 'One mistake in a request body.' },
  ),
)
export type Mistake = Static<typeof Mistake>

export const Obstacle = named(
  'Obstacle',
  Type.Object(
    { code: Type.String(), detail: Type.String() },
    { description: 'One reason for which a launch would be refused now.' },
  ),
)
export type Obstacle = Static<typeof Obstacle>

export const Problem = named(
  'Problem',
  Type.Object(
    {
      type: Type.String({ format: 'uri', description: 'A URN of the code.' }),
      title: Type.String(),
      status: Type.Integer({ minimum: 400, maximum: 599 }),
      detail: Type.String({ description: 'What was wrong, where, and what would be right.' }),
      instance: Type.String({ format: 'uri-reference', description: 'The path that was asked for.' }),
      code: openEnum(Object.keys(KINDS), { description: 'What a program decides by.' }),
      errors: Type.Optional(Type.Array(ref(Mistake), { description: 'Every mistake in the body.' })),
      report: Type.Optional(ref(KillReport)),
      reasons: Type.Optional(Type.Array(ref(Obstacle))),
    },
    {
      description: 'A refusal, as RFC 9457 has it. Expect new members and new codes.',
      examples: [
        {
          type: 'urn:sandbox-orchestrator:problem:worker_not_found',
          title: 'No such worker',
          status: 404,
          detail: 'worker w9 is not known',
          instance: '/workers/w9',
          code: 'worker_not_found',
        },
      ],
    },
  ),
)
export type Problem = Static<typeof Problem>

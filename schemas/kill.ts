import { type Static, Type } from 'typebox'
import { named, ref } from './references.ts'

/** The longest reason that is kept, in code points; what is longer is cut. */
export const MAX_REASON_LENGTH = 256

const reason = Type.String({
  description: `Why, in the caller's words. Cut at ${MAX_REASON_LENGTH} code points; control characters become spaces; empty or missing is \`unspecified\`.`,
  examples: ['drift'],
})

export const KillFailure = named(
  'KillFailure',
  Type.Object(
    { worker_id: Type.String(), code: Type.String(), detail: Type.String() },
    { description: 'A death that is not confirmed, and why.' },
  ),
)
export type KillFailure = Static<typeof KillFailure>

export const KillReport = named(
  'KillReport',
  Type.Object(
    {
      reason: Type.String(),
      complete: Type.Boolean({ description: 'Everything named is dead, by the word of the runtime.' }),
      killed: Type.Array(Type.String(), {
        description: 'Alive when the kill began, dead now, whoever killed it.',
      }),
      already_ended: Type.Array(Type.String(), { description: 'Had ended before the kill came.' }),
      failed: Type.Array(ref(KillFailure), {
        description: 'Not confirmed dead: each stays `killing` and is tried again until it is.',
      }),
      duration_ms: Type.Number({ minimum: 0 }),
    },
    {
      description: 'What a kill did. Expect new members.',
      examples: [
        { reason: 'drift', complete: true, killed: ['w1'], already_ended: [], failed: [], duration_ms: 0.3 },
      ],
    },
  ),
)
export type KillReport = Static<typeof KillReport>

export const KillQuery = Type.Object(
  {
    reason: Type.Optional(reason),
    cascade: Type.Optional(
      Type.Boolean({ default: false, description: 'Kill its whole line of descent too.' }),
    ),
  },
  { additionalProperties: false },
)

export const KillAllQuery = Type.Object({ reason: Type.Optional(reason) }, { additionalProperties: false })

export const KillAllRequest = named(
  'KillAllRequest',
  Type.Object(
    { reason: Type.Optional(reason) },
    {
      additionalProperties: false,
      description: 'Read as JSON whatever its content type says.',
      examples: [{ reason: 'drift' }],
    },
  ),
)
export type KillAllRequest = Static<typeof KillAllRequest>

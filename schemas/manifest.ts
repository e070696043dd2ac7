import { type Static, Type } from 'typebox'
import { named, nullable, ref } from './references.ts'

const closed = { additionalProperties: false } as const

export const WORKER_ID_PATTERN = '^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$'

/** The deepest `state_snapshot` that is accepted, in levels; the snapshot itself is the first. */
export const MAX_STATE_DEPTH = 100

/** The format of a time that is kept as the text that was signed. */
export const SIGNED_TIME = 'signed-date-time'

const workerId = {
  pattern: WORKER_ID_PATTERN,
  not: { const: 'None' },
  description: 'Names a worker. `None` is refused: the controller signs a missing parent so.',
}

export const WorkerId = Type.String({ ...workerId, examples: ['w1'] })
export type WorkerId = Static<typeof WorkerId>

export const NetworkPolicy = named(
  'NetworkPolicy',
  Type.Object(
    {
      // No `default`: generated clients would add the member to a manifest that came without it.
      allow_controller: Type.Optional(
        Type.Boolean({ description: 'May the worker reach its controller? True where this is missing.' }),
      ),
      allow_external: Type.Optional(
        Type.Boolean({ description: 'May the worker reach the world outside? False where this is missing.' }),
      ),
    },
    { ...closed, description: 'What a worker may reach over the network.' },
  ),
)

export const ResourceSpec = named(
  'ResourceSpec',
  Type.Object(
    {
      cpu_limit: Type.Number({
        exclusiveMinimum: 0,
        description: 'CPU time per time, in cores.',
        examples: [0.5],
      }),
      memory_limit_mb: Type.Integer({
        minimum: 1,
        maximum: Number.MAX_SAFE_INTEGER,
        description: 'Memory, in MiB. Written as digits.',
        examples: [256],
      }),
      network_policy: Type.Optional(ref(NetworkPolicy)),
    },
    { ...closed, description: 'The limits that a worker asks for.' },
  ),
)

export const MANIFEST_EXAMPLE = {
  worker_id: 'w1',
  parent_id: null,
  depth: 0,
  state_snapshot: { goal: 'count to ten' },
  issued_at: '2026-01-06T09:30:00.123456+00:00',
  resources: { cpu_limit: 0.5, memory_limit_mb: 256 },
  signature: 'signed',
}

export const Manifest = named(
  'Manifest',
  Type.Object(
    {
      worker_id: WorkerId,
      // Without the example: it would name the worker itself.
      parent_id: nullable(Type.String(workerId)),
      depth: Type.Integer({
        minimum: 0,
        maximum: Number.MAX_SAFE_INTEGER,
        description:
          'Generations from the first worker: 0 goes with `parent_id: null`, and only with it. Digits.',
        examples: [0],
      }),
      state_snapshot: Type.Unsafe<Record<string, unknown>>({
        type: 'object',
        additionalProperties: true,
        description: `What the worker starts from: any JSON object, at most ${MAX_STATE_DEPTH} levels deep, itself the first.`,
      }),
      issued_at: Type.String({
        // Not `date-time`: generated clients would respell it, and its spelling is signed.
        format: SIGNED_TIME,
        description:
          'When the controller signed: `YYYY-MM-DDTHH:MM:SS[.fraction](Z|±HH:MM)`, a date that exists, no leap second, upper case.',
        examples: ['2026-01-06T09:30:00.123456+00:00'],
      }),
      resources: ref(ResourceSpec),
      signature: Type.String({ description: "The controller's signature of the other members." }),
    },
    {
      ...closed,
      description:
        'What the controller signs for one worker. It comes back as the JSON that was sent, nothing added.',
      examples: [MANIFEST_EXAMPLE],
    },
  ),
)
export type Manifest = Static<typeof Manifest>

import { type Static, Type } from 'typebox'
import { MANIFEST_EXAMPLE, Manifest, WorkerId } from './manifest.ts'
import { named, nullable, openEnum, ref, refAsText, Time } from './references.ts'

export const WORKER_STATUSES = ['pending', 'running', 'killing', 'killed', 'exited', 'failed'] as const
export type WorkerStatus = (typeof WORKER_STATUSES)[number]

export const CAUSES = [
  'kill',
  'kill_all',
  'cascade',
  'replaced',
  'ttl_expired',
  'lease_expired',
  'enforcement_failed',
  'exited',
  'oom',
  'launch_failed',
  'lost',
] as const
export type Cause = (typeof CAUSES)[number]

export const EffectiveNetworkPolicy = named(
  'EffectiveNetworkPolicy',
  Type.Object(
    { allow_controller: Type.Boolean(), allow_external: Type.Boolean() },
    { description: 'A network policy with its defaults filled in.' },
  ),
)
export type EffectiveNetworkPolicy = Static<typeof EffectiveNetworkPolicy>

export const EffectiveResourceSpec = named(
  'EffectiveResourceSpec',
  Type.Object(
    {
      cpu_limit: Type.Number({ description: 'Cores.' }),
      memory_limit_mb: Type.Integer({ description: 'MiB.' }),
      network_policy: ref(EffectiveNetworkPolicy),
    },
    { description: "The limits that hold for a worker: its manifest's, with the defaults filled in." },
  ),
)
export type EffectiveResourceSpec = Static<typeof EffectiveResourceSpec>

const RECORD_EXAMPLE = {
  manifest: MANIFEST_EXAMPLE,
  resources: {
    cpu_limit: 0.5,
    memory_limit_mb: 256,
    network_policy: { allow_controller: true, allow_external: false },
  },
  status: 'running',
  started_at: '2026-01-06T09:30:00.321Z',
  kill_requested_at: null,
  finished_at: null,
  removed_at: null,
  reason: null,
  cause: null,
  exit_code: null,
}

export const ContainerRecord = named(
  'ContainerRecord',
  Type.Object(
    {
      manifest: ref(Manifest),
      resources: ref(EffectiveResourceSpec),
      status: openEnum(WORKER_STATUSES, {
        description:
          '`exited`: it ended by itself; `failed`: it never ran; `killing`: its death is not confirmed yet.',
      }),
      started_at: nullable(Time('When it was running inside its limits.')),
      kill_requested_at: nullable(Time('When the first kill came.')),
      finished_at: nullable(Time('From when on no process of it lived.')),
      removed_at: nullable(Time('From when on nothing of it was left in the runtime.')),
      reason: nullable(Type.String({ description: 'The words of the caller whose kill came first.' })),
      cause: nullable(openEnum(CAUSES, { description: 'Why it ended; null while it lives.' })),
      exit_code: nullable(Type.Integer({ description: 'Null for what was killed.' })),
    },
    { description: 'What is known of one worker. Expect new members.', examples: [RECORD_EXAMPLE] },
  ),
)

export const WorkerPage = named(
  'WorkerPage',
  Type.Object(
    {
      items: Type.Array(ref(ContainerRecord)),
      next_cursor: nullable(
        Type.String({ description: 'Only null is the end: a page may be short, even empty.' }),
      ),
    },
    {
      description: 'Workers in the order in which their launches were accepted.',
      examples: [{ items: [RECORD_EXAMPLE], next_cursor: null }],
    },
  ),
)

export const WorkerParams = Type.Object({ id: WorkerId })

export const LaunchQuery = Type.Object(
  {
    replace: Type.Optional(
      Type.Boolean({
        default: false,
        description: 'Kill another manifest under this id first, then launch.',
      }),
    ),
  },
  { additionalProperties: false },
)

export const ListQuery = Type.Object(
  {
    status: Type.Optional(
      Type.Enum([...WORKER_STATUSES], { type: 'string', description: 'Only workers of this status.' }),
    ),
    parent_id: Type.Optional(WorkerId),
    limit: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 1000, default: 100, description: 'Items at most.' }),
    ),
    cursor: Type.Optional(Type.String({ minLength: 1, description: "The last page's `next_cursor`." })),
  },
  { additionalProperties: false },
)

export const ContainerRecordText = refAsText(ContainerRecord)
export const WorkerPageText = refAsText(WorkerPage)

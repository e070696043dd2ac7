import { type Static, Type } from 'typebox'
import { named, nullable, openEnum, ref, refAsText, Time } from './references.ts'
import { CAUSES } from './worker.ts'

const worker_id = Type.String()
const reason = nullable(Type.String())
const cause = openEnum(CAUSES, { description: 'Why it ended.' })
const code = Type.String({ description: "The refusal's code." })

/** What each event tells, besides `seq`, `event` and `timestamp`. To add an event, add it here and append it. */
export const EVENT_FIELDS = {
  container_launched: Type.Object({
    worker_id,
    parent_id: nullable(Type.String()),
    cpu_limit: Type.Number(),
    memory_limit_mb: Type.Integer(),
    allow_external: Type.Boolean(),
  }),
  /** A worker that ran before this service started, and runs on under it. */
  container_adopted: Type.Object({ worker_id, parent_id: nullable(Type.String()) }),
  container_killed: Type.Object({ worker_id, reason: Type.String() }),
  container_kill_skipped: Type.Object({ worker_id, reason: Type.String() }),
  container_exited: Type.Object({ worker_id, exit_code: nullable(Type.Integer()), cause }),
  launch_rejected: Type.Object({ worker_id, code }),
  kill_unconfirmed: Type.Object({ worker_id, reason, cause, code }),
  kill_all: Type.Object({ reason: Type.String(), killed: Type.Integer(), failed: Type.Integer() }),
  resource_enforced: Type.Object({
    value: Type.Literal(1),
    worker_id,
    cpu: Type.String(),
    memory: Type.String(),
  }),
  /** The oldest link of a line of descent was let go: a cascade no longer goes through it. */
  lineage_link_dropped: Type.Object({ worker_id, parent_id: Type.String() }),
} as const

export type EventName = keyof typeof EVENT_FIELDS
export type EventFields = { [Name in EventName]: Static<(typeof EVENT_FIELDS)[Name]> }

export const Event = named(
  'Event',
  Type.Object(
    {
      seq: Type.Integer({ minimum: 1 }),
      event: Type.String({
        description: `What happened. Known: ${Object.keys(EVENT_FIELDS)
          .map((name) => `\`${name}\``)
          .join(', ')}. Expect new ones.`,
      }),
      timestamp: Time('When it took effect.'),
      worker_id: Type.Optional(Type.String()),
      parent_id: Type.Optional(nullable(Type.String())),
      cpu_limit: Type.Optional(Type.Number()),
      memory_limit_mb: Type.Optional(Type.Integer()),
      allow_external: Type.Optional(Type.Boolean()),
      reason: Type.Optional(nullable(Type.String())),
      cause: Type.Optional(cause),
      code: Type.Optional(code),
      exit_code: Type.Optional(nullable(Type.Integer())),
      killed: Type.Optional(Type.Integer({ description: 'How many.' })),
      failed: Type.Optional(Type.Integer({ description: 'How many.' })),
      value: Type.Optional(Type.Number()),
      cpu: Type.Optional(Type.String()),
      memory: Type.Optional(Type.String()),
    },
    {
      description: [
        'One thing that happened, its fields flat beside its name. Expect new events and new members. The fields of each:',
        ...Object.entries(EVENT_FIELDS).map(
          ([name, fields]) => `- \`${name}\`: ${Object.keys(fields.properties).join(', ')}`,
        ),
      ].join('\n'),
    },
  ),
)

export const EventPage = named(
  'EventPage',
  Type.Object(
    {
      items: Type.Array(ref(Event)),
      has_more: Type.Boolean(),
      next_after: Type.Integer({ minimum: 0, description: 'The last `seq` looked at: the next `after`.' }),
      oldest_seq: Type.Integer({ minimum: 1, description: 'The oldest event that is kept, or will be.' }),
      newest_seq: Type.Integer({ minimum: 0, description: '0 before the first event.' }),
      log_id: Type.String({ description: 'Names this log: another id means that numbering began anew.' }),
    },
    {
      description: 'Events in the order in which they took effect.',
      examples: [
        {
          items: [
            {
              seq: 2,
              event: 'container_killed',
              timestamp: '2026-01-06T09:31:00.004Z',
              worker_id: 'w1',
              reason: 'drift',
            },
          ],
          has_more: false,
          next_after: 2,
          oldest_seq: 1,
          newest_seq: 2,
          log_id: 'db1465c5-e25b-48e9-ab3f-dbac899327d1',
        },
      ],
    },
  ),
)
export const EventPageText = refAsText(EventPage)

export const EventsQuery = Type.Object(
  {
    after: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: Number.MAX_SAFE_INTEGER,
        description: 'Only what came after this `seq`; 0 starts at the oldest event kept.',
      }),
    ),
    limit: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 1000, default: 100, description: 'Items at most.' }),
    ),
    worker_id: Type.Optional(Type.String({ minLength: 1, description: 'Only events of this worker.' })),
    event: Type.Optional(Type.String({ minLength: 1, description: 'Only events of this name.' })),
  },
  { additionalProperties: false },
)

export const EventsHeaders = Type.Object({
  'last-event-id': Type.Optional(
    Type.String({ description: 'For a stream: resume after this `seq`. Goes before `after`.' }),
  ),
})

import { Type } from 'typebox'
import { named, ref } from './references.ts'

export const WorkerCounts = named(
  'WorkerCounts',
  Type.Object(
    { pending: Type.Integer(), running: Type.Integer(), killing: Type.Integer() },
    { description: 'How many workers live, by status.' },
  ),
)

export const Health = named(
  'Health',
  Type.Object(
    {
      status: Type.String({ description: '`ok` while the process answers.' }),
      version: Type.String(),
      driver: Type.String({ description: 'The runtime behind this service.' }),
      workers: ref(WorkerCounts),
    },
    {
      description: 'That the process lives, and what it holds.',
      examples: [
        { status: 'ok', version: '0.1.0', driver: 'memory', workers: { pending: 0, running: 2, killing: 0 } },
      ],
    },
  ),
)

export const Ready = named(
  'Ready',
  Type.Object(
    { ready: Type.Boolean({ description: 'True: otherwise the answer is a Problem.' }) },
    { description: 'A launch would be accepted now.', examples: [{ ready: true }] },
  ),
)

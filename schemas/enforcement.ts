import { type Static, Type } from 'typebox'
import { named, nullable, ref } from './references.ts'
import { EffectiveNetworkPolicy, EffectiveResourceSpec } from './worker.ts'

export const ObservedLimits = named(
  'ObservedLimits',
  Type.Object(
    {
      cpu_limit: nullable(Type.Number()),
      memory_limit_mb: nullable(Type.Number()),
      network_policy: nullable(ref(EffectiveNetworkPolicy)),
    },
    { description: 'What the runtime really applies, read back; null: it cannot be read.' },
  ),
)
export type ObservedLimits = Static<typeof ObservedLimits>

export const Usage = named(
  'Usage',
  Type.Object(
    { cpu_cores: Type.Number(), memory_mb: Type.Number() },
    { description: 'What the worker uses now.' },
  ),
)
export type Usage = Static<typeof Usage>

export const LimitValue = named(
  'LimitValue',
  Type.Union([Type.Number(), Type.Boolean()], { description: 'The value of one limit.' }),
)
export type LimitValue = Static<typeof LimitValue>

export const Drift = named(
  'Drift',
  Type.Object(
    {
      field: Type.String({
        description: 'Dotted path of the limit.',
        examples: ['network_policy.allow_external'],
      }),
      expected: ref(LimitValue),
      observed: ref(LimitValue),
    },
    { description: 'A limit that differed.' },
  ),
)
export type Drift = Static<typeof Drift>

const LIMITS_EXAMPLE = {
  cpu_limit: 0.5,
  memory_limit_mb: 256,
  network_policy: { allow_controller: true, allow_external: false },
}

export const EnforcementReport = named(
  'EnforcementReport',
  Type.Object(
    {
      worker_id: Type.String(),
      enforced: Type.Boolean({ description: 'Everything observed equals the limits now.' }),
      limits: ref(EffectiveResourceSpec),
      observed: ref(ObservedLimits),
      drift: Type.Array(ref(Drift), { description: 'What differed before this call.' }),
      usage: nullable(ref(Usage)),
    },
    {
      description: 'What was found and repaired. Expect new members.',
      examples: [
        {
          worker_id: 'w1',
          enforced: true,
          limits: LIMITS_EXAMPLE,
          observed: LIMITS_EXAMPLE,
          drift: [{ field: 'memory_limit_mb', expected: 256, observed: 512 }],
          usage: null,
        },
      ],
    },
  ),
)
export type EnforcementReport = Static<typeof EnforcementReport>

import type { Drift, ObservedLimits } from '../../schemas/enforcement.ts'
import type { EffectiveNetworkPolicy, EffectiveResourceSpec } from '../../schemas/worker.ts'
import type { Bounds, Capabilities } from '../drivers/driver.ts'
import { type AcceptedManifest, limitsOf } from '../manifest/manifest.ts'
import { OrchestratorError } from './errors.ts'

const samePolicy = (one: EffectiveNetworkPolicy, other: EffectiveNetworkPolicy) =>
  one.allow_controller === other.allow_controller && one.allow_external === other.allow_external

function outOfBounds(name: string, value: number, { minimum, maximum }: Bounds): string | undefined {
  if (value < minimum) return `${name} is ${value}, this runtime's minimum is ${minimum}`
  if (value > maximum) return `${name} is ${value}, this runtime's maximum is ${maximum}`
  return undefined
}

/** Throws where the runtime cannot hold a worker to this manifest. */
export function checkEnforceable(manifest: AcceptedManifest, capabilities: Capabilities): void {
  const limits = limitsOf(manifest)
  const { network_policy } = limits
  const obstacle =
    outOfBounds('cpu_limit', limits.cpu_limit, capabilities.cpu_limit) ??
    outOfBounds('memory_limit_mb', limits.memory_limit_mb, capabilities.memory_limit_mb) ??
    (capabilities.networkPolicies.some((policy) => samePolicy(policy, network_policy))
      ? undefined
      : `network_policy ${JSON.stringify(network_policy)} is not among those that this runtime holds: ${JSON.stringify(capabilities.networkPolicies)}`) ??
    (manifest.bytes > capabilities.largestManifestBytes
      ? `the manifest is ${manifest.bytes} bytes long, this runtime's maximum is ${capabilities.largestManifestBytes}`
      : undefined)
  if (obstacle !== undefined) {
    throw new OrchestratorError('limit_not_enforceable', `worker ${manifest.worker_id}: ${obstacle}`)
  }
}

const withinGranularity = (expected: number, observed: number, granularity: number) =>
  expected === observed || Math.abs(expected - observed) < granularity

/** What the runtime applies that is not what it should; what cannot be read is no drift. */
export function driftOf(
  limits: EffectiveResourceSpec,
  observed: ObservedLimits,
  capabilities: Capabilities,
): Drift[] {
  const drift: Drift[] = []
  for (const field of ['cpu_limit', 'memory_limit_mb'] as const) {
    const value = observed[field]
    if (value === null || withinGranularity(limits[field], value, capabilities[field].granularity)) continue
    drift.push({ field, expected: limits[field], observed: value })
  }
  for (const flag of ['allow_controller', 'allow_external'] as const) {
    const expected = limits.network_policy[flag]
    if (observed.network_policy === null || observed.network_policy[flag] === expected) continue
    drift.push({ field: `network_policy.${flag}`, expected, observed: observed.network_policy[flag] })
  }
  return drift
}

export const isReadable = (observed: ObservedLimits): boolean =>
  observed.cpu_limit !== null || observed.memory_limit_mb !== null || observed.network_policy !== null

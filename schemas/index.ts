/** What TypeScript callers import as `sandbox-orchestrator/schemas`: each schema of the wire, and its type by its name. */

import type { Static } from 'typebox'
import * as event from './event.ts'
import * as health from './health.ts'
import * as manifest from './manifest.ts'
import * as worker from './worker.ts'

export {
  Drift,
  EnforcementReport,
  LimitValue,
  ObservedLimits,
  Usage,
} from './enforcement.ts'
export type { EventFields, EventName } from './event.ts'
export { KillAllRequest, KillFailure, KillReport } from './kill.ts'
export { Manifest } from './manifest.ts'
export { Mistake, Obstacle, Problem, type ProblemCode } from './problem.ts'
export {
  CAUSES,
  type Cause,
  EffectiveNetworkPolicy,
  EffectiveResourceSpec,
  WORKER_STATUSES,
  type WorkerStatus,
} from './worker.ts'

export const NetworkPolicy = manifest.NetworkPolicy
export type NetworkPolicy = Static<typeof NetworkPolicy>

export const ResourceSpec = manifest.ResourceSpec
export type ResourceSpec = Static<typeof ResourceSpec>

export const ContainerRecord = worker.ContainerRecord
export type ContainerRecord = Static<typeof ContainerRecord>

export const WorkerPage = worker.WorkerPage
export type WorkerPage = Static<typeof WorkerPage>

export const Event = event.Event
export type Event = Static<typeof Event>

export const EventPage = event.EventPage
export type EventPage = Static<typeof EventPage>

export const WorkerCounts = health.WorkerCounts
export type WorkerCounts = Static<typeof WorkerCounts>

export const Health = health.Health
export type Health = Static<typeof Health>

export const Ready = health.Ready
export type Ready = Static<typeof Ready>

import type { ObservedLimits, Usage } from '../../schemas/enforcement.ts'
import type { EffectiveNetworkPolicy, EffectiveResourceSpec } from '../../schemas/worker.ts'

/**
 * Names one life of one worker. The core makes a new one for each launch (lower-case letters, digits and `-`, at most
 * 40 characters, so that it can be a host name), hence a late kill or a late exit of an earlier life hits nothing.
 */
export type SandboxId = string

export interface LaunchRequest {
  readonly sandbox: SandboxId
  readonly worker_id: string
  readonly parent_id: string | null
  readonly depth: number
  readonly limits: EffectiveResourceSpec
  /** The JSON that was signed, byte for byte. */
  readonly manifest: string
}

/** How a sandbox ended by itself. */
export interface Ending {
  /** Null where the runtime does not know it. */
  readonly exit_code: number | null
  readonly out_of_memory: boolean
}

export interface Launched {
  readonly started_at: Date
  /** Set where it ran and had ended before its start was seen. */
  readonly ended: Ending | null
}

export interface SandboxExit extends Ending {
  readonly sandbox: SandboxId
}

export interface OwnedSandbox {
  readonly sandbox: SandboxId
  /** Null where it cannot be read: such a sandbox is never adopted. */
  readonly worker_id: string | null
  readonly manifest: string | null
  /** `starting`: made, or half made, and not known to run. Whatever is not `ended` counts as alive. */
  readonly state: 'starting' | 'running' | 'ended'
  readonly started_at: Date | null
  /** Set where `state` is `ended` and the runtime knows how. */
  readonly ending: Ending | null
}

export interface Bounds {
  readonly minimum: number
  readonly maximum: number
  /** The smallest step that the runtime distinguishes: what differs by less is no drift. 0: it holds any value. */
  readonly granularity: number
}

export interface Capabilities {
  /** Cores. */
  readonly cpu_limit: Bounds
  /** MiB. */
  readonly memory_limit_mb: Bounds
  /** The policies it can hold; any other is refused. */
  readonly networkPolicies: readonly EffectiveNetworkPolicy[]
  /** What `readLimits` can tell; the rest is null. */
  readonly readsBack: readonly (keyof ObservedLimits | 'usage')[]
  readonly largestManifestBytes: number
  /** How many calls at once are of use: more only queue up in the runtime. */
  readonly usefulConcurrency: number
  /** How long a launch may take when nothing is wrong. */
  readonly slowestLaunchMs: number
}

export interface Observation {
  readonly limits: ObservedLimits
  readonly usage: Usage | null
}

/**
 * A runtime in which sandboxes live. Everything takes a signal and settles soon after it aborts. What fails, fails with
 * a {@link DriverError}. `test/drivers/conformance.ts` holds a driver to each sentence below.
 *
 * What not every runtime can do (pause, logs …) becomes an optional member, present only where it works: there is no
 * verb that throws "not implemented".
 */
export interface SandboxDriver {
  /** As `DRIVER` names it. */
  readonly name: string
  readonly capabilities: Capabilities

  /**
   * Settles once the sandbox runs inside its limits, or has run and ended. On abort it rejects at once, also where the
   * runtime hangs; the runtime may go on. What may be left after a failure is the core's to `kill`, then `remove`.
   */
  launch(request: LaunchRequest, signal: AbortSignal): Promise<Launched>

  /**
   * Settles once the runtime itself confirms that no process lives and the network is cut. Gone already, or never seen,
   * is success; doubt is an error. Valid from the moment `launch` is called: after it settled none of that id exists or
   * will appear.
   */
  kill(sandbox: SandboxId, signal: AbortSignal): Promise<void>

  /** Takes away what death left: container, network, volume. Gone already is success; a live one is refused. */
  remove(sandbox: SandboxId, signal: AbortSignal): Promise<void>

  /** What the runtime applies, read back from it, not what was asked of it. */
  readLimits(sandbox: SandboxId, signal: AbortSignal): Promise<Observation>

  /** Applies the limits again. `deferred`: accepted, and not in force yet. */
  applyLimits(
    sandbox: SandboxId,
    limits: EffectiveResourceSpec,
    signal: AbortSignal,
  ): Promise<'applied' | 'deferred'>

  /** All that this instance has in the runtime, half-made and dead ones too: by label, never by a guess at names. */
  owned(signal: AbortSignal): AsyncIterable<OwnedSandbox>

  /**
   * Each end by itself, at least once, from the moment of this call. After a break it goes on, or yields `gap`: ends
   * may have been missed, ask `owned`. Ends when the signal aborts.
   */
  exits(signal: AbortSignal): AsyncIterable<SandboxExit | 'gap'>

  /** Rejects where the runtime does not answer. */
  reachable(signal: AbortSignal): Promise<void>

  /** Lets go of connections and timers; touches no sandbox. */
  close(): Promise<void>
}

export type DriverFailure =
  /** It did not answer: whether it acted is unknown, try later. */
  | 'unreachable'
  /** It answered no, and would again. */
  | 'refused'
  /** It cannot hold a limit or a policy. */
  | 'not_enforceable'
  /** It is full: try later. */
  | 'no_capacity'

export class DriverError extends Error {
  override readonly name = 'DriverError'
  readonly failure: DriverFailure

  /** `options.cause` is the runtime's own error. */
  constructor(failure: DriverFailure, message: string, options?: ErrorOptions) {
    super(message, options)
    this.failure = failure
  }
}

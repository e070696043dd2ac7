/** What the core is told; all times in milliseconds. */
export interface Settings {
  readonly launchTimeoutMs: number
  /** Bounds one attempt to kill. */
  readonly killTimeoutMs: number
  /** Bounds every other call to the driver. */
  readonly runtimeTimeoutMs: number
  /** The pause after a failed attempt; it doubles with each further one. */
  readonly firstPauseMs: number
  readonly longestPauseMs: number
  readonly maxLiveWorkers: number
  readonly retainedRecords: number
  readonly retainedEvents: number
  /** Bytes of manifests held. */
  readonly maxStateBytes: number
  /** Links between parent and child that are kept. */
  readonly maxLineageLinks: number
}

export const DEFAULT_SETTINGS: Settings = {
  launchTimeoutMs: 30_000,
  killTimeoutMs: 10_000,
  runtimeTimeoutMs: 10_000,
  firstPauseMs: 100,
  longestPauseMs: 5_000,
  maxLiveWorkers: 100_000,
  retainedRecords: 10_000,
  retainedEvents: 100_000,
  maxStateBytes: 256 * 1024 * 1024,
  maxLineageLinks: 1_000_000,
}

/** How long to wait after so many failures in a row. */
export const pauseAfter = (failures: number, { firstPauseMs, longestPauseMs }: Settings): number =>
  Math.min(longestPauseMs, firstPauseMs * 2 ** Math.min(failures - 1, 30))

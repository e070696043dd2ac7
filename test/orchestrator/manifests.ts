import type { Manifest } from '../../schemas/manifest.ts'
import { parseJsonBody } from '../../src/manifest/json-body.ts'
import { type AcceptedManifest, acceptedManifest } from '../../src/manifest/manifest.ts'

/** By their texts: what a runtime hands back after a restart is one of them. */
const made = new Map<string, AcceptedManifest>()

/** An accepted manifest; those with other changes are other manifests. */
export function manifest(worker_id: string, changes: Partial<Manifest> = {}): AcceptedManifest {
  const value: Manifest = {
    worker_id,
    parent_id: null,
    depth: typeof changes.parent_id === 'string' ? 1 : 0,
    state_snapshot: {},
    issued_at: '2026-01-06T09:30:00Z',
    resources: { cpu_limit: 0.5, memory_limit_mb: 256 },
    signature: 'signed',
    ...changes,
  }
  const accepted = acceptedManifest(parseJsonBody(Buffer.from(JSON.stringify(value))), value)
  made.set(accepted.text, accepted)
  return accepted
}

export const readManifest = (text: string): AcceptedManifest | undefined => made.get(text)

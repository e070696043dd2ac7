import type { Manifest } from '../../schemas/manifest.ts'
import type { Mistake } from '../../schemas/problem.ts'
import type { EffectiveResourceSpec } from '../../schemas/worker.ts'
import { type JsonBody, spellingMistakes } from './json-body.ts'
import { canonicalJson } from './json-text.ts'

/** Past these a hostile body would be answered with more text than it is worth. */
const MAX_MISTAKES = 100

/** It is kept as it is spelt, in each event of an enforcement too. */
const MAX_CPU_LIMIT_LENGTH = 100

/** A manifest that was found well-formed: the text that came, and of its members what the core decides by. */
export interface AcceptedManifest {
  readonly text: string
  /** Length of the text in UTF-8. */
  readonly bytes: number
  readonly worker_id: string
  readonly parent_id: string | null
  readonly depth: number
  /** In cores, spelt as it was sent. */
  readonly cpu_limit: string
  readonly memory_limit_mb: number
  readonly allow_controller: boolean
  readonly allow_external: boolean
}

export const limitsOf = (manifest: AcceptedManifest): EffectiveResourceSpec => ({
  cpu_limit: Number(manifest.cpu_limit),
  memory_limit_mb: manifest.memory_limit_mb,
  network_policy: { allow_controller: manifest.allow_controller, allow_external: manifest.allow_external },
})

/** Equal as JSON, numbers by their spelling, members in any order. */
export const sameManifest = (one: string, other: string): boolean =>
  one === other || canonicalJson(one) === canonicalJson(other)

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const memberOf = (value: unknown, name: string): unknown =>
  isObject(value) && Object.hasOwn(value, name) ? value[name] : undefined

/** What a schema can't say: spellings, and how members go together. Holds for any value, also one that fails its schema. */
function ruleMistakes(body: JsonBody): Mistake[] {
  const mistakes: Mistake[] = []
  const mistake = (pointer: string, detail: string) => mistakes.push({ detail, pointer: `#${pointer}` })
  for (const pointer of ['/depth', '/resources/memory_limit_mb']) {
    const spelling = body.outline.numbers.get(pointer)
    if (spelling !== undefined && !/^\d+$/.test(spelling)) {
      mistake(pointer, `must be an integer written as digits, not ${spelling.slice(0, 40)}`)
    }
  }
  const cpuLimit = body.outline.numbers.get('/resources/cpu_limit') ?? ''
  if (cpuLimit.length > MAX_CPU_LIMIT_LENGTH) {
    mistake('/resources/cpu_limit', `must be at most ${MAX_CPU_LIMIT_LENGTH} characters long`)
  }
  const worker = memberOf(body.value, 'worker_id')
  const parent = memberOf(body.value, 'parent_id')
  const depth = memberOf(body.value, 'depth')
  if (typeof parent === 'string' && parent === worker) mistake('/parent_id', 'must not be the worker itself')
  if (parent === null && typeof depth === 'number' && depth > 0) {
    mistake('/depth', 'must be 0 where parent_id is null')
  }
  if (typeof parent === 'string' && depth === 0)
    mistake('/depth', 'must be at least 1 where there is a parent_id')
  return mistakes
}

/** Every mistake once, at most one a place: the schema's word goes first. */
export function distinctMistakes(mistakes: readonly Mistake[]): Mistake[] {
  const byPointer = new Map<string, Mistake>()
  for (const mistake of mistakes) if (!byPointer.has(mistake.pointer)) byPointer.set(mistake.pointer, mistake)
  if (byPointer.size <= MAX_MISTAKES) return [...byPointer.values()]
  const more = byPointer.size - MAX_MISTAKES
  return [...byPointer.values()]
    .slice(0, MAX_MISTAKES)
    .concat({ detail: `and ${more} more mistakes`, pointer: '#' })
}

/** Every mistake of a body that is to be a manifest; `shapeMistakes` is what its schema says. */
export const manifestMistakes = (body: JsonBody, shapeMistakes: readonly Mistake[]): Mistake[] =>
  distinctMistakes([...shapeMistakes, ...spellingMistakes(body), ...ruleMistakes(body)])

/** `manifest` is the body's value; the body has no mistakes. */
export function acceptedManifest(body: JsonBody, manifest: Manifest): AcceptedManifest {
  const { resources } = manifest
  return {
    text: body.text,
    bytes: body.bytes,
    worker_id: manifest.worker_id,
    parent_id: manifest.parent_id,
    depth: manifest.depth,
    cpu_limit: body.outline.numbers.get('/resources/cpu_limit') ?? String(resources.cpu_limit),
    memory_limit_mb: resources.memory_limit_mb,
    allow_controller: resources.network_policy?.allow_controller ?? true,
    allow_external: resources.network_policy?.allow_external ?? false,
  }
}

import { isUtf8 } from 'node:buffer'
import { MAX_STATE_DEPTH } from '../../schemas/manifest.ts'
import type { Mistake } from '../../schemas/problem.ts'
import { countMembers, type Outline, outline, pointerToken, repeatedMembers } from './json-text.ts'

/** A manifest's body is the first level, the snapshot in it the second. */
const MAX_DEPTH = MAX_STATE_DEPTH + 1

/** Past these a hostile body would be answered with more text than it is worth. */
const MAX_REPEATED = 100

/** A JSON text that was parsed: both are kept, since a parsed number has lost its spelling. */
export interface JsonBody {
  readonly text: string
  readonly value: unknown
  /** Length of the text in UTF-8. */
  readonly bytes: number
  readonly outline: Outline
}

/** Throws a SyntaxError whose message says what is wrong with the bytes. */
export function parseJsonBody(bytes: Buffer): JsonBody {
  if (!isUtf8(bytes)) throw new SyntaxError('the body is not UTF-8')
  const text = bytes.toString('utf8')
  const value: unknown = JSON.parse(text)
  return { text, value, bytes: bytes.length, outline: outline(text, MAX_DEPTH, 'resources') }
}

/** Mistakes in how the text is written, which its parsed value no longer shows: depth, and repeated members. */
export function spellingMistakes({ text, value, outline: { members, tooDeep } }: JsonBody): Mistake[] {
  const mistakes = [...tooDeep].map((name) => ({
    detail: `is nested too deeply: at most ${MAX_STATE_DEPTH} levels, itself the first`,
    pointer: name === '' ? '#' : `#/${pointerToken(name)}`,
  }))
  const noneRepeated = tooDeep.size === 0 && countMembers(value) === members
  if (noneRepeated) return mistakes
  for (const pointer of repeatedMembers(text, MAX_DEPTH, MAX_REPEATED)) {
    mistakes.push({ detail: 'is given more than once: name each member once', pointer: `#${pointer}` })
  }
  return mistakes
}

/** What one pass over a well-formed JSON text tells, without recursion. */
export interface Outline {
  /** Members of all its objects together, repeated ones counted each time. */
  readonly members: number
  /** The members of the outermost object that reach below `maxDepth`; `''` where the text is no object. */
  readonly tooDeep: ReadonlySet<string>
  /** The spelling of each number in the outermost object and in its member `numbersOf`, by JSON pointer. */
  readonly numbers: ReadonlyMap<string, string>
}

const QUOTE = 0x22
const MINUS = 0x2d
const ZERO = 0x30
const NINE = 0x39
const COLON = 0x3a
const OPEN_BRACKET = 0x5b
const BACKSLASH = 0x5c
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const SPACE = 0x20

const isNumberStart = (code: number) => code === MINUS || (code >= ZERO && code <= NINE)

function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); ; end = text.indexOf('"', end + 1)) {
    let before = end - 1
    while (text.charCodeAt(before) === BACKSLASH) before--
    if ((end - before) % 2 === 1) return end + 1
  }
}

function skipSpace(text: string, at: number): number {
  let next = at
  while (text.charCodeAt(next) <= SPACE) next++
  return next
}

const BARE_WORD = /[^\s,:\]}]+/y

/** The number, `true`, `false` or `null` that starts at `at`. */
function bareWordAt(text: string, at: number): string {
  BARE_WORD.lastIndex = at
  return BARE_WORD.exec(text)?.[0] ?? ''
}

const stringValue = (literal: string): string =>
  literal.includes('\\') ? String(JSON.parse(literal)) : literal.slice(1, -1)

/** `text` must be well-formed JSON. `maxDepth` counts levels, the outermost value being the first. */
export function outline(text: string, maxDepth: number, numbersOf: string): Outline {
  const numbers = new Map<string, string>()
  const tooDeep = new Set<string>()
  let members = 0
  let level = 0
  let outerKey = ''
  let innerKey = ''
  for (let at = 0; at < text.length; ) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) {
      const end = endOfString(text, at)
      const next = skipSpace(text, end)
      if (text.charCodeAt(next) === COLON) {
        members++
        if (level === 1) outerKey = stringValue(text.slice(at, end))
        else if (level === 2 && outerKey === numbersOf) innerKey = stringValue(text.slice(at, end))
      }
      at = next
    } else if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      level++
      if (level === 2) innerKey = ''
      if (level > maxDepth) tooDeep.add(outerKey)
      at++
    } else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) {
      level--
      at++
    } else if ((level === 1 || (level === 2 && outerKey === numbersOf)) && isNumberStart(code)) {
      const number = bareWordAt(text, at)
      numbers.set(level === 1 ? `/${outerKey}` : `/${outerKey}/${innerKey}`, number)
      at += number.length
    } else at++
  }
  return { members, tooDeep, numbers }
}

/** Members of all objects in a parsed value. Recurses: only for what {@link outline} found shallow. */
export function countMembers(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  let count = 0
  if (Array.isArray(value)) for (const item of value) count += countMembers(item)
  else {
    for (const member of Object.values(value)) {
      count++
      if (typeof member === 'object') count += countMembers(member)
    }
  }
  return count
}

/** One reference token of a JSON pointer, fit for a URI's fragment (RFC 6901, section 6). */
export const pointerToken = (name: string): string =>
  encodeURIComponent(name.toWellFormed().replaceAll('~', '~0').replaceAll('/', '~1'))

interface Frame {
  readonly pointer: string
  /** Undefined in an array. */
  readonly names: Set<string> | undefined
  readonly index: number
}

/**
 * JSON pointers of members that repeat a name of their object, at most `limit` of them and none below `maxDepth`.
 * Slow: for texts already known to have one.
 */
export function repeatedMembers(text: string, maxDepth: number, limit: number): string[] {
  const found = new Set<string>()
  const stack: Frame[] = []
  let level = 0
  let here = ''
  for (let at = 0; at < text.length && found.size < limit; ) {
    const code = text.charCodeAt(at)
    const frame = stack.at(-1)
    if (code === QUOTE) {
      const end = endOfString(text, at)
      const next = skipSpace(text, end)
      if (text.charCodeAt(next) === COLON && frame?.names !== undefined && level <= maxDepth) {
        const name = stringValue(text.slice(at, end))
        here = `${frame.pointer}/${pointerToken(name)}`
        if (frame.names.has(name)) found.add(here)
        frame.names.add(name)
      }
      at = next
    } else if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      level++
      if (level <= maxDepth) {
        const pointer =
          frame?.names === undefined && frame !== undefined ? `${frame.pointer}/${frame.index}` : here
        stack.push({ pointer, names: code === OPEN_BRACE ? new Set() : undefined, index: 0 })
      }
      at++
    } else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) {
      if (level <= maxDepth) stack.pop()
      level--
      at++
    } else {
      if (text[at] === ',' && level <= maxDepth && frame !== undefined && frame.names === undefined) {
        stack[stack.length - 1] = { ...frame, index: frame.index + 1 }
      }
      at++
    }
  }
  return [...found]
}

/**
 * The same for two texts exactly where they are equal as JSON: members sorted, no space, strings spelt in one way,
 * numbers as they are spelt. Recurses: only for what {@link outline} found shallow.
 */
export function canonicalJson(text: string): string {
  let at = 0
  const code = () => text.charCodeAt(at)
  const skip = () => {
    at = skipSpace(text, at)
  }

  function string(): string {
    const start = at
    at = endOfString(text, at)
    return JSON.stringify(stringValue(text.slice(start, at)))
  }

  function list(close: number, item: () => string): string[] {
    const items: string[] = []
    at++
    skip()
    while (code() !== close) {
      items.push(item())
      skip()
      if (code() !== close) at++
      skip()
    }
    at++
    return items
  }

  function member(): string {
    const name = string()
    skip()
    at++
    skip()
    return `${name}:${value()}`
  }

  function value(): string {
    if (code() === QUOTE) return string()
    if (code() === OPEN_BRACE) return `{${list(CLOSE_BRACE, member).sort().join(',')}}`
    if (code() === OPEN_BRACKET) return `[${list(CLOSE_BRACKET, value).join(',')}]`
    const word = bareWordAt(text, at)
    at += word.length
    return word
  }

  skip()
  return value()
}

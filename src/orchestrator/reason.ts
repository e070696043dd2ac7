import { MAX_REASON_LENGTH } from '../../schemas/kill.ts'

const CONTROL = /\p{Cc}/gu

/** A caller's words as they are kept: no kill is refused for its text. */
export function normalReason(words: string | undefined): string {
  if (words === undefined || words === '') return 'unspecified'
  const clean = words.toWellFormed().replace(CONTROL, ' ')
  return clean.length <= MAX_REASON_LENGTH ? clean : [...clean].slice(0, MAX_REASON_LENGTH).join('')
}

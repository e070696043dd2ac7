import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'

/** What a caller may name its request: no spaces, nothing that would break a log line or a header. */
const SANE = /^[\w.:/+=@-]{1,128}$/

export const newRequestId = (): string => randomUUID()

/** The caller's id where it sent a sane one, else a new one. */
export function requestIdOf({ headers }: Pick<IncomingMessage, 'headers'>): string {
  const sent = headers['x-request-id']
  return typeof sent === 'string' && SANE.test(sent) ? sent : newRequestId()
}

import { PROBLEMS, Problem, type ProblemCode } from './problem.ts'
import { ref } from './references.ts'

/** What any request may be refused with, whatever its route. */
const ANY_ROUTE: readonly ProblemCode[] = [
  'request_timeout',
  'uri_too_long',
  'expectation_failed',
  'headers_too_large',
  'internal_error',
]

/** As Fastify's swagger plugin takes a header: its schema, which the plugin wraps. */
const retryAfter = () => ({
  type: 'integer',
  minimum: 0,
  description: 'Seconds after which it may go better.',
})

const content = () => ({ 'application/problem+json': { schema: ref(Problem) } })

/** So that a client made today reads what a service of tomorrow answers, whatever its status. */
const later = () => ({
  description: 'A refusal of a later version: expect new ones.',
  content: content(),
})

/** The refusals of a route, for its schema: a Problem a status, which names the codes that share it. */
export function refusals(...codes: ProblemCode[]) {
  const byStatus = new Map<number, ProblemCode[]>()
  for (const code of [...codes, ...ANY_ROUTE]) {
    const { status } = PROBLEMS[code]
    byStatus.set(status, [...(byStatus.get(status) ?? []), code])
  }
  const responses = [...byStatus].map(([status, shared]) => [status, refusal(shared)] as const)
  return { ...Object.fromEntries(responses), default: later() }
}

function refusal(codes: readonly ProblemCode[]) {
  const waitingHelps = codes.some((code) => PROBLEMS[code].retryAfter !== undefined)
  return {
    description: codes.map((code) => `\`${code}\`: ${PROBLEMS[code].title}`).join('. '),
    ...(waitingHelps && { headers: { 'retry-after': retryAfter() } }),
    content: content(),
  }
}

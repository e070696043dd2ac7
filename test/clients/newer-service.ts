import { createServer } from 'node:http'
import { parse } from 'yaml'

const at = (value: unknown, ...path: (string | number)[]): unknown =>
  path.reduce<unknown>(
    (inner, name) => (typeof inner === 'object' && inner !== null ? Reflect.get(inner, name) : undefined),
    value,
  )

/**
 * A service as a later version may be: the document's own examples, with members and values that it does not name, and
 * a refusal of a status that it does not name. Clients made from that document must read all of it.
 */
export function newerService(document: string) {
  const example = (name: string) => at(parse(document), 'components', 'schemas', name, 'examples', 0)
  const record = Object.assign({}, example('ContainerRecord'), {
    manifest: Object.assign({}, at(example('ContainerRecord'), 'manifest'), { nickname: 'Ada' }),
    status: 'frozen',
    cause: 'quota_exceeded',
    node: 'rack-7',
  })
  const event = Object.assign({}, at(example('EventPage'), 'items', 0), {
    event: 'container_frozen',
    worker_id: 'w1',
    zone: { name: 'north' },
  })
  const problem = Object.assign({}, example('Problem'), {
    type: 'urn:sandbox-orchestrator:problem:legal_hold',
    status: 451,
    code: 'legal_hold',
    until: '2027-01-01',
  })
  const answers: Readonly<Record<string, { status: number; body: object }>> = {
    'GET /workers/w1': { status: 200, body: record },
    'GET /events': {
      status: 200,
      body: Object.assign({}, example('EventPage'), { items: [event], shard: 3 }),
    },
    'DELETE /workers/w1': { status: 451, body: problem },
  }
  return createServer(({ method, url = '' }, response) => {
    const { status, body } = answers[`${method} ${url.split('?')[0]}`] ?? { status: 500, body: {} }
    const type = status < 400 ? 'application/json' : 'application/problem+json'
    response.writeHead(status, { 'content-type': type }).end(JSON.stringify(body))
  })
}

import { deepEqual, equal, ok } from 'node:assert/strict'
import createClient from 'openapi-fetch'
import type { components, paths } from './api.ts'

type Manifest = components['schemas']['Manifest']

const ISSUED_AT = '2026-01-06T09:30:00.120000+00:00'

const [, , url = '', newerUrl = ''] = process.argv
/** `GET /events` answers with a stream too, where it is asked for one: this client reads JSON only. */
type Json = `application/${string}`
const client = createClient<paths, Json>({ baseUrl: url })

const manifest = (worker_id: string): Manifest => ({
  worker_id,
  parent_id: null,
  depth: 0,
  state_snapshot: { goal: 'count to ten' },
  issued_at: ISSUED_AT,
  resources: { cpu_limit: 0.5, memory_limit_mb: 256, network_policy: { allow_external: true } },
  signature: 'signed',
})

const done = (step: string) => console.log(`ok ${step}`)

for (const id of ['w1', 'w2', 'w3', 'w4', 'w5']) {
  const { data, error, response } = await client.POST('/workers', { body: manifest(id) })
  ok(data, error?.detail)
  equal(response.status, 201)
  equal(data.status, 'running')
}
done('launch')

const retry = await client.POST('/workers', { body: manifest('w1'), params: { query: { replace: false } } })
equal(retry.response.status, 200)
equal(retry.data?.manifest.worker_id, 'w1')
done('retry')

const pages: string[][] = []
for (let cursor: string | null | undefined; cursor !== null; ) {
  const query = { status: 'running', limit: 2, ...(cursor !== undefined && { cursor }) } as const
  const { data, error } = await client.GET('/workers', { params: { query } })
  ok(data, error?.detail)
  pages.push(data.items.map((record) => record.manifest.worker_id))
  cursor = data.next_cursor
}
deepEqual(pages, [['w1', 'w2'], ['w3', 'w4'], ['w5']])
done('list')

const w1 = { params: { path: { id: 'w1' } } }
const got = await client.GET('/workers/{id}', w1)
ok(got.data, got.error?.detail)
deepEqual(got.data.manifest, manifest('w1'))
deepEqual(got.data.resources.network_policy, { allow_controller: true, allow_external: true })
ok(Date.parse(got.data.started_at ?? '') > 0)
equal(got.data.cause, null)
done('get')

const enforced = await client.POST('/workers/{id}/enforce', w1)
ok(enforced.data, enforced.error?.detail)
equal(enforced.data.enforced, true)
equal(enforced.data.observed.cpu_limit, 0.5)
done('enforce')

const kill = { params: { path: { id: 'w1' }, query: { reason: 'drift & doubt' } } }
const killed = await client.DELETE('/workers/{id}', kill)
deepEqual(killed.data?.killed, ['w1'])
const after = await client.GET('/workers/{id}', w1)
equal(after.data?.status, 'killed')
equal(after.data?.cause, 'kill')
equal(after.data?.reason, 'drift & doubt')
done('kill')

const unknown = await client.DELETE('/workers/{id}', { params: { path: { id: 'unknown' } } })
equal(unknown.response.status, 404)
equal(unknown.error?.code, 'worker_not_found')
done('kill unknown')

const all = await client.POST('/kill-all', { body: { reason: 'red button' } })
ok(all.data, all.error?.detail)
equal(all.data.complete, true)
deepEqual([...all.data.killed].sort(), ['w2', 'w3', 'w4', 'w5'])
const nobody = await client.POST('/kill-all')
deepEqual(nobody.data?.killed, [])
done('kill-all')

const wrong = { ...manifest('w6'), resources: { cpu_limit: -1, memory_limit_mb: 0 } }
const refused = await client.POST('/workers', { body: wrong })
equal(refused.response.status, 400)
equal(refused.error?.code, 'manifest_invalid')
const pointers = refused.error?.errors?.map((mistake) => mistake.pointer)
deepEqual(pointers?.sort(), ['#/resources/cpu_limit', '#/resources/memory_limit_mb'])
done('refusal')

const names: string[] = []
for (let after = 0, more = true; more; ) {
  const { data, error } = await client.GET('/events', { params: { query: { after, limit: 3 } } })
  ok(data, error?.detail)
  ok(data.items.length <= 3)
  names.push(...data.items.map((event) => event.event))
  after = data.next_after
  more = data.has_more
}
equal(names.filter((name) => name === 'container_launched').length, 5)
equal(names.filter((name) => name === 'kill_all').length, 2)
done('events')

const newer = createClient<paths, Json>({ baseUrl: newerUrl })
const record = await newer.GET('/workers/{id}', w1)
equal(record.data?.status, 'frozen')
equal(record.data?.cause, 'quota_exceeded')
deepEqual(
  Object.entries(record.data ?? {}).find(([name]) => name === 'node'),
  ['node', 'rack-7'],
)
const page = await newer.GET('/events')
equal(page.data?.items[0]?.event, 'container_frozen')
equal(page.data?.items[0]?.worker_id, 'w1')
const strange = await newer.DELETE('/workers/{id}', w1)
equal(strange.response.status, 451)
equal(strange.error?.code, 'legal_hold')
done('newer service')

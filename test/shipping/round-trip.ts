// Launches a worker and kills it, as any client would: `tsx test/shipping/round-trip.ts http://127.0.0.1:3000`.

import assert from 'node:assert/strict'
import { MANIFEST_EXAMPLE } from '../../schemas/manifest.ts'

const { worker_id } = MANIFEST_EXAMPLE

/** Throws where the service at this address does not do what it is for. */
export async function roundTrip(url: string): Promise<void> {
  const launch = await answer(`${url}/workers`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(MANIFEST_EXAMPLE),
  })
  assert.match(launch, /^201 .*"status":"running"/)

  const kill = await answer(`${url}/workers/${worker_id}?reason=shipping`, { method: 'DELETE' })
  assert.match(kill, /^200 .*"complete":true,"killed":\["w1"\]/)

  // Its page comes from files of a dependency.
  assert.match(await answer(`${url}/docs/`), /^200 /)
  assert.match(await answer(`${url}/docs/static/swagger-ui-bundle.js`), /^200 /)
}

async function answer(url: string, init?: RequestInit): Promise<string> {
  const response = await fetch(url, { signal: AbortSignal.timeout(10_000), ...init })
  return `${response.status} ${await response.text()}`
}

const [, program, url] = process.argv
if (program === import.meta.filename) {
  assert(url, 'which address?')
  await roundTrip(url)
}

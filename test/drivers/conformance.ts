import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import type { ObservedLimits } from '../../schemas/enforcement.ts'
import type { EffectiveResourceSpec } from '../../schemas/worker.ts'
import type {
  Bounds,
  Capabilities,
  LaunchRequest,
  OwnedSandbox,
  SandboxDriver,
} from '../../src/drivers/driver.ts'
import { assertAbort, collect, type Open, Trial } from './trial.ts'

export type { Open } from './trial.ts'

/** One promise of the driver interface. */
export interface Guarantee {
  readonly name: string
  /** Rejects where a driver that `open` gives breaks it. */
  hold(open: Open): Promise<void>
}

/** Holds a driver to every guarantee, each in a subtest on a subject of its own. */
export function conformance(t: Test, name: string, open: Open): void {
  for (const { name: guarantee, hold } of guarantees) {
    t.test(`${name}: ${guarantee}`, async (t) => {
      await hold(open)
      t.pass(guarantee)
    })
  }
}

const guarantee = (name: string, promise: (trial: Trial) => Promise<void>): Guarantee => ({
  name,
  hold: async (open) => {
    const trial = new Trial(await open())
    try {
      await promise(trial)
    } finally {
      await trial.finish()
    }
  },
})

// Not here, because no runtime can be made to show it: a launch that settles with an end that came before its start was
// seen; that `owned` leaves out what another instance owns. That `exits` tells of no kill is no promise: a runtime's
// events do not always say who killed.

const capabilities = [
  guarantee('capabilities are sane', async ({ driver }) => {
    const { cpu_limit, memory_limit_mb, networkPolicies, readsBack, ...sizes } = driver.capabilities
    assert.notEqual(driver.name, '', 'a driver has a name')
    assertBounds('cpu_limit', cpu_limit)
    assertBounds('memory_limit_mb', memory_limit_mb)
    assert(networkPolicies.length > 0, 'networkPolicies is empty: nothing could be launched')
    assert.equal(
      new Set(networkPolicies.map(policyName)).size,
      networkPolicies.length,
      'networkPolicies: twice',
    )
    assert.equal(new Set(readsBack).size, readsBack.length, 'readsBack: twice')
    assert(sizes.largestManifestBytes >= 1, `largestManifestBytes is ${sizes.largestManifestBytes}`)
    assert(sizes.usefulConcurrency >= 1, `usefulConcurrency is ${sizes.usefulConcurrency}`)
    assert(Number.isFinite(sizes.slowestLaunchMs), `slowestLaunchMs is ${sizes.slowestLaunchMs}`)
    assert(sizes.slowestLaunchMs >= 0, `slowestLaunchMs is ${sizes.slowestLaunchMs}`)
  }),

  guarantee('a network policy that is not among the capabilities is refused', async (trial) => {
    const held = new Set(trial.driver.capabilities.networkPolicies.map(policyName))
    for (const network_policy of POLICIES.filter((policy) => !held.has(policyName(policy)))) {
      const { limits, ...request } = trial.request()
      const launch = trial.start({ ...request, limits: { ...limits, network_policy } })
      const error = await trial.refusal(`launch with ${policyName(network_policy)}`, launch)
      assert.equal(error.failure, 'not_enforceable')
      await trial.assertDead(request.sandbox)
    }
  }),
]

const launch = [
  guarantee('launch settles once the sandbox runs', async (trial) => {
    const { sandbox, worker_id, started_at, ended } = await trial.launch()
    assert.equal(ended, null, 'it has not ended')
    const found = await trial.assertState(sandbox, 'running')
    assert.equal(found.worker_id, worker_id)
    assert.equal(found.ending, null, 'it has not ended')
    assert.equal(found.started_at?.getTime(), started_at.getTime(), 'launch and owned tell the same start')
    assert(!Number.isNaN(started_at.getTime()), 'started_at is a time')
  }),

  guarantee('a sandbox runs inside its limits from the start', async (trial) => {
    const { sandbox, limits } = await trial.launch()
    assertApplied(trial.driver.capabilities, await trial.limitsOf(sandbox), limits)
  }),

  guarantee('on abort a launch rejects at once, also where the runtime hangs', async (trial) => {
    await trial.within('hang', trial.subject.hang())
    await trial.stopsOnAbort('launch', (signal) => trial.driver.launch(trial.request(), signal))
  }),
]

const kill = [
  guarantee('kill settles once nothing lives', async (trial) => {
    const { sandbox } = await trial.launch()
    await trial.kill(sandbox)
    await trial.assertDead(sandbox)
  }),

  guarantee('kill of what was never seen succeeds', (trial) => trial.kill(randomUUID())),

  guarantee('kill of what is dead succeeds, as often as it comes', async (trial) => {
    const { sandbox } = await trial.launch()
    for (let times = 0; times < 3; times++) await trial.kill(sandbox)
    await trial.assertDead(sandbox)
  }),

  guarantee('kill of what was removed succeeds', async (trial) => {
    const { sandbox } = await trial.launch()
    await trial.kill(sandbox)
    await trial.remove(sandbox)
    await trial.kill(sandbox)
  }),

  guarantee('kill of what ended by itself succeeds', async (trial) => {
    const { sandbox } = await trial.launch()
    await trial.endByItself(sandbox, 0)
    await trial.kill(sandbox)
  }),

  guarantee('kills of one sandbox at the same moment all succeed', async (trial) => {
    const { sandbox } = await trial.launch()
    await Promise.all([trial.kill(sandbox), trial.kill(sandbox), trial.kill(sandbox)])
    await trial.assertDead(sandbox)
  }),

  guarantee('a kill is valid from the moment launch is called', async (trial) => {
    const request = trial.request()
    const launch = trial.start(request)
    await trial.kill(request.sandbox)
    await trial.assertStaysDead(request.sandbox)
    await trial.within('the launch that was killed', Promise.allSettled([launch]))
  }),

  guarantee('after the kill of an aborted launch nothing comes up', async (trial) => {
    const request = trial.request()
    await abandon(trial, request, async () => {})
    await trial.kill(request.sandbox)
    await trial.assertStaysDead(request.sandbox)
  }),

  guarantee('after the kill of a launch that was aborted half way nothing comes up', async (trial) => {
    const request = trial.request()
    await abandon(trial, request, () => trial.eventually('owned lists it', () => trial.find(request.sandbox)))
    await trial.kill(request.sandbox)
    await trial.assertStaysDead(request.sandbox)
  }),

  guarantee('kill ends what an earlier service left half made', async (trial) => {
    const request = trial.request()
    await trial.within('leaveHalfMade', trial.subject.leaveHalfMade(request))
    await trial.kill(request.sandbox)
    await trial.assertStaysDead(request.sandbox)
  }),

  guarantee('kill ends what was launched before a restart', async (trial) => {
    const { sandbox } = await trial.launch()
    await trial.restart()
    await trial.kill(sandbox)
    await trial.assertDead(sandbox)
  }),

  guarantee('kill leaves another sandbox of the same worker alive', async (trial) => {
    const earlier = await trial.launch()
    const later = await trial.launch({ worker_id: earlier.worker_id })
    await trial.kill(earlier.sandbox)
    await trial.assertDead(earlier.sandbox)
    await trial.assertState(later.sandbox, 'running')
  }),

  guarantee('a kill that the runtime does not confirm is an error', async (trial) => {
    const { sandbox } = await trial.launch()
    await trial.within('hang', trial.subject.hang())
    await trial.stopsOnAbort('kill', (signal) => trial.driver.kill(sandbox, signal))
  }),
]

const remove = [
  guarantee('remove takes away what death left', async (trial) => {
    const { sandbox } = await trial.launch()
    await trial.kill(sandbox)
    await trial.remove(sandbox)
    assert.equal(await trial.find(sandbox), undefined, 'owned lists nothing of it')
  }),

  guarantee('remove of what is gone succeeds', async (trial) => {
    const { sandbox } = await trial.launch()
    await trial.kill(sandbox)
    await trial.remove(sandbox)
    await trial.remove(sandbox)
    await trial.remove(randomUUID())
  }),

  guarantee('remove of a live sandbox is refused, and it lives on', async (trial) => {
    const { sandbox } = await trial.launch()
    const error = await trial.refusal('remove', trial.driver.remove(sandbox, trial.signal))
    assert.equal(error.failure, 'refused')
    await trial.assertState(sandbox, 'running')
  }),
]

const limits = [
  guarantee('readLimits tells what readsBack names, and null for the rest', async (trial) => {
    const { sandbox } = await trial.launch()
    const { limits, usage } = await trial.within('readLimits', trial.driver.readLimits(sandbox, trial.signal))
    const { readsBack } = trial.driver.capabilities
    for (const limit of LIMITS) assert.equal(limits[limit] !== null, readsBack.includes(limit), limit)
    assert.equal(usage !== null, readsBack.includes('usage'), 'usage')
  }),

  guarantee('readLimits tells what is applied, not what was asked', async (trial) => {
    const { capabilities } = trial.driver
    const { sandbox, limits } = await trial.launch()
    await trial.within('tamper', trial.subject.tamper(sandbox))
    const seen = !isApplied(capabilities, await trial.limitsOf(sandbox), limits)
    const readable = LIMITS.some((limit) => capabilities.readsBack.includes(limit))
    assert.equal(seen, readable, 'a limit that was tampered with differs')
  }),

  guarantee('applyLimits repairs what was changed', async (trial) => {
    const { sandbox, limits } = await trial.launch()
    await trial.within('tamper', trial.subject.tamper(sandbox))
    const done = await trial.within('applyLimits', trial.driver.applyLimits(sandbox, limits, trial.signal))
    const repaired = async () => {
      const observed = await trial.limitsOf(sandbox)
      return isApplied(trial.driver.capabilities, observed, limits) ? true : undefined
    }
    if (done === 'deferred') await trial.eventually('the limits are in force', repaired)
    else assert(await repaired(), 'applyLimits said that the limits are applied')
  }),
]

const owned = [
  guarantee('owned gives the manifest byte for byte', async (trial) => {
    const { largestManifestBytes } = trial.driver.capabilities
    const filling = Math.max(0, Math.min(largestManifestBytes, 100_000) - ODD_JSON.length * 4)
    const manifest = `${ODD_JSON.slice(0, -1)}, "filling": "${'x'.repeat(filling)}"}\n`
    const { sandbox } = await trial.launch({ manifest })
    const found = await trial.assertState(sandbox, 'running')
    assert(found.manifest === manifest, `the manifest came back as ${found.manifest?.slice(0, 300)}`)
  }),

  guarantee('owned lists what is half made', async (trial) => {
    const request = trial.request()
    await trial.within('leaveHalfMade', trial.subject.leaveHalfMade(request))
    await trial.assertState(request.sandbox, 'starting')
  }),

  guarantee('owned lists what ended by itself, and how, until it is removed', async (trial) => {
    const { sandbox } = await trial.launch()
    const { ending } = await trial.endByItself(sandbox, 7)
    if (ending !== null) assertEnding(ending, 7)
    await trial.remove(sandbox)
    assert.equal(await trial.find(sandbox), undefined)
  }),

  guarantee('owned lists every sandbox, each once', async (trial) => {
    const first = await trial.launch()
    const others = [await trial.launch({ worker_id: first.worker_id }), await trial.launch()]
    const launched = [first, ...others].map(({ sandbox }) => sandbox).sort()
    const listed = (await trial.owned()).map(({ sandbox }) => sandbox).filter((one) => launched.includes(one))
    assert.deepEqual(listed.sort(), launched)
  }),

  guarantee('owned is the same after a restart', async (trial) => {
    await trial.launch()
    await trial.endByItself((await trial.launch()).sandbox, 1)
    await trial.within('leaveHalfMade', trial.subject.leaveHalfMade(trial.request()))
    const before = bySandbox(await trial.owned())
    await trial.restart()
    assert.deepEqual(bySandbox(await trial.owned()), before)
  }),
]

const exits = [
  guarantee('exits tells of an end by itself, and how', async (trial) => {
    const { sandbox } = await trial.launch()
    const exits = trial.exits()
    const told = trial.exitOf(sandbox, exits)
    await trial.within('endByItself', trial.subject.endByItself(sandbox, 7))
    const ending = await told
    if (ending !== null) assertEnding(ending, 7)
  }),

  guarantee('exits tells of each end from its call on, however late it is read', async (trial) => {
    const { sandbox } = await trial.launch()
    const other = await trial.launch()
    const exits = trial.exits()
    await trial.endByItself(sandbox, 0)
    await trial.endByItself(other.sandbox, 1)
    await trial.exitOf(sandbox, exits)
    await trial.exitOf(other.sandbox, exits)
  }),

  guarantee('exits tells everyone who listens', async (trial) => {
    const { sandbox } = await trial.launch()
    const listeners = [trial.exits(), trial.exits()]
    await trial.endByItself(sandbox, 0)
    for (const exits of listeners) await trial.exitOf(sandbox, exits)
  }),

  guarantee('exits tells of what was launched before a restart', async (trial) => {
    const { sandbox } = await trial.launch()
    await trial.restart()
    const exits = trial.exits()
    await trial.endByItself(sandbox, 0)
    await trial.exitOf(sandbox, exits)
  }),

  guarantee('exits ends when its signal aborts', async (trial) => {
    const reader = new AbortController()
    const next = trial.exits(reader.signal).next()
    reader.abort()
    assert.equal((await trial.within('exits', next)).done, true)
    assert.equal((await trial.within('exits', trial.exits(reader.signal).next())).done, true)
  }),
]

const everything = [
  guarantee('reachable settles where the runtime answers', (trial) =>
    trial.within('reachable', trial.driver.reachable(trial.signal)),
  ),

  guarantee('reachable rejects where the runtime does not answer', async (trial) => {
    await trial.within('hang', trial.subject.hang())
    await trial.stopsOnAbort('reachable', (signal) => trial.driver.reachable(signal))
  }),

  guarantee('on abort everything else settles too, where the runtime hangs', async (trial) => {
    const request = await trial.launch()
    await trial.within('hang', trial.subject.hang())
    for (const [verb, call] of calls(trial.driver, request)) await trial.stopsOnAbort(verb, call)
  }),

  guarantee(
    'with a signal that aborted before, everything rejects and nothing is launched',
    async (trial) => {
      const running = await trial.launch()
      const request = trial.request()
      const signal = AbortSignal.abort()
      assertAbort('launch', await trial.failure('launch', trial.driver.launch(request, signal)), signal)
      for (const [verb, call] of calls(trial.driver, running)) {
        assertAbort(verb, await trial.failure(verb, call(signal)), signal)
      }
      await trial.assertStaysDead(request.sandbox)
    },
  ),

  guarantee('what fails, fails with a DriverError', async (trial) => {
    const { sandbox, limits } = trial.request()
    await trial.refusal('readLimits of nothing', trial.driver.readLimits(sandbox, trial.signal))
    await trial.refusal('applyLimits to nothing', trial.driver.applyLimits(sandbox, limits, trial.signal))
  }),

  guarantee('close touches no sandbox', async (trial) => {
    const { sandbox, limits } = await trial.launch()
    await trial.restart()
    await trial.assertState(sandbox, 'running')
    assertApplied(trial.driver.capabilities, await trial.limitsOf(sandbox), limits)
  }),
]

/** Every promise of `SandboxDriver`. */
export const guarantees: readonly Guarantee[] = [
  ...capabilities,
  ...launch,
  ...kill,
  ...remove,
  ...limits,
  ...owned,
  ...exits,
  ...everything,
]

const LIMITS = ['cpu_limit', 'memory_limit_mb', 'network_policy'] as const

const POLICIES = [true, false].flatMap((allow_controller) =>
  [true, false].map((allow_external) => ({ allow_controller, allow_external })),
)

/** Text that a parser and a writer in between would change. */
const ODD_JSON =
  '{ "b":1.0,\t"a": 1e2, "10": -0, "2": 12345678901234567890, "text": "é ☃ 😀 \\u00e9 \\/ \'$(x)`" }'

type Policy = EffectiveResourceSpec['network_policy']

const policyName = ({ allow_controller, allow_external }: Policy) =>
  `allow_controller ${allow_controller}, allow_external ${allow_external}`

/** Every verb that only needs a sandbox and settles once. */
function calls(driver: SandboxDriver, { sandbox, limits }: LaunchRequest) {
  return [
    ['readLimits', (signal: AbortSignal) => driver.readLimits(sandbox, signal)],
    ['applyLimits', (signal: AbortSignal) => driver.applyLimits(sandbox, limits, signal)],
    ['owned', (signal: AbortSignal) => collect(driver.owned(signal))],
    ['remove', (signal: AbortSignal) => driver.remove(sandbox, signal)],
    ['kill', (signal: AbortSignal) => driver.kill(sandbox, signal)],
    ['reachable', (signal: AbortSignal) => driver.reachable(signal)],
  ] as const
}

/** A launch whose caller gives up; where the driver is quicker, it was launched. */
async function abandon(trial: Trial, request: LaunchRequest, halfWay: () => Promise<unknown>): Promise<void> {
  const caller = new AbortController()
  const launch = trial.start(request, caller.signal)
  await halfWay()
  caller.abort()
  await trial.within('the aborted launch', Promise.allSettled([launch]))
}

function isApplied(
  capabilities: Capabilities,
  observed: ObservedLimits,
  limits: EffectiveResourceSpec,
): boolean {
  const { cpu_limit, memory_limit_mb, network_policy } = observed
  const same = (seen: number | null, asked: number, { granularity }: Bounds) =>
    seen === null || seen === asked || Math.abs(seen - asked) < granularity
  return (
    same(cpu_limit, limits.cpu_limit, capabilities.cpu_limit) &&
    same(memory_limit_mb, limits.memory_limit_mb, capabilities.memory_limit_mb) &&
    (network_policy === null || policyName(network_policy) === policyName(limits.network_policy))
  )
}

function assertApplied(
  capabilities: Capabilities,
  observed: ObservedLimits,
  limits: EffectiveResourceSpec,
): void {
  const told = `applied is ${JSON.stringify(observed)}, asked was ${JSON.stringify(limits)}`
  assert(isApplied(capabilities, observed, limits), told)
}

function assertBounds(limit: string, { minimum, maximum, granularity }: Bounds): void {
  assert(minimum > 0, `${limit}: minimum is ${minimum}`)
  assert(maximum >= minimum, `${limit}: maximum is ${maximum}, minimum ${minimum}`)
  assert(granularity >= 0 && Number.isFinite(granularity), `${limit}: granularity is ${granularity}`)
}

function assertEnding(ending: { exit_code: number | null; out_of_memory: boolean }, exit_code: number): void {
  assert(ending.exit_code === null || ending.exit_code === exit_code, `exit_code is ${ending.exit_code}`)
  assert.equal(ending.out_of_memory, false, 'it did not run out of memory')
}

const bySandbox = (list: readonly OwnedSandbox[]) =>
  list.map((one) => ({ ...one })).sort((a, b) => (a.sandbox < b.sandbox ? -1 : 1))

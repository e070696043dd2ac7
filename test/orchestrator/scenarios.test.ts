import t from 'tap'
import { DriverError, type OwnedSandbox } from '../../src/drivers/driver.ts'
import { SimulatedRuntime } from '../../src/drivers/memory/runtime.ts'
import { manifest } from './manifests.ts'
import { code, refusal, SHORT, Stage, unreachable } from './staged-driver.ts'

type Test = ConstructorParameters<typeof Stage>[0]

const LIMITS = {
  cpu_limit: 0.5,
  memory_limit_mb: 256,
  network_policy: { allow_controller: true, allow_external: false },
}
const other = (worker: string, more = {}) => manifest(worker, { state_snapshot: { other: true }, ...more })
const ready = async (stage: Stage) => stage.orchestrator.checkReady()
const child = (worker: string, parent_id: string) => manifest(worker, { parent_id })

t.test('launch', async (t) => {
  t.test('two at one moment end with one sandbox and one 201', async (t) => {
    const stage = await new Stage(t).start()
    const hold = stage.driver.hold('launch')
    const both = Promise.all([
      stage.orchestrator.launch(manifest('a')),
      stage.orchestrator.launch(manifest('a')),
    ])
    await hold.reached
    hold.release()
    t.strictSame(
      (await both).map(({ created }) => created),
      [true, false],
    )
    t.strictSame(stage.alive(), ['a'])
    t.strictSame(stage.story(), ['container_launched a'])
    t.equal((await stage.orchestrator.launch(manifest('a'))).created, false)
  })

  t.test('a retry waits for the start, and gets the same refusal', async (t) => {
    const stage = await new Stage(t).start()
    const hold = stage.driver.hold('launch')
    const codes = Promise.all([
      code(stage.orchestrator.launch(manifest('a'))),
      code(stage.orchestrator.launch(manifest('a'))),
    ])
    hold.fail(new DriverError('no_capacity', 'full'))
    t.strictSame(await codes, ['capacity_exhausted', 'capacity_exhausted'])
    t.strictSame(stage.story(), ['launch_rejected a'], 'told once')
  })

  t.test('the same manifest while it is killing, and another one in each live state', async (t) => {
    const stage = await new Stage(t).start()
    const hold = stage.driver.hold('launch')
    const launched = stage.orchestrator.launch(manifest('a'))
    t.equal(await code(stage.orchestrator.launch(other('a'))), 'worker_exists')
    hold.release()
    await launched
    t.equal(await code(stage.orchestrator.launch(other('a'))), 'worker_exists')
    const death = stage.driver.hold('kill')
    const killed = stage.orchestrator.kill('a')
    t.equal(await code(stage.orchestrator.launch(other('a'))), 'worker_exists')
    t.equal(await code(stage.orchestrator.launch(manifest('a'))), 'worker_killed')
    t.equal(await code(stage.orchestrator.launch(manifest('a'), { replace: true })), 'worker_killed')
    death.release()
    await killed
    t.equal(
      (await stage.orchestrator.launch(manifest('a'))).created,
      true,
      'an ended id may be launched again',
    )
  })

  t.test('replace: the old one is dead before the new one starts', async (t) => {
    const stage = await new Stage(t).start()
    const { record: old } = await stage.orchestrator.launch(manifest('a'))
    const death = stage.driver.hold('kill')
    const two = Promise.all([
      stage.orchestrator.launch(other('a'), { replace: true }),
      stage.orchestrator.launch(other('a'), { replace: true }),
    ])
    await death.reached
    t.equal(stage.driver.calls.launch.length, 1)
    death.release()
    t.strictSame(
      (await two).map(({ created }) => created),
      [true, false],
    )
    t.match(old, { status: 'killed', cause: 'replaced' })
    t.strictSame(stage.story(), ['container_launched a', 'container_killed a', 'container_launched a'])
    t.strictSame(stage.alive(), ['a'])
  })

  t.test('replace of one that will not die launches nothing', async (t) => {
    const stage = await new Stage(t).start()
    const { record: old } = await stage.orchestrator.launch(manifest('a'))
    stage.driver.failing.kill = unreachable()
    t.equal(await code(stage.orchestrator.launch(other('a'), { replace: true })), 'kill_unconfirmed')
    t.equal(stage.driver.calls.launch.length, 1)
    t.match(stage.record('a'), { status: 'killing', cause: 'replaced' })
    delete stage.driver.failing.kill
    await stage.told('container_killed a')
    t.equal(old.status, 'killed', 'the work does not end with its request')
    t.equal((await stage.orchestrator.launch(other('a'))).created, true)
  })

  for (const [name, kill] of [
    ['a kill', (stage: Stage) => stage.orchestrator.kill('a', { reason: 'late' })],
    ['a kill-all', (stage: Stage) => stage.orchestrator.killAll('late')],
    ['a cascade from its parent', (stage: Stage) => stage.orchestrator.kill('p', { cascade: true })],
    [
      "a cascade from its new one's parent",
      (stage: Stage) => stage.orchestrator.kill('q', { cascade: true }),
    ],
    [
      'a cascade from a new parent that is not known',
      async (stage: Stage) => {
        await stage.orchestrator.kill('q')
        await stage.orchestrator.kill('q', { cascade: true })
      },
    ],
  ] as const) {
    t.test(`${name} between the death of the old one and the launch of the new one stops that`, async (t) => {
      const stage = await new Stage(t).start()
      for (const id of ['p', 'q']) await stage.orchestrator.launch(manifest(id))
      const { record: old } = await stage.orchestrator.launch(child('a', 'p'))
      const death = stage.driver.hold('kill')
      const launch = code(stage.orchestrator.launch(child('a', 'q'), { replace: true }))
      await death.reached
      const killed = kill(stage)
      death.release()
      t.equal(await launch, 'worker_killed')
      await killed
      t.equal(stage.orchestrator.get('a'), old, 'the new one has no record')
      t.match(old, { status: 'killed', cause: 'replaced', reason: 'replaced by another manifest' })
      t.equal(stage.driver.calls.launch.length, 3)
      t.ok(stage.story().includes('launch_rejected a'))
      t.notOk(stage.alive().includes('a'))
    })
  }

  t.test('one that fails is cleaned up before it is refused', async (t) => {
    const stage = await new Stage(t).start()
    stage.driver.failing.launch = new DriverError('refused', 'no')
    const death = stage.driver.hold('kill')
    const removal = stage.driver.hold('remove')
    const refused = code(stage.orchestrator.launch(manifest('a')))
    await death.reached
    t.match(stage.record('a'), { status: 'killing', cause: 'launch_failed', reason: null })
    death.release()
    await removal.reached
    t.match(stage.record('a'), { status: 'failed', removed: false })
    removal.release()
    t.equal(await refused, 'launch_failed')
    t.match(stage.record('a'), { status: 'failed', cause: 'launch_failed', removed: true })
    t.strictSame(stage.story(), ['launch_rejected a'])
  })

  t.test('one that is not cleaned up in time', async (t) => {
    const stage = await new Stage(t, SHORT).start()
    stage.driver.failing.launch = new DriverError('refused', 'no')
    stage.driver.failing.kill = unreachable()
    t.equal(await code(stage.orchestrator.launch(manifest('a'))), 'kill_unconfirmed')
    t.match(stage.record('a'), { status: 'killing', cause: 'launch_failed' })
    delete stage.driver.failing.kill
    await stage.until(() => stage.status('a') === 'failed')
    t.strictSame(stage.story(), ['kill_unconfirmed a', 'launch_rejected a'])
  })

  t.test('one that does not come up in time', async (t) => {
    const stage = await new Stage(t, { launchTimeoutMs: 5 }).start()
    stage.driver.hold('launch')
    t.equal(await code(stage.orchestrator.launch(manifest('a'))), 'launch_timeout')
    t.match(stage.record('a'), { status: 'failed', cause: 'launch_failed' })
    t.strictSame(stage.driver.calls.kill, stage.driver.calls.launch)
  })

  t.test('a kill that comes while a failed one is cleaned up joins that', async (t) => {
    const stage = await new Stage(t).start()
    stage.driver.failing.launch = new DriverError('refused', 'no')
    const death = stage.driver.hold('kill')
    const refused = code(stage.orchestrator.launch(manifest('a')))
    await death.reached
    const report = stage.orchestrator.kill('a', { reason: 'first' })
    const second = stage.orchestrator.kill('a', { reason: 'second' })
    death.release()
    t.match(await report, { complete: true, killed: ['a'] })
    t.match(await second, { complete: true, killed: ['a'] })
    t.equal(await refused, 'launch_failed')
    t.match(stage.record('a'), { status: 'failed', cause: 'launch_failed', reason: 'first' })
    t.match(stage.events(), [{ event: 'container_killed', reason: 'first' }, { event: 'launch_rejected' }])
  })

  t.test('a kill ends a start that hangs', async (t) => {
    const stage = await new Stage(t).start()
    const hold = stage.driver.hold('launch')
    const refused = code(stage.orchestrator.launch(manifest('a')))
    const retry = code(stage.orchestrator.launch(manifest('a')))
    await hold.reached
    t.match(await stage.orchestrator.kill('a', { reason: 'why' }), { complete: true, killed: ['a'] })
    t.strictSame([await refused, await retry], ['worker_killed', 'worker_killed'])
    t.match(stage.record('a'), { status: 'killed', cause: 'kill', reason: 'why' })
    t.strictSame(stage.story(), ['container_killed a'])
  })

  t.test('an end that is told before the launch has settled', async (t) => {
    const stage = await new Stage(t).start()
    const hold = stage.driver.hold('launch')
    const launched = stage.orchestrator.launch(manifest('a'))
    await hold.reached
    stage.driver.tell({ sandbox: stage.record('a').sandbox, exit_code: 4, out_of_memory: true })
    stage.driver.tell('gap')
    await stage.until(() => stage.driver.calls.owned.length === 2)
    hold.release()
    t.equal((await launched).created, true)
    t.match(stage.record('a'), { status: 'exited', cause: 'oom', exitCode: 4 })
    t.strictSame(stage.story(), ['container_launched a', 'container_exited a'])
  })

  t.test('what each failure of a driver is told as', async (t) => {
    const stage = await new Stage(t).start()
    for (const [failure, expected] of [
      ['refused', 'launch_failed'],
      ['unreachable', 'runtime_unavailable'],
      ['no_capacity', 'capacity_exhausted'],
      ['not_enforceable', 'limit_not_enforceable'],
    ] as const) {
      stage.driver.failing.launch = new DriverError(failure, 'no')
      t.equal(await code(stage.orchestrator.launch(manifest('a'))), expected)
    }
    stage.driver.failing.launch = new TypeError('a mistake of the driver')
    t.equal(await code(stage.orchestrator.launch(manifest('a'))), 'launch_failed')
  })

  t.test('what the runtime cannot hold is refused before anything starts', async (t) => {
    const stage = await new Stage(t).start()
    const bounds = { minimum: 1, maximum: 2, granularity: 0 }
    const { capabilities } = stage.driver
    const memory = { ...bounds, minimum: 64, maximum: 512 }
    const limited = { ...capabilities, cpu_limit: bounds, memory_limit_mb: memory, largestManifestBytes: 300 }
    stage.driver.capabilities = { ...limited, networkPolicies: [LIMITS.network_policy] }
    const asks = (changes: object) => {
      const resources = { cpu_limit: 1, memory_limit_mb: 256, ...changes }
      return refusal(stage.orchestrator.launch(manifest('a', { resources })))
    }
    for (const [changes, words] of [
      [{ cpu_limit: 0.5 }, /cpu_limit is 0.5, this runtime's minimum is 1/],
      [{ cpu_limit: 3 }, /cpu_limit is 3, this runtime's maximum is 2/],
      [{ memory_limit_mb: 4 }, /memory_limit_mb is 4, this runtime's minimum is 64/],
      [{ memory_limit_mb: 1024 }, /maximum is 512/],
      [{ network_policy: { allow_external: true } }, /network_policy/],
    ] as const) {
      t.match(await asks(changes), { code: 'limit_not_enforceable', message: words })
    }
    const long = manifest('a', {
      signature: 's'.repeat(300),
      resources: { cpu_limit: 1, memory_limit_mb: 256 },
    })
    t.match(await refusal(stage.orchestrator.launch(long)), { code: 'limit_not_enforceable', message: /300/ })
    t.strictSame(stage.driver.calls.launch, [])
  })

  t.test('capacity, and what a replacement gives back', async (t) => {
    const stage = await new Stage(t, { maxLiveWorkers: 2 }).start()
    await stage.orchestrator.launch(manifest('a'))
    stage.orchestrator.checkReady()
    await stage.orchestrator.launch(manifest('b'))
    t.match(await refusal(ready(stage)), { code: 'not_ready', obstacles: [{ code: 'capacity_exhausted' }] })
    t.equal(await code(stage.orchestrator.launch(manifest('c'))), 'capacity_exhausted')
    t.equal(await code(stage.orchestrator.launch(other('a'))), 'worker_exists', 'goes before capacity')
    t.equal((await stage.orchestrator.launch(other('a'), { replace: true })).created, true)
    await stage.orchestrator.kill('b')
    t.equal((await stage.orchestrator.launch(manifest('c'))).created, true)
  })

  t.test('the bytes of manifests: ended records go first, live ones never', async (t) => {
    const { bytes } = manifest('a')
    const stage = await new Stage(t, { maxStateBytes: 2 * bytes }).start()
    for (const id of ['a', 'b']) await stage.orchestrator.launch(manifest(id))
    t.equal(await code(stage.orchestrator.launch(manifest('c'))), 'capacity_exhausted')
    await stage.orchestrator.kill('a')
    t.equal(stage.status('a'), 'killed')
    await stage.orchestrator.launch(manifest('c'))
    t.throws(() => stage.orchestrator.get('a'), { code: 'worker_not_found' })
    t.strictSame([stage.status('b'), stage.status('c')], ['running', 'running'])
  })

  t.test('the oldest ended records are forgotten', async (t) => {
    const stage = await new Stage(t, { retainedRecords: 1 }).start()
    for (const id of ['a', 'b']) {
      await stage.orchestrator.launch(manifest(id))
      await stage.orchestrator.kill(id)
    }
    t.throws(() => stage.orchestrator.get('a'), { code: 'worker_not_found' })
    t.equal(stage.status('b'), 'killed')
    t.equal(await code(stage.orchestrator.kill('a')), 'worker_not_found')
  })

  t.test('before the list was read, and while the service ends', async (t) => {
    const stage = new Stage(t)
    t.equal(await code(stage.orchestrator.launch(manifest('a'))), 'runtime_unavailable')
    t.match(await refusal(ready(stage)), { obstacles: [{ code: 'runtime_unavailable' }] })
    await stage.start()
    await stage.orchestrator.launch(manifest('a'))
    stage.orchestrator.drain()
    t.equal(await code(stage.orchestrator.launch(manifest('b'))), 'shutting_down')
    t.equal((await stage.orchestrator.launch(manifest('a'))).created, false)
    t.match(await refusal(ready(stage)), { obstacles: [{ code: 'shutting_down' }] })
    t.match(await stage.orchestrator.kill('a'), { complete: true })
  })
})

t.test('kill', async (t) => {
  t.test('what is not confirmed in time is reported, and tried again until it is dead', async (t) => {
    const stage = await new Stage(t, SHORT).start()
    await stage.orchestrator.launch(manifest('a'))
    stage.driver.hold('kill')
    const { code, report } = await refusal(stage.orchestrator.kill('a', { reason: 'why' }))
    t.equal(code, 'kill_unconfirmed')
    t.match(report, { reason: 'why', complete: false, killed: [], already_ended: [] })
    t.match(report?.failed, [{ worker_id: 'a', code: 'kill_unconfirmed', detail: /30 ms/ }])
    await stage.told('container_killed a')
    t.match(stage.record('a'), { status: 'killed', cause: 'kill', reason: 'why' })
  })

  t.test('it is told once that it is unconfirmed, and how', async (t) => {
    const stage = await new Stage(t).start()
    await stage.orchestrator.launch(manifest('a'))
    stage.driver.failing.kill = unreachable()
    t.equal(await code(stage.orchestrator.kill('a', { reason: 'first' })), 'kill_unconfirmed')
    await stage.until(() => stage.driver.calls.kill.length > 3)
    t.equal(await code(stage.orchestrator.kill('a', { reason: 'second' })), 'kill_unconfirmed')
    t.equal(stage.status('a'), 'killing')
    delete stage.driver.failing.kill
    await stage.told('container_killed a')
    t.match(stage.record('a'), { status: 'killed', reason: 'first' }, 'those of the first kill')
    const told = stage.events().filter(({ event }) => event === 'kill_unconfirmed')
    t.match(told, [{ worker_id: 'a', reason: 'first', cause: 'kill', code: 'runtime_unavailable' }])
    t.equal(told.length, 1)
  })

  t.test('one that comes in an attempt joins it, one that comes in a pause tries at once', async (t) => {
    const stage = await new Stage(t, { firstPauseMs: 3_600_000, longestPauseMs: 3_600_000 }).start()
    await stage.orchestrator.launch(manifest('a'))
    const attempt = stage.driver.hold('kill')
    const both = Promise.all([code(stage.orchestrator.kill('a')), code(stage.orchestrator.kill('a'))])
    await attempt.reached
    attempt.fail()
    t.strictSame(await both, ['kill_unconfirmed', 'kill_unconfirmed'])
    t.equal(stage.driver.calls.kill.length, 1)
    t.match(await stage.orchestrator.kill('a'), { complete: true, killed: ['a'] })
    t.equal(stage.driver.calls.kill.length, 2)
  })

  t.test('an end that is told meanwhile confirms the death', async (t) => {
    const stage = await new Stage(t).start()
    await stage.orchestrator.launch(manifest('a'))
    const attempt = stage.driver.hold('kill')
    const report = stage.orchestrator.kill('a')
    await attempt.reached
    stage.driver.tell({ sandbox: stage.record('a').sandbox, exit_code: 0, out_of_memory: false })
    t.match(await report, { complete: true, killed: ['a'] })
    t.match(stage.record('a'), { status: 'killed', cause: 'kill', exitCode: null })
  })

  t.test('a late end of an earlier life hits nothing', async (t) => {
    const stage = await new Stage(t).start()
    await stage.orchestrator.launch(manifest('a'))
    const { sandbox } = stage.record('a')
    await stage.orchestrator.kill('a')
    await stage.orchestrator.launch(manifest('a'))
    stage.driver.tell({ sandbox, exit_code: 0, out_of_memory: false })
    stage.driver.tell('gap')
    await stage.until(() => stage.driver.calls.owned.length === 2)
    t.equal(stage.status('a'), 'running')
  })

  t.test('what ended before, and what is not known', async (t) => {
    const stage = await new Stage(t).start()
    await stage.orchestrator.launch(manifest('a'))
    stage.runtime.end(stage.record('a').sandbox, { exit_code: 0, out_of_memory: false })
    await stage.told('container_exited a')
    t.match(await stage.orchestrator.kill('a'), {
      complete: true,
      killed: [],
      already_ended: ['a'],
      failed: [],
    })
    t.equal(await code(stage.orchestrator.kill('x', { reason: 'why' })), 'worker_not_found')
    t.match(stage.events().at(-1), {
      event: 'container_kill_skipped',
      worker_id: 'x',
      reason: 'unknown worker (kill reason: why)',
    })
  })

  t.test('what is left is removed after the answer, as often as it takes', async (t) => {
    const stage = await new Stage(t).start()
    await stage.orchestrator.launch(manifest('a'))
    stage.driver.failing.remove = unreachable()
    t.match(await stage.orchestrator.kill('a'), { complete: true })
    await stage.until(() => stage.driver.calls.remove.length > 2)
    t.match(stage.record('a'), { status: 'killed', removed: false })
    delete stage.driver.failing.remove
    await stage.until(() => stage.record('a').removed)
    t.equal(stage.runtime.size, 0)
  })

  t.test('the reason is cleaned, and never refused', async (t) => {
    const stage = await new Stage(t).start()
    await stage.orchestrator.launch(manifest('a'))
    t.match(await stage.orchestrator.kill('a', { reason: 'a\nb' }), { reason: 'a b' })
    t.match(await stage.orchestrator.kill('a', { reason: '' }), { reason: 'unspecified' })
  })
})

t.test('cascade', async (t) => {
  /** p → q → r, of which q has ended, and s beside them. */
  const family = async (t: Test, settings = {}) => {
    const stage = await new Stage(t, settings).start()
    await stage.orchestrator.launch(manifest('p'))
    await stage.orchestrator.launch(child('q', 'p'))
    await stage.orchestrator.launch(child('r', 'q'))
    await stage.orchestrator.launch(manifest('s'))
    await stage.orchestrator.kill('q')
    return stage
  }

  for (const retainedRecords of [10, 0]) {
    t.test(`goes through parents that ended, ${retainedRecords} of them remembered`, async (t) => {
      const stage = await family(t, { retainedRecords })
      const report = await stage.orchestrator.kill('p', { cascade: true, reason: 'why' })
      t.match(report, { complete: true, killed: ['p', 'r'], already_ended: [] })
      t.strictSame(stage.alive(), ['s'])
      const last = stage.events().slice(-2)
      t.match(last, [
        { worker_id: 'p', reason: 'why' },
        { worker_id: 'r', reason: 'why' },
      ])
    })
  }

  t.test('causes, and a named worker that has ended', async (t) => {
    const stage = await family(t)
    const report = await stage.orchestrator.kill('q', { cascade: true })
    t.match(report, { complete: true, killed: ['r'], already_ended: ['q'] })
    t.match(stage.record('r'), { status: 'killed', cause: 'cascade' })
    await stage.orchestrator.kill('p', { cascade: true })
    t.match(stage.record('p'), { cause: 'kill' })
    t.match(stage.record('r'), { cause: 'cascade' })
  })

  t.test('a forgotten worker with a known descendant is no 404', async (t) => {
    const stage = await family(t, { retainedRecords: 0 })
    t.throws(() => stage.orchestrator.get('q'))
    t.match(await stage.orchestrator.kill('q', { cascade: true }), { killed: ['r'], already_ended: [] })
    t.equal(await code(stage.orchestrator.kill('q', { cascade: true })), 'worker_not_found')
  })

  t.test('a cycle ends the walk', async (t) => {
    const stage = await new Stage(t).start()
    await stage.orchestrator.launch(child('a', 'b'))
    await stage.orchestrator.launch(child('b', 'a'))
    t.match(await stage.orchestrator.kill('a', { cascade: true }), { complete: true, killed: ['a', 'b'] })
  })

  t.test(
    'one that was launched again under another parent is spared, its old children are not',
    async (t) => {
      const stage = await family(t)
      await stage.orchestrator.launch(child('q', 's'))
      t.match(await stage.orchestrator.kill('p', { cascade: true }), { killed: ['p', 'r'] })
      t.strictSame(stage.alive(), ['s', 'q'])
      t.match(await stage.orchestrator.kill('s', { cascade: true }), { killed: ['s', 'q'] })
    },
  )

  t.test('a barrier until it has answered, for those below and for nobody else', async (t) => {
    const stage = await family(t)
    const death = stage.driver.hold('kill')
    const report = stage.orchestrator.kill('p', { cascade: true })
    await death.reached
    for (const parent of ['p', 'q', 'r']) {
      t.match(await refusal(stage.orchestrator.launch(child('n', parent))), { code: 'worker_killed' })
    }
    t.equal((await stage.orchestrator.launch(child('n', 's'))).created, true)
    death.release()
    await report
    t.equal((await stage.orchestrator.launch(child('m', 'r'))).created, true)
  })

  t.test('one that will not die does not hold up the others', async (t) => {
    const stage = await family(t, SHORT)
    stage.driver.hold('kill')
    const { report } = await refusal(stage.orchestrator.kill('p', { cascade: true }))
    t.match(report, { complete: false, killed: ['r'], failed: [{ worker_id: 'p' }] })
    await stage.told('container_killed p')
  })

  t.test('the oldest link goes when there are too many, and it is told', async (t) => {
    const stage = await new Stage(t, { maxLineageLinks: 2 }).start()
    await stage.orchestrator.launch(manifest('p'))
    for (const id of ['a', 'b', 'c']) await stage.orchestrator.launch(child(id, 'p'))
    const told = stage.events().filter(({ event }) => event === 'lineage_link_dropped')
    t.match(told, [{ worker_id: 'a', parent_id: 'p' }])
    t.match(await stage.orchestrator.kill('p', { cascade: true }), { killed: ['p', 'b', 'c'] })
    t.strictSame(stage.alive(), ['a'])
  })
})

t.test('kill-all', async (t) => {
  t.test('kills what runs and what starts, and lets nothing in meanwhile', async (t) => {
    const stage = await new Stage(t).start()
    await stage.orchestrator.launch(manifest('a'))
    stage.driver.hold('launch')
    const start = code(stage.orchestrator.launch(manifest('b')))
    const death = stage.driver.hold('kill')
    const first = stage.orchestrator.killAll('why')
    const second = stage.orchestrator.killAll('another')
    await death.reached
    t.equal(await code(stage.orchestrator.launch(manifest('c'))), 'kill_all_in_progress')
    t.equal(
      await code(stage.orchestrator.launch(manifest('a'))),
      'kill_all_in_progress',
      'goes before every 409',
    )
    t.match(await refusal(ready(stage)), { obstacles: [{ code: 'kill_all_in_progress' }] })
    death.release()
    const report = await first
    t.match(report, { reason: 'why', complete: true, killed: ['a', 'b'], already_ended: [], failed: [] })
    t.equal(await second, report, 'joined')
    t.equal(await start, 'worker_killed')
    t.match(stage.record('a'), { status: 'killed', cause: 'kill_all', reason: 'why' })
    const told = stage.events().filter(({ event }) => event === 'kill_all')
    t.match(told, [{ reason: 'why', killed: 2, failed: 0 }])
    t.equal(stage.story().at(-1), 'kill_all', 'after the container_killed of each')
    t.equal((await stage.orchestrator.launch(manifest('c'))).created, true)
  })

  t.test('names each that was alive at its beginning, whoever killed it', async (t) => {
    const stage = await new Stage(t).start()
    for (const id of ['a', 'b', 'c']) await stage.orchestrator.launch(manifest(id))
    await stage.orchestrator.kill('c')
    const death = stage.driver.hold('kill')
    const kill = stage.orchestrator.kill('a', { reason: 'mine' })
    const report = stage.orchestrator.killAll('all')
    death.release()
    t.match(await report, { complete: true, killed: ['a', 'b'] })
    t.match(await kill, { complete: true, killed: ['a'] })
    t.match(stage.record('a'), { cause: 'kill', reason: 'mine' })
  })

  t.test('kills what no record stands for, by its sandbox id where its worker cannot be read', async (t) => {
    const stage = await new Stage(t).start()
    await stage.orchestrator.launch(manifest('a'))
    stage.runtime.run(stage.runtime.make('stray-1', { worker_id: 's', manifest: null, limits: LIMITS }))
    stage.runtime.make('stray-2', { worker_id: null, manifest: null, limits: LIMITS })
    const report = await stage.orchestrator.killAll()
    t.strictSame([...report.killed].sort(), ['a', 's', 'stray-2'])
    t.strictSame(stage.alive(), [])
    await stage.until(() => stage.runtime.size === 0)
  })

  t.test('answers when nothing dies any more, and goes on', async (t) => {
    const stage = await new Stage(t, SHORT).start()
    for (const id of ['a', 'b']) await stage.orchestrator.launch(manifest(id))
    const { sandbox } = stage.record('b')
    stage.driver.failing.kill = unreachable()
    const answer = refusal(stage.orchestrator.killAll('why'))
    await stage.told('kill_unconfirmed b')
    stage.driver.tell({ sandbox, exit_code: null, out_of_memory: false })
    const { code, report } = await answer
    t.equal(code, 'kill_unconfirmed')
    t.match(report, {
      complete: false,
      killed: ['b'],
      failed: [{ worker_id: 'a', code: 'runtime_unavailable' }],
    })
    t.match(stage.events().at(-1), { event: 'kill_all', killed: 1, failed: 1 })
    delete stage.driver.failing.kill
    await stage.told('container_killed a')
    t.match(stage.record('a'), { status: 'killed', cause: 'kill_all' })
    t.match(await stage.orchestrator.killAll(), { complete: true, killed: [] })
  })

  t.test('is not complete where the list was not read after the last kill', async (t) => {
    const stage = await new Stage(t, SHORT).start()
    await stage.orchestrator.launch(manifest('a'))
    const early = stage.driver.hold('owned')
    const late = stage.driver.hold('owned')
    const answer = refusal(stage.orchestrator.killAll())
    await early.reached
    early.release()
    await late.reached
    const { code, report, message } = await answer
    t.equal(code, 'kill_unconfirmed')
    t.match(report, { complete: false, killed: ['a'], failed: [] })
    t.match(message, /list/)
    late.release()
  })

  t.test('a list that comes after the answer kills nothing that was launched since', async (t) => {
    const stage = await new Stage(t, SHORT).start()
    const early = stage.driver.hold('owned')
    early.release()
    const late = stage.driver.hold('owned')
    const answer = code(stage.orchestrator.killAll())
    await late.reached
    t.equal(await answer, 'kill_unconfirmed')
    stage.driver.failing.owned = unreachable()
    await stage.orchestrator.launch(manifest('a'))
    const sandbox = stage.record('a').sandbox
    const shown = { sandbox, worker_id: 'a', manifest: null, state: 'running' as const }
    stage.driver.list = () => [{ ...shown, started_at: null, ending: null }]
    delete stage.driver.failing.owned
    late.release()
    await new Promise(setImmediate)
    t.equal(stage.status('a'), 'running')
  })

  t.test('kills what the list still shows after the last kill', async (t) => {
    const stage = await new Stage(t).start()
    const early = stage.driver.hold('owned')
    const late = stage.driver.hold('owned')
    const answer = stage.orchestrator.killAll()
    early.release()
    await late.reached
    late.fail()
    stage.runtime.make('late', { worker_id: 'l', manifest: null, limits: LIMITS })
    t.match(await answer, { complete: true, killed: ['l'] }, 'a list that fails is read again')
    t.strictSame(stage.alive(), [])
  })
})

/** A machine on which an earlier service ran these. */
async function leftBehind(t: Test, ...manifests: ReturnType<typeof manifest>[]) {
  const runtime = new SimulatedRuntime()
  const first = await new Stage(t, {}, runtime).start()
  for (const one of manifests) await first.orchestrator.launch(one)
  await first.orchestrator.close()
  return runtime
}

t.test('recovery', async (t) => {
  t.test('what runs is adopted, what is half made, unreadable or second is killed', async (t) => {
    const runtime = await leftBehind(t, manifest('a'), child('b', 'a'))
    const text = manifest('a').text
    runtime.run(runtime.make('second', { worker_id: 'a', manifest: text, limits: LIMITS }))
    runtime.run(runtime.make('forged', { worker_id: 'x', manifest: text, limits: LIMITS }))
    runtime.run(runtime.make('garbled', { worker_id: 'y', manifest: '?', limits: LIMITS }))
    runtime.make('half', { worker_id: 'z', manifest: manifest('z').text, limits: LIMITS })
    runtime.kill('half')
    runtime.make('half-2', { worker_id: 'z', manifest: manifest('z').text, limits: LIMITS })
    const stage = await new Stage(t, {}, runtime).start()
    t.match(stage.record('a'), { status: 'running', cause: null })
    t.match(stage.record('b'), { status: 'running' })
    await stage.until(() => stage.runtime.size === 2)
    const story = stage.story().sort()
    t.strictSame(story, [
      'container_adopted a',
      'container_adopted b',
      'container_killed a',
      'container_killed x',
      'container_killed y',
      'container_killed z',
    ])
    t.match(await stage.orchestrator.kill('a', { cascade: true }), { killed: ['a', 'b'] })
    t.strictSame(stage.alive(), [])
  })

  t.test('nothing is launched beside what is left of its worker, and a kill joins in', async (t) => {
    const runtime = new SimulatedRuntime()
    runtime.make('half', { worker_id: 'a', manifest: manifest('a').text, limits: LIMITS })
    const stage = new Stage(t, { firstPauseMs: 3_600_000, longestPauseMs: 3_600_000 }, runtime)
    const attempt = stage.driver.hold('kill')
    await stage.start()
    await attempt.reached
    t.equal(await code(stage.orchestrator.launch(manifest('a'))), 'worker_killed')
    const joined = refusal(stage.orchestrator.kill('a'))
    attempt.fail()
    t.match(await joined, { code: 'kill_unconfirmed', report: { failed: [{ worker_id: 'a' }], killed: [] } })
    t.equal(await code(stage.orchestrator.launch(manifest('a'), { replace: true })), 'worker_killed')
    t.match(await stage.orchestrator.kill('a'), { complete: true, killed: ['a'], already_ended: [] })
    t.equal((await stage.orchestrator.launch(manifest('a'))).created, true)
  })

  t.test('a kill that comes before the list was read is remembered', async (t) => {
    const runtime = await leftBehind(t, manifest('a'), manifest('p'), child('c', 'p'), manifest('r'))
    const stage = new Stage(t, {}, runtime)
    const list = stage.driver.hold('owned')
    const started = stage.start()
    await list.reached
    for (const [id, options] of [
      ['a', { reason: 'first' }],
      ['a', { reason: 'second' }],
      ['p', { reason: 'third', cascade: true }],
      ['x', { reason: 'in vain' }],
    ] as const) {
      const { code, report } = await refusal(stage.orchestrator.kill(id, options))
      t.equal(code, 'kill_unconfirmed')
      t.match(report, { complete: false, failed: [{ worker_id: id, detail: /remembered/ }] })
    }
    list.release()
    await started
    await stage.until(() => stage.orchestrator.counts.killing === 0)
    t.match(stage.record('a'), { status: 'killed', cause: 'kill', reason: 'first' })
    t.match(stage.record('p'), { status: 'killed', cause: 'kill', reason: 'third' })
    t.match(stage.record('c'), { status: 'killed', cause: 'cascade', reason: 'third' })
    t.match(stage.record('r'), { status: 'running' })
    t.notOk(stage.story().includes('container_adopted a'))
    t.equal(await code(stage.orchestrator.kill('x')), 'worker_not_found')
  })

  t.test(
    'a kill-all that comes before the list was read dooms what is found, after the kills before it',
    async (t) => {
      const runtime = await leftBehind(t, manifest('a'), manifest('b'))
      const stage = new Stage(t, SHORT, runtime)
      stage.driver.failing.owned = unreachable()
      await stage.start()
      t.equal(await code(stage.orchestrator.kill('a', { reason: 'first' })), 'kill_unconfirmed')
      const { code: refused, report } = await refusal(stage.orchestrator.killAll('all'))
      t.equal(refused, 'kill_unconfirmed')
      t.match(report, { complete: false, killed: [], failed: [] })
      t.equal(await code(stage.orchestrator.kill('b', { reason: 'later' })), 'kill_unconfirmed')
      delete stage.driver.failing.owned
      await stage.until(() => stage.alive().length === 0 && stage.story().length >= 3)
      t.match(stage.record('a'), { status: 'killed', cause: 'kill', reason: 'first' })
      t.match(stage.record('b'), { status: 'killed', cause: 'kill_all', reason: 'all' })
    },
  )

  t.test(
    'what is adopted and dies during a kill-all is named and told once, whatever a list shows',
    async (t) => {
      const runtime = await leftBehind(t, manifest('a'), manifest('b'))
      const stage = await new Stage(t, {}, runtime).start()
      const stale = stage.driver.hold('owned')
      const answer = stage.orchestrator.killAll()
      await stage.told('container_killed a')
      await stage.told('container_killed b')
      stale.release()
      t.match(await answer, { complete: true, killed: ['a', 'b'] })
      const killed = stage.story().filter((line) => line.startsWith('container_killed'))
      t.strictSame(killed, ['container_killed a', 'container_killed b'])
    },
  )

  t.test('what a kill-all kills while it is adopted is named', async (t) => {
    const runtime = await leftBehind(t, manifest('a'))
    const stage = new Stage(t, {}, runtime)
    const recovery = stage.driver.hold('owned')
    const listOfAll = stage.driver.hold('owned')
    const started = stage.start()
    const answer = stage.orchestrator.killAll('all')
    await listOfAll.reached
    recovery.release()
    await started
    await stage.told('container_killed a')
    listOfAll.release()
    t.match(await answer, { complete: true, killed: ['a'] })
    t.match(stage.record('a'), { status: 'killed', cause: 'kill_all', reason: 'all' })
    t.equal(stage.story().filter((line) => line === 'container_killed a').length, 1)
  })

  t.test('an end that is told while the list is read is not forgotten', async (t) => {
    const runtime = await leftBehind(t, manifest('a'))
    const stage = new Stage(t, {}, runtime)
    const list = stage.driver.hold('owned')
    const started = stage.start()
    await list.reached
    const [sandbox = ''] = [...runtime.entries()].map(([id]) => id)
    runtime.end(sandbox, { exit_code: 0, out_of_memory: false })
    await new Promise(setImmediate)
    list.release()
    await started
    t.throws(() => stage.orchestrator.get('a'), { code: 'worker_not_found' })
    await stage.until(() => runtime.size === 0)
  })

  t.test('a list that cannot be read is read again', async (t) => {
    const stage = new Stage(t)
    stage.driver.failing.owned = unreachable()
    await stage.start()
    t.equal(await code(stage.orchestrator.launch(manifest('a'))), 'runtime_unavailable')
    delete stage.driver.failing.owned
    await stage.until(() => {
      try {
        stage.orchestrator.checkReady()
        return true
      } catch {
        return false
      }
    })
    t.equal((await stage.orchestrator.launch(manifest('a'))).created, true)
  })
})

t.test('after a gap', async (t) => {
  t.test('who is gone is lost, who has ended has ended so, and strays die', async (t) => {
    const stage = await new Stage(t).start()
    for (const id of ['a', 'b', 'c', 'd']) await stage.orchestrator.launch(manifest(id))
    stage.runtime.forget(stage.record('a').sandbox)
    const ended = { state: 'ended' as const, ending: { exit_code: 137, out_of_memory: true } }
    const { sandbox } = stage.record('b')
    const end = (one: OwnedSandbox) => (one.sandbox === sandbox ? { ...one, ...ended } : one)
    stage.driver.list = (list) => list.map(end)
    stage.runtime.run(
      stage.runtime.make('stray', { worker_id: 's', manifest: manifest('s').text, limits: LIMITS }),
    )
    stage.driver.tell('gap')
    await stage.told('container_killed s')
    t.match(stage.record('a'), { status: 'exited', cause: 'lost', exitCode: null })
    t.match(stage.record('b'), { status: 'exited', cause: 'oom', exitCode: 137 })
    t.match([stage.status('c'), stage.status('d')], ['running', 'running'])
    t.throws(() => stage.orchestrator.get('s'), 'nothing is adopted later')
  })

  t.test('a list that is older than a launch or a death harms nobody', async (t) => {
    const stage = await new Stage(t).start()
    await stage.orchestrator.launch(manifest('a'))
    const stale = stage.driver.hold('owned')
    stage.driver.tell('gap')
    await stale.reached
    await stage.orchestrator.launch(manifest('b'))
    await stage.orchestrator.kill('a')
    stale.release()
    stage.driver.tell('gap')
    await stage.until(() => stage.driver.calls.owned.length === 3)
    t.strictSame(stage.story(), ['container_launched a', 'container_launched b', 'container_killed a'])
    t.equal(stage.status('b'), 'running')
  })

  t.test('a feed that breaks is followed anew, and the list is read', async (t) => {
    const stage = await new Stage(t).start()
    await stage.orchestrator.launch(manifest('a'))
    stage.runtime.forget(stage.record('a').sandbox)
    stage.driver.tell(new Error('broken pipe'))
    await stage.told('container_exited a')
    t.match(stage.record('a'), { cause: 'lost' })
    await stage.orchestrator.launch(manifest('b'))
    stage.runtime.end(stage.record('b').sandbox, { exit_code: 1, out_of_memory: false })
    await stage.told('container_exited b')
  })
})

t.test('enforce', async (t) => {
  const running = async (t: Test) => {
    const stage = await new Stage(t).start()
    await stage.orchestrator.launch(manifest('a'))
    return stage
  }
  const tamper = (stage: Stage, changes: object) => {
    const found = stage.runtime.get(stage.record('a').sandbox)
    if (found !== undefined) found.limits = { ...found.limits, ...changes }
  }

  t.test('what holds is told, and what differs is repaired', async (t) => {
    const stage = await running(t)
    const clean = { worker_id: 'a', enforced: true, limits: LIMITS, observed: LIMITS, drift: [], usage: null }
    t.strictSame(await stage.orchestrator.enforce('a'), clean)
    const told = { event: 'resource_enforced', value: 1, worker_id: 'a', cpu: '0.5', memory: '256' }
    t.match(stage.events().at(-1), told)
    tamper(stage, { cpu_limit: 2, network_policy: { allow_controller: true, allow_external: true } })
    t.strictSame(await stage.orchestrator.enforce('a'), {
      ...clean,
      drift: [
        { field: 'cpu_limit', expected: 0.5, observed: 2 },
        { field: 'network_policy.allow_external', expected: false, observed: true },
      ],
    })
    t.strictSame(stage.story().slice(1), ['resource_enforced a', 'resource_enforced a'])
  })

  t.test('what differs by less than the runtime distinguishes is no drift', async (t) => {
    const stage = await running(t)
    const cpu_limit = { ...stage.driver.capabilities.cpu_limit, granularity: 0.01 }
    stage.driver.capabilities = { ...stage.driver.capabilities, cpu_limit }
    tamper(stage, { cpu_limit: 0.509 })
    t.match(await stage.orchestrator.enforce('a'), { enforced: true, drift: [] })
    tamper(stage, { cpu_limit: 0.51 })
    t.match(await stage.orchestrator.enforce('a'), { enforced: true, drift: [{ field: 'cpu_limit' }] })
  })

  t.test('what cannot be read at all is not enforced, and kills nobody', async (t) => {
    const stage = await running(t)
    stage.driver.observed = () => ({ cpu_limit: null, memory_limit_mb: null, network_policy: null })
    t.match(await stage.orchestrator.enforce('a'), { enforced: false, drift: [] })
    stage.driver.observed = (limits) => ({ ...limits, network_policy: null })
    t.match(await stage.orchestrator.enforce('a'), { enforced: true, observed: { network_policy: null } })
    t.strictSame(stage.story().slice(1), ['resource_enforced a'])
  })

  t.test('what still differs after the repair is killed, what is deferred is not', async (t) => {
    const stage = await running(t)
    tamper(stage, { memory_limit_mb: 512 })
    stage.driver.applied = 'deferred'
    t.match(await stage.orchestrator.enforce('a'), { enforced: false, drift: [{ field: 'memory_limit_mb' }] })
    t.equal(stage.status('a'), 'running')
    stage.driver.failing.applyLimits = new DriverError('refused', 'cannot be changed')
    t.match(await stage.orchestrator.enforce('a'), { enforced: false, observed: { memory_limit_mb: 512 } })
    t.match(stage.record('a'), { status: 'killed', cause: 'enforcement_failed', reason: /memory_limit_mb/ })
    t.strictSame(stage.story().slice(1), ['container_killed a'])
  })

  t.test('a runtime that does not answer kills nobody', async (t) => {
    const stage = await running(t)
    tamper(stage, { memory_limit_mb: 512 })
    stage.driver.failing.applyLimits = unreachable()
    t.equal(await code(stage.orchestrator.enforce('a')), 'runtime_unavailable')
    stage.driver.failing.readLimits = unreachable()
    t.equal(await code(stage.orchestrator.enforce('a')), 'runtime_unavailable')
    t.equal(stage.status('a'), 'running')
  })

  t.test('two at one moment take turns, and a kill ends both', async (t) => {
    const stage = await running(t)
    const first = stage.driver.hold('readLimits')
    const second = stage.driver.hold('readLimits')
    const three = [1, 2, 3].map(() => stage.orchestrator.enforce('a'))
    await first.reached
    t.equal(stage.driver.calls.readLimits.length, 1, 'one at a time')
    first.release()
    await three[0]
    await second.reached
    const codes = Promise.all(three.slice(1).map(code))
    t.match(await stage.orchestrator.kill('a'), { complete: true, killed: ['a'] })
    t.strictSame(await codes, ['worker_not_running', 'worker_not_running'])
    t.equal(stage.driver.calls.readLimits.length, 2)
  })

  t.test('a kill or an end between the steps ends it', async (t) => {
    const stage = await running(t)
    tamper(stage, { cpu_limit: 2 })
    const repair = stage.driver.hold('applyLimits')
    const refused = code(stage.orchestrator.enforce('a'))
    await repair.reached
    stage.runtime.end(stage.record('a').sandbox, { exit_code: 0, out_of_memory: false })
    t.equal(await refused, 'worker_not_running')
    t.equal(stage.status('a'), 'exited')
  })

  t.test('only what runs', async (t) => {
    const stage = await running(t)
    t.equal(await code(stage.orchestrator.enforce('x')), 'worker_not_found')
    await stage.orchestrator.kill('a')
    t.equal(await code(stage.orchestrator.enforce('a')), 'worker_not_running')
  })
})

t.test('lists', async (t) => {
  const ids = (items: readonly string[]) => items.map((item) => JSON.parse(item).manifest.worker_id)

  t.test('a page goes on after the last launch seen, whatever ended meanwhile', async (t) => {
    const stage = await new Stage(t, { retainedRecords: 1 }).start()
    for (const id of ['a', 'b', 'c', 'd']) await stage.orchestrator.launch(manifest(id))
    const first = stage.orchestrator.list({ limit: 2 })
    t.strictSame(ids(first.items), ['a', 'b'])
    for (const id of ['a', 'b', 'c']) await stage.orchestrator.kill(id)
    await stage.orchestrator.launch(other('a'))
    const rest = stage.orchestrator.list({ limit: 3, cursor: first.nextCursor ?? '' })
    t.strictSame(ids(rest.items), ['c', 'd', 'a'])
    t.equal(rest.nextCursor, null)
    t.strictSame(ids(stage.orchestrator.list({ limit: 9, status: 'running' }).items), ['d', 'a'])
  })

  t.test('a cursor that was not issued here is refused', async (t) => {
    const stage = await new Stage(t).start()
    for (const id of ['a', 'b']) await stage.orchestrator.launch(manifest(id))
    const { nextCursor } = stage.orchestrator.list({ limit: 1 })
    const seal = nextCursor?.split('.')[1]
    for (const cursor of [
      '',
      '1',
      '1.',
      `2.${seal}`,
      `01.${seal}`,
      `${nextCursor}.`,
      `${nextCursor} `,
      'x.y',
    ]) {
      t.throws(() => stage.orchestrator.list({ limit: 1, cursor }), { code: 'request_invalid' }, cursor)
    }
  })

  t.test('a page ends at 4 MiB, and has one item at least', async (t) => {
    const stage = await new Stage(t).start()
    const large = (megabytes: number) => ({ state_snapshot: { text: 'x'.repeat(megabytes * 2 ** 20) } })
    await stage.orchestrator.launch(manifest('a', large(5)))
    for (const id of ['b', 'c', 'd', 'e']) await stage.orchestrator.launch(manifest(id, large(1)))
    const first = stage.orchestrator.list({ limit: 9 })
    t.strictSame(ids(first.items), ['a'])
    const second = stage.orchestrator.list({ limit: 9, cursor: first.nextCursor ?? '' })
    t.strictSame(ids(second.items), ['b', 'c', 'd'])
    t.strictSame(ids(stage.orchestrator.list({ limit: 9, cursor: second.nextCursor ?? '' }).items), ['e'])
  })

  t.test('a filter that matches nothing looks at 10,000 a page', async (t) => {
    const stage = await new Stage(t).start()
    for (let index = 0; index < 10_001; index++) await stage.orchestrator.launch(manifest(`w${index}`))
    const first = stage.orchestrator.list({ limit: 1, parentId: 'x' })
    t.match(first, { items: [], nextCursor: String })
    t.strictSame(stage.orchestrator.list({ limit: 1, parentId: 'x', cursor: first.nextCursor ?? '' }), {
      items: [],
      nextCursor: null,
    })
  })
})

t.test('close', async (t) => {
  t.test('touches no sandbox, and ends what waits for the runtime', async (t) => {
    const stage = await new Stage(t).start()
    for (const id of ['a', 'b']) await stage.orchestrator.launch(manifest(id))
    stage.driver.failing.kill = unreachable()
    t.equal(await code(stage.orchestrator.kill('a')), 'kill_unconfirmed')
    const hanging = stage.driver.hold('launch')
    const launch = code(stage.orchestrator.launch(manifest('c')))
    await hanging.reached
    const all = refusal(stage.orchestrator.killAll())
    await stage.orchestrator.close()
    const tried = stage.driver.calls.kill.length
    t.match(await all, { code: 'kill_unconfirmed', report: { complete: false } })
    t.equal(await launch, 'worker_killed')
    delete stage.driver.failing.kill
    t.equal(await code(stage.orchestrator.kill('b')), 'kill_unconfirmed')
    t.equal(stage.driver.calls.kill.length, tried)
    t.strictSame(stage.alive(), ['a', 'b'])
  })

  t.test('a launch that fails then, and a list that comes then', async (t) => {
    const runtime = await leftBehind(t, manifest('a'))
    const stage = new Stage(t, {}, runtime)
    const list = stage.driver.hold('owned')
    const started = stage.start()
    await list.reached
    await stage.orchestrator.close()
    list.release()
    await started
    t.throws(() => stage.orchestrator.get('a'))
    const other = await new Stage(t).start()
    const hold = other.driver.hold('launch')
    const launch = code(other.orchestrator.launch(manifest('b')))
    await hold.reached
    await other.orchestrator.close()
    hold.fail()
    t.equal(await launch, 'kill_unconfirmed')
    t.strictSame(other.driver.calls.kill, [])
  })
})

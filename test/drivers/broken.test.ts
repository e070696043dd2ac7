import { AssertionError } from 'node:assert'
import t from 'tap'
import {
  DriverError,
  type OwnedSandbox,
  type SandboxDriver,
  type SandboxExit,
} from '../../src/drivers/driver.ts'
import type { Simulation } from '../../src/drivers/memory/faults.ts'
import type { SimulatedRuntime } from '../../src/drivers/memory/runtime.ts'
import { guarantees } from './conformance.ts'
import { memorySubject } from './memory-subject.ts'

/** Breaks one thing of a driver that keeps its promises. */
type Break = (driver: SandboxDriver, runtime: SimulatedRuntime) => Partial<SandboxDriver>

interface Broken {
  /** What a careless author would have done. */
  readonly how: string
  readonly breaks: Break
  /** What makes the mistake matter. */
  readonly simulation?: Partial<Simulation>
}

/** Short, because a hang is waited for; nothing here fails for being slow. */
const PATIENCE_MS = 60
const deaf = new AbortController().signal

/** Every verb of a driver, so that one can be replaced. */
const verbs = (driver: SandboxDriver): SandboxDriver => ({
  name: driver.name,
  capabilities: driver.capabilities,
  launch: (request, signal) => driver.launch(request, signal),
  kill: (sandbox, signal) => driver.kill(sandbox, signal),
  remove: (sandbox, signal) => driver.remove(sandbox, signal),
  readLimits: (sandbox, signal) => driver.readLimits(sandbox, signal),
  applyLimits: (sandbox, limits, signal) => driver.applyLimits(sandbox, limits, signal),
  owned: (signal) => driver.owned(signal),
  exits: (signal) => driver.exits(signal),
  reachable: (signal) => driver.reachable(signal),
  close: () => driver.close(),
})

const isAlive = (runtime: SimulatedRuntime, sandbox: string) => {
  const found = runtime.get(sandbox)
  return found !== undefined && found.state !== 'ended'
}

async function* changed<T>(items: AsyncIterable<T>, change: (item: T) => T[]): AsyncGenerator<T> {
  for await (const item of items) yield* change(item)
}

const withOwned =
  (change: (item: OwnedSandbox) => OwnedSandbox[]): Break =>
  (driver) => ({ owned: (signal) => changed(driver.owned(signal), change) })

const withExits =
  (change: (exit: SandboxExit | 'gap') => (SandboxExit | 'gap')[]): Break =>
  (driver) => ({ exits: (signal) => changed(driver.exits(signal), change) })

/** A kill that finds nothing alive fails. */
const killsOnlyTheLiving: Break = (driver, runtime) => ({
  kill: async (sandbox, signal) => {
    if (!isAlive(runtime, sandbox)) throw new DriverError('refused', `no such sandbox: ${sandbox}`)
    await driver.kill(sandbox, signal)
  },
})

/** The launch goes on when its sandbox was killed: it comes up after all. */
const comesUpAfterKill: Break = (driver, runtime) => ({
  kill: async (sandbox, signal) => {
    const found = runtime.get(sandbox)
    await driver.kill(sandbox, signal)
    if (found?.started_at === 0) setTimeout(() => runtime.run(found), 3)
  },
})

/** A kill forgets what an earlier service left. */
const killsOnlyItsOwn: Break = (driver) => {
  const launched = new Set<string>()
  return {
    launch: (request, signal) => {
      launched.add(request.sandbox)
      return driver.launch(request, signal)
    },
    kill: async (sandbox, signal) => {
      if (launched.has(sandbox)) await driver.kill(sandbox, signal)
    },
  }
}

const SLOW = { launch_ms: 6 }

/** For each guarantee, drivers that break it. */
const broken: Record<string, readonly Broken[]> = {
  'capabilities are sane': [
    {
      how: 'bounds are the wrong way round',
      breaks: ({ capabilities }) => ({
        capabilities: { ...capabilities, cpu_limit: { minimum: 2, maximum: 1, granularity: 0 } },
      }),
    },
    {
      how: 'it lists a network policy twice',
      breaks: ({ capabilities }) => {
        const { networkPolicies } = capabilities
        return {
          capabilities: { ...capabilities, networkPolicies: [...networkPolicies, ...networkPolicies] },
        }
      },
    },
  ],
  'a network policy that is not among the capabilities is refused': [
    {
      how: 'it launches whatever it cannot hold',
      breaks: ({ capabilities }) => ({
        capabilities: { ...capabilities, networkPolicies: capabilities.networkPolicies.slice(0, 1) },
      }),
    },
  ],
  'launch settles once the sandbox runs': [
    {
      how: 'it settles before it is up',
      simulation: SLOW,
      breaks: (driver) => ({
        launch: async (request, signal) => {
          driver.launch(request, signal).catch(() => {})
          return { started_at: new Date(), ended: null }
        },
      }),
    },
    {
      how: 'it tells the worker id of another',
      breaks: withOwned((one) => [{ ...one, worker_id: 'another' }]),
    },
    {
      how: 'it never settles',
      breaks: () => ({ launch: () => new Promise(() => {}) }),
    },
  ],
  'a sandbox runs inside its limits from the start': [
    {
      how: 'it launches without a limit',
      breaks: (driver) => ({
        launch: (request, signal) =>
          driver.launch({ ...request, limits: { ...request.limits, memory_limit_mb: 1_000_000 } }, signal),
      }),
    },
  ],
  'on abort a launch rejects at once, also where the runtime hangs': [
    { how: 'it hears no abort', breaks: (driver) => ({ launch: (request) => driver.launch(request, deaf) }) },
  ],
  'kill settles once nothing lives': [
    { how: 'it kills nothing', breaks: () => ({ kill: async () => {} }) },
    {
      how: 'it settles when the kill was asked for',
      simulation: { kill_ms: 50 },
      breaks: (driver) => ({
        kill: async (sandbox, signal) => {
          driver.kill(sandbox, signal).catch(() => {})
        },
      }),
    },
  ],
  'kill of what was never seen succeeds': [{ how: 'it knows no such sandbox', breaks: killsOnlyTheLiving }],
  'kill of what is dead succeeds, as often as it comes': [
    { how: 'it kills no dead one', breaks: killsOnlyTheLiving },
  ],
  'kill of what was removed succeeds': [{ how: 'it knows it no longer', breaks: killsOnlyTheLiving }],
  'kill of what ended by itself succeeds': [{ how: 'it kills no ended one', breaks: killsOnlyTheLiving }],
  'kills of one sandbox at the same moment all succeed': [
    {
      how: 'it refuses the second',
      breaks: (driver) => {
        const killing = new Set<string>()
        return {
          kill: async (sandbox, signal) => {
            if (killing.has(sandbox)) throw new DriverError('refused', `${sandbox} is being killed already`)
            killing.add(sandbox)
            await driver.kill(sandbox, signal)
          },
        }
      },
    },
  ],
  'a kill is valid from the moment launch is called': [
    { how: 'it comes up after its kill', simulation: SLOW, breaks: comesUpAfterKill },
    {
      how: 'a kill finds nothing that runs yet',
      simulation: SLOW,
      breaks: (driver, runtime) => ({
        kill: async (sandbox, signal) => {
          if (runtime.get(sandbox)?.state === 'running') await driver.kill(sandbox, signal)
        },
      }),
    },
    {
      how: 'the launch that was killed never settles',
      simulation: SLOW,
      breaks: (driver) => ({
        launch: (request, signal) => driver.launch(request, signal).catch(() => new Promise(() => {})),
      }),
    },
  ],
  'after the kill of an aborted launch nothing comes up': [
    { how: 'it comes up after its kill', simulation: SLOW, breaks: comesUpAfterKill },
  ],
  'after the kill of a launch that was aborted half way nothing comes up': [
    { how: 'it comes up after its kill', simulation: SLOW, breaks: comesUpAfterKill },
  ],
  'kill ends what an earlier service left half made': [
    { how: 'it kills only what it launched', breaks: killsOnlyItsOwn },
  ],
  'kill ends what was launched before a restart': [
    { how: 'it kills only what it launched', breaks: killsOnlyItsOwn },
  ],
  'kill leaves another sandbox of the same worker alive': [
    {
      how: 'it kills by worker id',
      breaks: (driver, runtime) => ({
        kill: async (sandbox, signal) => {
          const worker = runtime.get(sandbox)?.worker_id
          for (const [other, { worker_id }] of [...runtime.entries()]) {
            if (worker_id === worker) await driver.kill(other, signal)
          }
        },
      }),
    },
  ],
  'a kill that the runtime does not confirm is an error': [
    {
      how: 'it logs the failure and returns',
      breaks: (driver) => ({ kill: (sandbox, signal) => driver.kill(sandbox, signal).catch(() => {}) }),
    },
  ],
  'remove takes away what death left': [
    { how: 'it removes nothing', breaks: () => ({ remove: async () => {} }) },
  ],
  'remove of what is gone succeeds': [
    {
      how: 'it knows no such sandbox',
      breaks: (driver, runtime) => ({
        remove: async (sandbox, signal) => {
          if (runtime.get(sandbox) === undefined)
            throw new DriverError('refused', `no such sandbox: ${sandbox}`)
          await driver.remove(sandbox, signal)
        },
      }),
    },
  ],
  'remove of a live sandbox is refused, and it lives on': [
    {
      how: 'it kills it first',
      breaks: (driver) => ({
        remove: async (sandbox, signal) => {
          await driver.kill(sandbox, signal)
          await driver.remove(sandbox, signal)
        },
      }),
    },
    {
      how: 'it kills it, and refuses then',
      breaks: (driver) => ({
        remove: async (sandbox, signal) => {
          await driver.kill(sandbox, signal)
          throw new DriverError('refused', `${sandbox} was alive`)
        },
      }),
    },
  ],
  'readLimits tells what readsBack names, and null for the rest': [
    {
      how: 'it promises to tell the usage',
      breaks: ({ capabilities }) => ({ capabilities: { ...capabilities, readsBack: ['usage'] } }),
    },
  ],
  'readLimits tells what is applied, not what was asked': [
    {
      how: 'it tells what was asked',
      breaks: (driver) => {
        const asked = new Map<string, Awaited<ReturnType<SandboxDriver['readLimits']>>>()
        return {
          launch: (request, signal) => {
            asked.set(request.sandbox, { limits: request.limits, usage: null })
            return driver.launch(request, signal)
          },
          readLimits: async (sandbox, signal) => asked.get(sandbox) ?? driver.readLimits(sandbox, signal),
        }
      },
    },
  ],
  'applyLimits repairs what was changed': [
    { how: 'it applies nothing', breaks: () => ({ applyLimits: async () => 'applied' }) },
    { how: 'it defers for ever', breaks: () => ({ applyLimits: async () => 'deferred' }) },
  ],
  'owned gives the manifest byte for byte': [
    {
      how: 'it parses and writes it',
      breaks: withOwned((one) => [{ ...one, manifest: JSON.stringify(JSON.parse(one.manifest ?? 'null')) }]),
    },
    {
      how: 'it cuts it',
      breaks: withOwned((one) => [{ ...one, manifest: one.manifest?.slice(0, 65_536) ?? null }]),
    },
  ],
  'owned lists what is half made': [
    { how: 'it lists what runs', breaks: withOwned((one) => (one.state === 'starting' ? [] : [one])) },
    { how: 'it takes it for running', breaks: withOwned((one) => [{ ...one, state: 'running' }]) },
  ],
  'owned lists what ended by itself, and how, until it is removed': [
    { how: 'it lists what lives', breaks: withOwned((one) => (one.state === 'ended' ? [] : [one])) },
    {
      how: 'it takes each end for a good one',
      breaks: withOwned((one) => [{ ...one, ending: { exit_code: 0, out_of_memory: false } }]),
    },
  ],
  'owned lists every sandbox, each once': [
    { how: 'it lists twice', breaks: withOwned((one) => [one, one]) },
    {
      how: 'it lists one page',
      breaks: (driver) => ({
        async *owned(signal) {
          let listed = 0
          for await (const one of driver.owned(signal)) if (listed++ < 2) yield one
        },
      }),
    },
  ],
  'owned is the same after a restart': [
    {
      how: 'it lists what it launched',
      breaks: (driver, runtime) => {
        const before = new Set([...runtime.entries()].map(([sandbox]) => sandbox))
        return withOwned((one) => (before.has(one.sandbox) ? [] : [one]))(driver, runtime)
      },
    },
  ],
  'exits tells of an end by itself, and how': [
    { how: 'it tells nothing', breaks: withExits(() => []) },
    {
      how: 'it tells another code',
      breaks: withExits((exit) => [exit === 'gap' ? exit : { ...exit, exit_code: 0 }]),
    },
  ],
  'exits tells of each end from its call on, however late it is read': [
    {
      how: 'it listens when it is first read',
      breaks: (driver) => ({
        async *exits(signal) {
          yield* driver.exits(signal)
        },
      }),
    },
  ],
  'exits tells everyone who listens': [
    {
      how: 'all read one stream',
      breaks: (driver) => {
        let shared: AsyncIterable<SandboxExit | 'gap'> | undefined
        return {
          exits: (signal) => {
            shared ??= driver.exits(signal)
            return shared
          },
        }
      },
    },
  ],
  'exits tells of what was launched before a restart': [
    {
      how: 'it tells of what it launched',
      breaks: (driver, runtime) => {
        const before = new Set([...runtime.entries()].map(([sandbox]) => sandbox))
        return {
          exits: (signal) => {
            const exits = driver.exits(signal)
            return changed(exits, (exit) => (exit !== 'gap' && before.has(exit.sandbox) ? [] : [exit]))
          },
        }
      },
    },
  ],
  'exits ends when its signal aborts': [
    { how: 'it hears no abort', breaks: (driver) => ({ exits: () => driver.exits(deaf) }) },
  ],
  'reachable settles where the runtime answers': [
    {
      how: 'it never reaches it',
      breaks: () => ({
        reachable: async () => {
          throw new DriverError('unreachable', 'wrong address')
        },
      }),
    },
  ],
  'reachable rejects where the runtime does not answer': [
    { how: 'it never asks', breaks: () => ({ reachable: async () => {} }) },
  ],
  'on abort everything else settles too, where the runtime hangs': [
    {
      how: 'readLimits hears none',
      breaks: (driver) => ({ readLimits: (one) => driver.readLimits(one, deaf) }),
    },
    {
      how: 'applyLimits hears none',
      breaks: (driver) => ({ applyLimits: (one, limits) => driver.applyLimits(one, limits, deaf) }),
    },
    { how: 'owned hears none', breaks: (driver) => ({ owned: () => driver.owned(deaf) }) },
    { how: 'remove hears none', breaks: (driver) => ({ remove: (one) => driver.remove(one, deaf) }) },
    { how: 'kill hears none', breaks: (driver) => ({ kill: (one) => driver.kill(one, deaf) }) },
  ],
  'with a signal that aborted before, everything rejects and nothing is launched': [
    { how: 'it launches', breaks: (driver) => ({ launch: (request) => driver.launch(request, deaf) }) },
    {
      how: 'it launches, and rejects then',
      breaks: (driver) => ({
        launch: async (request, signal) => {
          const launched = await driver.launch(request, deaf)
          signal.throwIfAborted()
          return launched
        },
      }),
    },
    { how: 'it lists', breaks: (driver) => ({ owned: () => driver.owned(deaf) }) },
  ],
  'what fails, fails with a DriverError': [
    {
      how: "it throws the runtime's own error",
      breaks: (driver) => ({
        readLimits: (sandbox, signal) =>
          driver.readLimits(sandbox, signal).catch(() => Promise.reject(new Error('404 not found'))),
      }),
    },
    {
      how: 'it succeeds with nothing',
      breaks: () => ({ applyLimits: async () => 'applied' }),
    },
  ],
  'close touches no sandbox': [
    {
      how: 'it kills what it launched',
      breaks: (driver, runtime) => ({
        close: async () => {
          for (const [sandbox] of runtime.entries()) runtime.kill(sandbox)
          await driver.close()
        },
      }),
    },
    { how: 'it never settles', breaks: () => ({ close: () => new Promise(() => {}) }) },
  ],
}

t.test('every guarantee has a broken driver, and every broken driver a guarantee', async (t) => {
  t.strictSame(Object.keys(broken).sort(), guarantees.map(({ name }) => name).sort())
})

t.test('a wrapped driver that is not broken keeps every guarantee', async (t) => {
  const whole = memorySubject(SLOW, 5000, verbs)
  for (const { name, hold } of guarantees) await t.resolves(hold(whole), name)
})

for (const { name, hold } of guarantees) {
  for (const { how, simulation, breaks } of broken[name] ?? []) {
    t.test(`${name}: broken where ${how}`, async (t) => {
      const wrap = (driver: SandboxDriver, runtime: SimulatedRuntime) => ({
        ...verbs(driver),
        ...breaks(driver, runtime),
      })
      const [outcome] = await Promise.allSettled([hold(memorySubject(simulation, PATIENCE_MS, wrap))])
      t.equal(outcome.status, 'rejected')
      // Not a mistake of this file: what a guarantee says, or what the broken verb itself says.
      const error: unknown = outcome.status === 'rejected' ? outcome.reason : undefined
      t.ok(error instanceof AssertionError || error instanceof DriverError, String(error))
    })
  }
}

import fc from 'fast-check'
import t from 'tap'
import type { LaunchRequest, SandboxDriver } from '../../src/drivers/driver.ts'
import { openMemoryDriver } from '../../src/drivers/memory/driver.ts'
import type { Simulation } from '../../src/drivers/memory/faults.ts'
import { SimulatedRuntime } from '../../src/drivers/memory/runtime.ts'
import { anyCommand, type Command, settle, World } from './model.ts'
import { ScheduledDriver, type Script } from './scheduled-driver.ts'

/** Printed with a counterexample; `FAST_CHECK_SEED=<seed>` tries others. */
const seed = Number(process.env['FAST_CHECK_SEED'] ?? 20260106)
const numRuns = Number(process.env['FAST_CHECK_RUNS'] ?? 120)

/** What hangs is a failure; a counterexample is told as small as it has become in that time. */
const parameters = { seed, timeout: 5000, interruptAfterTimeLimit: Math.max(10_000, 100 * numRuns) }

type Launched = (request: LaunchRequest) => void

const script: fc.Arbitrary<Script> = fc.record({
  launches: fc.array(fc.constantFrom('ok', 'ok', 'ok', 'refused', 'half made', 'lost answer', 'slow'), {
    maxLength: 8,
  }),
  kills: fc.array(fc.constantFrom('ok', 'ok', 'lost call', 'lost answer', 'slow'), { maxLength: 8 }),
  removals: fc.array(fc.constantFrom('ok', 'fails'), { maxLength: 4 }),
  lists: fc.array(fc.constantFrom('ok', 'ok', 'fails'), { maxLength: 4 }),
  exits: fc.array(fc.constantFrom('told', 'gap'), { maxLength: 4 }),
  limits: fc.array(fc.constantFrom('ok', 'ok', 'unreachable', 'refused'), { maxLength: 6 }),
})
/** Each is asked for at one moment. */
const volleys = fc.array(fc.array(anyCommand, { minLength: 1, maxLength: 3 }), {
  minLength: 1,
  maxLength: 10,
})

function schedule(scheduler: fc.Scheduler, world: World, list: readonly (readonly Command[])[]): void {
  const fire = (volley: readonly Command[]) => async () => {
    for (const command of volley) world.run(command)
  }
  scheduler.scheduleSequence(list.map((volley) => ({ label: JSON.stringify(volley), builder: fire(volley) })))
}

/** The world ends with the work, as if its process was killed. */
async function within(world: World, work: (world: World) => Promise<void>): Promise<void> {
  try {
    await work(world)
  } finally {
    await world.close()
  }
}

t.test('what the contract promises holds after any interleaving', async () => {
  const property = fc.asyncProperty(
    fc.scheduler(),
    fc.boolean(),
    volleys,
    script,
    async (scheduler, hurried, list, script) => {
      const runtime = new SimulatedRuntime()
      const open = (launched: Launched) => new ScheduledDriver(runtime, scheduler, script, launched)
      await within(new World(runtime, open, { isExact: !hurried }), async (world) => {
        const started = world.orchestrator.start()
        await settle(scheduler, () => {})
        await started
        schedule(scheduler, world, list)
        await settle(scheduler, () => world.check(), { hurried })
        world.checkSettled()
      })
    },
  )
  await fc.assert(property, { ...parameters, numRuns })
})

t.test('after a crash at any moment everything is adopted or killed, whatever comes meanwhile', async () => {
  const orders = fc.array(fc.array(anyCommand, { minLength: 1, maxLength: 2 }), { maxLength: 4 })
  const property = fc.asyncProperty(
    fc.scheduler(),
    volleys,
    script,
    fc.nat(60),
    orders,
    script,
    async (scheduler, list, script, steps, later, laterScript) => {
      const runtime = new SimulatedRuntime()
      const openWith = (script: Script) => (launched: Launched) =>
        new ScheduledDriver(runtime, scheduler, script, launched)
      await within(new World(runtime, openWith(script)), async (first) => {
        const started = first.orchestrator.start()
        await settle(scheduler, () => {})
        await started
        schedule(scheduler, first, list)
        await settle(scheduler, () => first.check(), { steps })
      })
      await settle(scheduler, () => {})
      await within(new World(runtime, openWith(laterScript)), async (second) => {
        const restarted = second.orchestrator.start()
        schedule(scheduler, second, later)
        await settle(scheduler, () => second.check())
        await restarted
        second.checkSettled()
      })
    },
  )
  await fc.assert(property, { ...parameters, numRuns })
})

/** The same driver, which tells of each launch that is asked of it. */
const telling = (driver: SandboxDriver, launched: Launched): SandboxDriver => ({
  name: driver.name,
  capabilities: driver.capabilities,
  launch(request, signal) {
    launched(request)
    return driver.launch(request, signal)
  },
  kill: (sandbox, signal) => driver.kill(sandbox, signal),
  remove: (sandbox, signal) => driver.remove(sandbox, signal),
  readLimits: (sandbox, signal) => driver.readLimits(sandbox, signal),
  applyLimits: (sandbox, limits, signal) => driver.applyLimits(sandbox, limits, signal),
  owned: (signal) => driver.owned(signal),
  exits: (signal) => driver.exits(signal),
  reachable: (signal) => driver.reachable(signal),
  close: () => driver.close(),
})

t.test('it holds over the simulation with its latencies and its faults', async () => {
  const rate = (highest: number) => fc.oneof(fc.constant(0), fc.double({ min: 0, max: highest, noNaN: true }))
  const simulation: fc.Arbitrary<Simulation> = fc.record({
    launch_ms: fc.nat(2),
    kill_ms: fc.nat(2),
    launch_failure_rate: rate(0.6),
    kill_failure_rate: rate(0.6),
    exit_rate: fc.constantFrom(0, 0, 1),
    drift_rate: rate(1),
    seed: fc.nat(),
  })
  const property = fc.asyncProperty(volleys, simulation, async (list, simulation) => {
    const runtime = new SimulatedRuntime()
    const open = (launched: Launched) => telling(openMemoryDriver(simulation, runtime), launched)
    await within(new World(runtime, open), async (world) => {
      await world.orchestrator.start()
      for (const volley of list) {
        for (const command of volley) world.run(command)
        await world.nextPause()
        world.check()
      }
      await world.settled()
      world.checkSettled()
    })
  })
  await fc.assert(property, { ...parameters, numRuns: Math.ceil(numRuns / 5) })
})

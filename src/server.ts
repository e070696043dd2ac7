#!/usr/bin/env node
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { buildApp } from './app.ts'
import { type Config, readConfig, settingsHelp } from './config.ts'
import { openLog } from './log.ts'
import { VERSION } from './version.ts'

/** What the log may take to be written at the end, where its reader is slow. */
const LOG_DEADLINE_MS = 1000
/** How often connections that have become idle are looked for, once the service ends. */
const IDLE_SWEEP_MS = 50
/** What is left to do once the connections are cut takes no longer, or is given up. */
const CUT_DEADLINE_MS = 1000

const HELP = `Usage: sandbox-orchestrator [--help | --version]

Launches, bounds and kills the sandboxes in which AI agent workers run, over REST.
SIGTERM and SIGINT end it once the requests in flight have ended, a second one at once.

Settings come from the environment; an empty variable counts as unset. Name, default and meaning:

${settingsHelp()}`

const asked = readArguments()
if (asked?.help) console.log(HELP)
else if (asked?.version) console.log(VERSION)
else if (asked) await serve()

function readArguments(): { help?: boolean; version?: boolean } | undefined {
  try {
    return parseArgs({ options: { help: { type: 'boolean' }, version: { type: 'boolean' } } }).values
  } catch (error) {
    refuseToStart([`${messageOf(error)}; --help tells what there is`])
    return undefined
  }
}

async function serve(): Promise<void> {
  const reading = readConfig(process.env)
  if ('mistakes' in reading) {
    refuseToStart(reading.mistakes)
    return
  }
  const { config, warnings } = reading
  const { logger, close: closeLog } = await openLog(config.LOG_LEVEL, { fd: 1, stream: () => process.stdout })
  guardProcess(logger)
  for (const warning of warnings) logger.warn(warning)

  const stopSignal = firstStopSignal()
  const app = await start(config, logger)
  logger.info({ signal: await stopSignal }, 'shutting down')
  const exitCode = await shutDown(app, config, logger)
  logger.info({ exit_code: exitCode }, 'ended')
  await closeLog(LOG_DEADLINE_MS)
  process.exit(exitCode)
}

async function start(config: Config, logger: FastifyBaseLogger): Promise<FastifyInstance> {
  try {
    const app = await buildApp(config, { logger })
    const listenTextResolver = (address: string) =>
      `listening on ${address}, driver ${config.DRIVER}, version ${VERSION}`
    await app.listen({ host: config.HOST, port: config.PORT, listenTextResolver })
    return app
  } catch (error) {
    logger.fatal({ err: error }, `cannot start: ${messageOf(error)}`)
    process.exit(1)
  }
}

/** Ends the service within its grace, and returns the exit code: 1 where workers should be dead and may not be. */
async function shutDown(app: FastifyInstance, config: Config, logger: FastifyBaseLogger): Promise<number> {
  const graceIsOver = delay(config.SHUTDOWN_GRACE_MS, false)
  const inTime = (work: Promise<boolean>) => Promise.race([work, graceIsOver])

  app.orchestrator.drain()
  const asAsked = config.ON_SHUTDOWN === 'keep' || (await inTime(killEveryWorker(app, logger)))
  if (!asAsked) logger.error('not every worker is confirmed dead')

  const closed = close(app, logger)
  if (!(await inTime(closed))) {
    logger.warn('SHUTDOWN_GRACE_MS is over: the remaining connections are cut')
    app.server.closeAllConnections()
    await Promise.race([closed, delay(CUT_DEADLINE_MS)])
  }
  return asAsked ? 0 : 1
}

async function killEveryWorker(app: FastifyInstance, logger: FastifyBaseLogger): Promise<boolean> {
  try {
    const { complete } = await app.orchestrator.killAll('shutdown')
    return complete
  } catch (error) {
    logger.error({ err: error }, 'the kill of all workers failed')
    return false
  }
}

/** Stops accepting, ends streams, and waits for the requests in flight. */
async function close(app: FastifyInstance, logger: FastifyBaseLogger): Promise<boolean> {
  // Node closes the connections that are idle now, not those that become so when their answer is sent.
  const sweep = setInterval(() => app.server.closeIdleConnections(), IDLE_SWEEP_MS)
  try {
    await app.close()
  } catch (error) {
    logger.error({ err: error }, 'something would not close')
  }
  clearInterval(sweep)
  return true
}

/** Settles with the first signal to stop; the second ends the process at once. */
function firstStopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let asked = false
    const onSignal = (signal: NodeJS.Signals) => {
      if (asked) process.exit(1)
      asked = true
      resolve(signal)
    }
    process.on('SIGTERM', onSignal)
    process.on('SIGINT', onSignal)
  })
}

function guardProcess(logger: FastifyBaseLogger): void {
  // A control plane in an unknown state must not go on as if its kills could be believed: it ends, and the next start
  // finds what runs.
  process.on('uncaughtException', (error, origin) => {
    logger.fatal({ err: error, origin }, 'unexpected error: the process ends')
    process.exit(1)
  })
  // Node writes its warnings to stderr, and waits there if nobody reads.
  process.removeAllListeners('warning')
  process.on('warning', (warning) => logger.warn({ err: warning }, warning.message))
  // Nobody may be left to read it. On stdout writes the log alone, which copes.
  process.stderr.on('error', () => {})
}

function refuseToStart(reasons: readonly string[]): void {
  for (const reason of reasons) console.error(`sandbox-orchestrator: ${reason}`)
  process.exitCode = 1
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

import Fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify'
import { document } from '../routes/document.ts'
import { events } from '../routes/events.ts'
import { health } from '../routes/health.ts'
import { killAll } from '../routes/kill-all.ts'
import { metrics } from '../routes/metrics.ts'
import { workers } from '../routes/workers.ts'
import type { Config } from './config.ts'
import type { SandboxDriver } from './drivers/driver.ts'
import { openDriver } from './drivers/open-driver.ts'
import { Orchestrator } from './orchestrator/orchestrator.ts'
import type { Settings } from './orchestrator/settings.ts'
import { readStoredManifest } from './plugins/body-readers.ts'
import { connectionRefusals, refuseConnection } from './plugins/connections.ts'
import { jsonBody } from './plugins/json-body.ts'
import { Metrics } from './plugins/metrics.ts'
import { openapi, yamlDocument } from './plugins/openapi.ts'
import { decodableUrl } from './plugins/path.ts'
import { pipelining } from './plugins/pipelining.ts'
import { problems, refuseEarly } from './plugins/problems.ts'
import { parseQuery } from './plugins/query.ts'
import { requestIdOf } from './plugins/request-id.ts'
import { eventLogLines, requestLog } from './plugins/request-log.ts'
import { securityHeaders } from './plugins/security-headers.ts'
import { serialization } from './plugins/serialization.ts'
import { validation } from './plugins/validation.ts'
import { EventStreams } from './streams/event-stream.ts'
import { VERSION } from './version.ts'

declare module 'fastify' {
  interface FastifyInstance {
    readonly orchestrator: Orchestrator
  }
}

export interface Parts {
  /** Instead of the one that the configuration names. */
  readonly driver?: SandboxDriver
  /** Without it nothing is logged. */
  readonly logger?: FastifyBaseLogger
}

/** The whole service, not listening yet. Everything is constructed and registered here, in order; nothing is global. */
export async function buildApp(config: Config, { driver, logger }: Parts = {}): Promise<FastifyInstance> {
  const app = Fastify({ ...serverOptions(config), ...(logger !== undefined && { loggerInstance: logger }) })
  const measurements = new Metrics()
  const orchestrator = new Orchestrator({
    driver: driver ?? openDriver(config),
    readManifest: readStoredManifest,
    settings: coreSettings(config),
    observer: measurements,
    log: app.log,
  })
  const streams = new EventStreams(orchestrator.events)
  app.decorate('orchestrator', orchestrator)
  app.addHook('onReady', () => orchestrator.start())
  app.addHook('preClose', async () => streams.close())
  app.addHook('onClose', () => orchestrator.close())

  problems(app)
  connectionRefusals(app)
  pipelining(app)
  securityHeaders(app)
  requestLog(app, (request) => measurements.requestEnded(request))
  eventLogLines(orchestrator.events, app.log)
  measurements.observe(app, orchestrator)
  jsonBody(app)
  validation(app)
  serialization(app)
  await openapi(app, VERSION)

  await app.register(workers, { orchestrator })
  await app.register(killAll, {
    orchestrator,
    bodyLimit: Math.max(config.BODY_LIMIT_BYTES, KILL_ALL_BODY_BYTES),
  })
  await app.register(events, { events: orchestrator.events, streams })
  await app.register(health, { orchestrator, version: VERSION })
  await app.register(metrics, { registry: measurements.registry })
  await app.register(document, { yaml: () => yamlDocument(app) })
  return app
}

/** However small BODY_LIMIT_BYTES is, a reason fits. */
const KILL_ALL_BODY_BYTES = 1024 * 1024

/** Node's own limit for the request line and the headers together. */
const MAX_HEADER_BYTES = 16 * 1024

/** Here and not in `server.ts`, so that tests have them too. */
function serverOptions(config: Config) {
  return {
    bodyLimit: config.BODY_LIMIT_BYTES,
    requestTimeout: config.REQUEST_TIMEOUT_MS,
    // A kill that arrives on an open connection while the service ends is still carried out.
    return503OnClosing: false,
    logController: new LogController({ disableRequestLogging: true }),
    childLoggerFactory: (parent: FastifyBaseLogger) => parent,
    genReqId: requestIdOf,
    rewriteUrl: decodableUrl,
    frameworkErrors: refuseEarly,
    clientErrorHandler: refuseConnection,
    http: {
      headersTimeout: config.REQUEST_TIMEOUT_MS,
      connectionsCheckingInterval: Math.min(1000, config.REQUEST_TIMEOUT_MS),
      maxHeaderSize: MAX_HEADER_BYTES,
      requireHostHeader: false,
    },
    routerOptions: {
      // An id that is too long is no id, hence no worker: its own 404, not the router's 414.
      maxParamLength: MAX_HEADER_BYTES,
      querystringParser: parseQuery,
    },
  } as const
}

const coreSettings = (config: Config): Partial<Settings> => ({
  launchTimeoutMs: config.LAUNCH_TIMEOUT_MS,
  killTimeoutMs: config.KILL_TIMEOUT_MS,
  runtimeTimeoutMs: config.RUNTIME_TIMEOUT_MS,
  maxLiveWorkers: config.MAX_WORKERS,
  retainedRecords: config.RETAINED_RECORDS,
  retainedEvents: config.RETAINED_EVENTS,
  maxStateBytes: config.MAX_STATE_BYTES,
})

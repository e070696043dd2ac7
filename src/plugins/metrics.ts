import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks'
import type { FastifyInstance } from 'fastify'
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Cause } from '../../schemas/worker.ts'
import type { Occurrence } from '../orchestrator/event-log.ts'
import type { Observer } from '../orchestrator/observer.ts'
import type { Orchestrator } from '../orchestrator/orchestrator.ts'
import type { EndedRequest } from './request-log.ts'

const SECONDS = [0.001, 0.005, 0.025, 0.1, 0.25, 1, 2.5, 10, 30]
const NANOSECONDS = 1e9

/** What Prometheus reads. No label takes a value that a caller can multiply. */
export class Metrics implements Observer {
  readonly registry = new Registry()
  readonly #launches = this.#counter('sandbox_launches_total', 'Workers that were launched.')
  readonly #enforced = this.#counter('resource_enforced_total', 'Enforcements after which every limit held.')
  readonly #kills = new Counter({
    name: 'sandbox_kills_total',
    help: 'Workers whose death was confirmed after a kill, by cause.',
    labelNames: ['cause'],
    registers: [this.registry],
  })
  readonly #rejected = new Counter({
    name: 'sandbox_launches_rejected_total',
    help: 'Launches that were refused before they had a record, or failed to start, by code.',
    labelNames: ['code'],
    registers: [this.registry],
  })
  readonly #killSeconds = this.#histogram('sandbox_kill_seconds', 'From kill requested to death confirmed.')
  readonly #killAllSeconds = this.#histogram(
    'sandbox_kill_all_seconds',
    'From the start of a kill-all to its answer.',
  )
  readonly #requestSeconds = new Histogram({
    name: 'http_request_seconds',
    help: 'Requests by route template.',
    labelNames: ['method', 'route', 'status'],
    buckets: SECONDS,
    registers: [this.registry],
  })
  readonly #eventLoop: IntervalHistogram = monitorEventLoopDelay({ resolution: 20 })

  died(cause: Cause, milliseconds: number): void {
    this.#kills.inc({ cause })
    this.#killSeconds.observe(milliseconds / 1000)
  }

  killAllEnded(milliseconds: number): void {
    this.#killAllSeconds.observe(milliseconds / 1000)
  }

  happened({ name, fields }: Occurrence): void {
    if (name === 'container_launched') this.#launches.inc()
    else if (name === 'resource_enforced') this.#enforced.inc()
    else if (name === 'launch_rejected' && 'code' in fields) this.#rejected.inc({ code: fields.code })
  }

  /** Watches this app and its orchestrator until the app closes. */
  observe(app: FastifyInstance, orchestrator: Orchestrator): void {
    orchestrator.events.subscribe((occurrence) => this.happened(occurrence))
    this.#gaugeWorkers(orchestrator)
    this.#gaugeEventLoop()
    this.#eventLoop.enable()
    app.addHook('onClose', (_app, done) => {
      this.#eventLoop.disable()
      done()
    })
  }

  requestEnded({ method, route, status, seconds }: EndedRequest): void {
    this.#requestSeconds.observe({ method, route: route ?? 'none', status }, seconds)
  }

  #counter(name: string, help: string): Counter {
    return new Counter({ name, help, registers: [this.registry] })
  }

  #histogram(name: string, help: string): Histogram {
    return new Histogram({ name, help, buckets: SECONDS, registers: [this.registry] })
  }

  #gaugeWorkers(orchestrator: Orchestrator): void {
    new Gauge({
      name: 'sandbox_workers',
      help: 'Live workers by status.',
      labelNames: ['status'],
      registers: [this.registry],
      collect() {
        for (const [status, count] of Object.entries(orchestrator.counts)) this.set({ status }, count)
      },
    })
  }

  /** Since the last scrape. */
  #gaugeEventLoop(): void {
    const delay = this.#eventLoop
    new Gauge({
      name: 'event_loop_delay_seconds',
      help: 'How late the event loop was since the last scrape.',
      labelNames: ['quantile'],
      registers: [this.registry],
      collect() {
        this.set({ quantile: '0.5' }, delay.percentile(50) / NANOSECONDS)
        this.set({ quantile: '0.99' }, delay.percentile(99) / NANOSECONDS)
        this.set({ quantile: '1' }, delay.max / NANOSECONDS)
        delay.reset()
      },
    })
  }
}

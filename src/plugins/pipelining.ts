import type { ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { FastifyInstance } from 'fastify'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Whether it goes ahead of what its connection sent before it. */
    urgent?: boolean
  }
}

/** A client that does not take its answer in this time is cut off. */
const PATIENCE_MS = 30_000

/** The latest answer of each connection that waits to be taken. */
const latest = new WeakMap<Duplex, ServerResponse>()

const isRead = (method: string): boolean => method === 'GET' || method === 'HEAD'

const isOver = (response: ServerResponse): boolean => response.writableFinished || response.destroyed

function cutIfNotTaken(response: ServerResponse, patienceMs: number): void {
  const timer = setTimeout(() => response.destroy(), patienceMs).unref()
  response.once('close', () => clearTimeout(timer))
}

/**
 * One request of a connection at a time, except a kill: Node hands over all that one packet holds at once, and a
 * thousand pages that nobody takes would fill the memory. Who does not take an answer does not keep it either.
 */
export function pipelining(app: FastifyInstance, patienceMs = PATIENCE_MS): void {
  app.addHook('onRequest', (request, reply, done) => {
    const { socket } = request.raw
    const earlier = latest.get(socket)
    latest.set(socket, reply.raw)
    reply.raw.once('prefinish', () => {
      if (reply.raw.writableLength > 0) cutIfNotTaken(reply.raw, patienceMs)
    })
    if (earlier === undefined || isOver(earlier) || request.routeOptions.config.urgent === true) done()
    else {
      earlier.once('close', () => {
        // Whoever left reads nothing more; what was to be done is done all the same.
        if (socket.destroyed && isRead(request.method)) reply.raw.destroy()
        else done()
      })
    }
  })
}

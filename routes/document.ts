import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'

interface Needs {
  /** The document in YAML, asked for when every route is known. */
  readonly yaml: () => string
}

/** The OpenAPI document itself; it does not describe its own routes. */
export const document: FastifyPluginAsyncTypebox<Needs> = async (app, { yaml }) => {
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger())
  app.get('/openapi.yaml', { schema: { hide: true } }, async (_request, reply) => {
    reply.type('application/yaml')
    return yaml()
  })
}

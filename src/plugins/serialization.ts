import type { FastifyInstance } from 'fastify'
import { JsonText } from '../../schemas/references.ts'

/**
 * Answers as they are. A serializer compiled from the schema would write defaults into a manifest that lacked them and
 * respell its numbers, so what is signed is handed over as text.
 */
export const serialize = (answer: unknown): string =>
  answer instanceof JsonText ? answer.text : JSON.stringify(answer)

export function serialization(app: FastifyInstance): void {
  app.setSerializerCompiler(() => serialize)
}

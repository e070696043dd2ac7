import { type Static, type TSchema, Type } from 'typebox'

/** Gives a schema the name under which it appears in the document's `components/schemas`. */
export const named = <Id extends string, Schema extends TSchema>(
  $id: Id,
  schema: Schema,
): Schema & { $id: Id } => Object.assign(schema, { $id })

/** A `$ref` on the wire, the full static type in TypeScript. */
export const ref = <Schema extends TSchema>(schema: Schema & { $id: string }) =>
  Type.Unsafe<Static<Schema>>(Type.Ref(schema.$id))

/** An answer that was serialised where its parts are known as text, so that no number changes its spelling. */
export class JsonText {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

/** A `$ref` on the wire whose value the handler hands over as {@link JsonText}. */
export const refAsText = (schema: TSchema & { $id: string }) => Type.Unsafe<JsonText>(Type.Ref(schema.$id))

/**
 * A string whose known values may grow: clients must expect others. Not an `enum`, because generated clients refuse
 * what an enum does not list.
 */
export const openEnum = <Value extends string>(values: readonly Value[], options: { description: string }) =>
  Type.Unsafe<Value>({
    type: 'string',
    description: `${options.description} Known values: ${values.map((value) => `\`${value}\``).join(', ')}. Expect new ones.`,
    'x-extensible-enum': values,
  })

/** RFC 3339 in UTC with milliseconds and `Z`, as every time that this service writes. */
export const Time = (description: string) => Type.String({ format: 'date-time', description })

export const nullable = <Schema extends TSchema>(schema: Schema) => Type.Union([schema, Type.Null()])

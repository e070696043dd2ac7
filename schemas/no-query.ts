import { Type } from 'typebox'

/** The query of a route that has no parameters: each is unknown, and refused as that. */
export const NoQuery = Type.Object({}, { additionalProperties: false })

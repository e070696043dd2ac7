/** A query as text: a repeated parameter becomes a list, which no schema takes. `__proto__` is a name like any other. */
export function parseQuery(text: string): Record<string, string | string[]> {
  const parameters = new Map<string, string | string[]>()
  for (const [name, value] of new URLSearchParams(text)) {
    const earlier = parameters.get(name)
    parameters.set(name, earlier === undefined ? value : [earlier, value].flat())
  }
  return Object.fromEntries(parameters)
}

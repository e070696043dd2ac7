import { type Static, type TObject, type TSchema, Type } from 'typebox'
import { Check } from 'typebox/schema'

const MiB = 1024 * 1024

const milliseconds = (initial: number, description: string, minimum = 1) =>
  Type.Integer({
    minimum,
    maximum: 2 ** 31 - 1,
    default: initial,
    description: `${description}, in milliseconds`,
  })

const probability = (description: string) =>
  Type.Number({ minimum: 0, maximum: 1, default: 0, description: `Simulation: ${description}` })

/**
 * Everything that can be configured, from the environment. Type, defaults, messages, `--help` and README come from here.
 * A variable whose value must never be shown bears the keyword `secret: true`.
 */
export const ConfigSchema = Type.Object({
  HOST: Type.String({ minLength: 1, default: '127.0.0.1', description: 'Address to listen on' }),
  PORT: Type.Integer({
    minimum: 0,
    maximum: 65535,
    default: 3000,
    description: 'Port to listen on; 0 takes a free one',
  }),
  LOG_LEVEL: Type.Enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
    default: 'info',
    description: 'What is logged to stdout',
  }),
  DRIVER: Type.Enum(['memory'], { default: 'memory', description: 'The runtime that sandboxes live in' }),
  MAX_WORKERS: Type.Integer({
    minimum: 1,
    maximum: 10_000_000,
    default: 100_000,
    description: 'Live workers at most',
  }),
  RETAINED_RECORDS: Type.Integer({
    minimum: 0,
    maximum: 10_000_000,
    default: 10_000,
    description: 'Records of ended workers that are kept; the oldest ended go first',
  }),
  RETAINED_EVENTS: Type.Integer({
    minimum: 1,
    maximum: 10_000_000,
    default: 100_000,
    description: 'Events that are kept; the oldest go first',
  }),
  MAX_STATE_BYTES: Type.Integer({
    minimum: 1,
    maximum: 2 ** 40,
    default: 256 * MiB,
    description: 'Bytes of manifests that are held; those of ended workers go first',
  }),
  BODY_LIMIT_BYTES: Type.Integer({
    minimum: 1024,
    maximum: 64 * MiB,
    default: MiB,
    description: 'Bytes of a request body at most',
  }),
  LAUNCH_TIMEOUT_MS: milliseconds(30_000, 'How long a launch may take before it is given up and cleaned up'),
  KILL_TIMEOUT_MS: milliseconds(
    10_000,
    'How long one attempt to kill may take before it counts as unconfirmed',
  ),
  RUNTIME_TIMEOUT_MS: milliseconds(10_000, 'How long any other call to the runtime may take'),
  REQUEST_TIMEOUT_MS: milliseconds(10_000, 'How long a client may take to send its request'),
  SHUTDOWN_GRACE_MS: milliseconds(8_000, 'How long requests in flight may take to end after SIGTERM'),
  ON_SHUTDOWN: Type.Enum(['keep', 'kill'], {
    default: 'keep',
    description: 'Whether workers outlive this process; `kill` ends with exit code 1 unless all are dead',
  }),
  SIMULATED_LAUNCH_MS: milliseconds(0, 'Simulation: how long a launch takes', 0),
  SIMULATED_KILL_MS: milliseconds(0, 'Simulation: how long a kill takes', 0),
  SIMULATED_LAUNCH_FAILURE_RATE: probability('how often a launch fails'),
  SIMULATED_KILL_FAILURE_RATE: probability('how often an attempt to kill fails'),
  SIMULATED_EXIT_RATE: probability('how likely a worker ends by itself in each second that it runs'),
  SIMULATED_DRIFT_RATE: probability('how often an enforcement finds a limit changed'),
  SIMULATED_SEED: Type.Integer({
    minimum: 0,
    maximum: Number.MAX_SAFE_INTEGER,
    default: 1,
    description: 'Simulation: the same seed, worker and attempt meet the same luck',
  }),
})
export type Config = Static<typeof ConfigSchema>

/** What an environment came to: settings with what looks odd about it, or every mistake; a line each. */
export type Reading<Settings> = { config: Settings; warnings: string[] } | { mistakes: string[] }

/** The keywords of a property that are read here. */
const Property = Type.Object({
  description: Type.String(),
  default: Type.Optional(Type.Union([Type.String(), Type.Number()])),
  secret: Type.Optional(Type.Boolean()),
  type: Type.Optional(Type.String()),
  enum: Type.Optional(Type.Array(Type.String())),
  minimum: Type.Optional(Type.Number()),
  maximum: Type.Optional(Type.Number()),
  minLength: Type.Optional(Type.Integer()),
  maxLength: Type.Optional(Type.Integer()),
  pattern: Type.Optional(Type.String()),
})
type Property = Static<typeof Property>

interface Variable {
  readonly name: string
  readonly property: Property
  readonly required: boolean
}

function variablesOf(schema: TObject): Variable[] {
  return Object.entries<TSchema>(schema.properties).map(([name, property]) => {
    if (!Check(Property, property)) throw new TypeError(`${name}: its schema is not one that can be read`)
    if (property.default !== undefined && !Check(property, property.default)) {
      throw new TypeError(`${name}: its default is not what its schema allows`)
    }
    return { name, property, required: !Type.IsOptional(property) }
  })
}

/** The value that a text stands for. What stands for none stays a text, which the schema then refuses. */
function parse(text: string, { type }: Property): string | number {
  if (type === 'number') return /^\d+(\.\d+)?$/.test(text) ? Number(text) : text
  if (type !== 'integer' || !/^\d+$/.test(text)) return text
  const value = Number(text)
  return Number.isSafeInteger(value) ? value : text // beyond, Number would round
}

const bounds = (minimum?: number, maximum?: number): string =>
  (minimum === undefined ? '' : ` from ${minimum}`) + (maximum === undefined ? '' : ` to ${maximum}`)

/** What a value may be, as a phrase that follows "must be". */
function allowed(property: Property): string {
  if (property.enum) return `one of ${property.enum.join(', ')}`
  if (property.type === 'integer') return `a decimal integer${bounds(property.minimum, property.maximum)}`
  if (property.type === 'number') return `a decimal number${bounds(property.minimum, property.maximum)}`
  const lengths = bounds(property.minLength, property.maxLength)
  // Empty counts as unset, so that "from 1" says nothing.
  const length = lengths === '' || lengths === ' from 1' ? '' : ` of${lengths} characters`
  return `a text${length}${property.pattern === undefined ? '' : ` that matches ${property.pattern}`}`
}

const shown = (text: string, { secret }: Property) =>
  secret ? `a secret of ${text.length} characters` : JSON.stringify(text)

/** What is wrong with a variable; undefined where nothing is, and then its value, if it has one, is in `settings`. */
function readVariable(
  { name, property, required }: Variable,
  text: string,
  settings: Record<string, unknown>,
): string | undefined {
  const value = text === '' ? property.default : parse(text, property)
  if (value === undefined) return required ? `${name} is not set; it must be ${allowed(property)}` : undefined
  if (!Check(property, value)) return `${name} is ${shown(text, property)}; it must be ${allowed(property)}`
  settings[name] = value
  return undefined
}

/** Whether one character inserted, deleted, replaced, or swapped with its neighbour makes `a` of `b`; or none does. */
function isAlmost(a: string, b: string): boolean {
  let start = 0
  while (start < a.length && a[start] === b[start]) start++
  const restOfA = a.slice(start)
  const restOfB = b.slice(start)
  return (
    restOfA.slice(1) === restOfB.slice(1) ||
    restOfA.slice(1) === restOfB ||
    restOfA === restOfB.slice(1) ||
    (restOfA[0] === restOfB[1] && restOfA[1] === restOfB[0] && restOfA.slice(2) === restOfB.slice(2))
  )
}

function misspellings(env: NodeJS.ProcessEnv, names: readonly string[]): string[] {
  return Object.entries(env).flatMap(([name, text]) => {
    if (text === '' || names.includes(name)) return []
    const meant = names.find((known) => isAlmost(name.toUpperCase(), known))
    return meant === undefined ? [] : [`${name} is not a setting; did you mean ${meant}?`]
  })
}

/**
 * Reads settings from an environment. An empty variable counts as unset, as `FOO=` does in Compose files.
 *
 * @param schema What to read; of a property its description, default, bounds, `enum`, `pattern` and `secret` count.
 */
export function readSettings<Schema extends TObject>(
  env: NodeJS.ProcessEnv,
  schema: Schema,
): Reading<Static<Schema>> {
  const variables = variablesOf(schema)
  const config: Record<string, unknown> = {}
  const mistakes = variables.flatMap((each) => readVariable(each, env[each.name] ?? '', config) ?? [])
  if (mistakes.length > 0) return { mistakes }
  if (!Check(schema, config)) throw new TypeError('the settings are not what their schema allows')
  return {
    config,
    warnings: misspellings(
      env,
      variables.map(({ name }) => name),
    ),
  }
}

/** Reads the configuration of this service from an environment. */
export const readConfig = (env: NodeJS.ProcessEnv): Reading<Config> => readSettings(env, ConfigSchema)

const VARIABLES = variablesOf(ConfigSchema)

const initial = ({ property }: Variable) => String(property.default ?? '')

/** A default in the units that a person thinks in, where its own are small. */
function inUnits({ name, property: { default: value } }: Variable): string {
  if (typeof value !== 'number') return ''
  if (name.endsWith('_BYTES')) return ` (${value / MiB} MiB)`
  return name.endsWith('_MS') && value > 0 ? ` (${value / 1000} s)` : ''
}

const capitalised = (phrase: string) => phrase.charAt(0).toUpperCase() + phrase.slice(1)

/** README's table of the settings, in Markdown. */
export function settingsTable(): string {
  const rows = VARIABLES.map((each) => {
    const { name, property } = each
    const meaning = `${property.description}. ${capitalised(allowed(property))}.`
    return `| \`${name}\` | \`${initial(each)}\`${inUnits(each)} | ${meaning.replaceAll('|', '\\|')} |\n`
  })
  return `| Variable | Default | Meaning |\n| --- | --- | --- |\n${rows.join('')}`
}

/** The settings for a terminal: name, default and meaning in columns, what is allowed below the meaning. */
export function settingsHelp(): string {
  const widest = (texts: string[]) => Math.max(...texts.map((text) => text.length))
  const names = widest(VARIABLES.map(({ name }) => name))
  const defaults = widest(VARIABLES.map(initial))
  return VARIABLES.map((each) => {
    const { name, property } = each
    const columns = `  ${name.padEnd(names)}  ${initial(each).padEnd(defaults)}  `
    return `${columns}${property.description}\n${' '.repeat(columns.length)}${allowed(property)}\n`
  }).join('')
}

import t from 'tap'
import { Type } from 'typebox'
import {
  ConfigSchema,
  type Reading,
  readConfig,
  readSettings,
  settingsHelp,
  settingsTable,
} from '../src/config.ts'

const mistakesOf = <Settings>(reading: Reading<Settings>) => ('mistakes' in reading ? reading.mistakes : [])
const warningsOf = <Settings>(reading: Reading<Settings>) => ('warnings' in reading ? reading.warnings : [])
const configOf = <Settings>(reading: Reading<Settings>) => ('config' in reading ? reading.config : undefined)

t.test('an empty environment gives every default, and an empty variable counts as unset', async (t) => {
  const defaults = Object.fromEntries(
    Object.entries<object>(ConfigSchema.properties).map(([name, property]) => [
      name,
      Reflect.get(property, 'default'),
    ]),
  )
  t.strictSame(readConfig({}), { config: defaults, warnings: [] })
  t.strictSame(readConfig({ PORT: '', HOST: '', PORTS: '' }), { config: defaults, warnings: [] })
})

t.test('what is set is read, in its own type', async (t) => {
  const config = configOf(
    readConfig({
      HOST: '::1',
      PORT: '0',
      ON_SHUTDOWN: 'kill',
      SIMULATED_EXIT_RATE: '0.25',
      MAX_WORKERS: '007',
    }),
  )
  t.match(config, { HOST: '::1', PORT: 0, ON_SHUTDOWN: 'kill', SIMULATED_EXIT_RATE: 0.25, MAX_WORKERS: 7 })
  t.strictSame(configOf(readConfig({ SIMULATED_SEED: '9007199254740991' }))?.SIMULATED_SEED, 2 ** 53 - 1)
})

t.test('numbers are decimal digits, within their bounds, never rounded', async (t) => {
  const integer = [
    '1e3',
    '0x10',
    ' 80',
    '80 ',
    '+80',
    '-1',
    '80.0',
    '8_0',
    '８０',
    'NaN',
    'Infinity',
    '65536',
    '9'.repeat(400),
  ]
  for (const text of integer) {
    t.strictSame(
      mistakesOf(readConfig({ PORT: text })),
      [`PORT is ${JSON.stringify(text)}; it must be a decimal integer from 0 to 65535`],
      text,
    )
  }
  for (const text of ['.5', '1.', '1e-1', '1.1', '-0', '0,5']) {
    t.strictSame(mistakesOf(readConfig({ SIMULATED_EXIT_RATE: text })), [
      `SIMULATED_EXIT_RATE is ${JSON.stringify(text)}; it must be a decimal number from 0 to 1`,
    ])
  }
  t.match(mistakesOf(readConfig({ SIMULATED_SEED: '9007199254740993' })), [
    /^SIMULATED_SEED is "9007199254740993"; /,
  ])
  const unbounded = Type.Object({ N: Type.Integer({ description: 'n' }) })
  t.strictSame(mistakesOf(readSettings({ N: '9007199254740993' }, unbounded)), [
    'N is "9007199254740993"; it must be a decimal integer',
  ])
})

t.test('every mistake is told at once, a line each', async (t) => {
  t.strictSame(
    mistakesOf(readConfig({ LOG_LEVEL: 'INFO', PORT: 'http\n', ON_SHUTDOWN: 'keep ', MAX_WORKER: '1' })),
    [
      'PORT is "http\\n"; it must be a decimal integer from 0 to 65535',
      'LOG_LEVEL is "INFO"; it must be one of fatal, error, warn, info, debug, trace, silent',
      'ON_SHUTDOWN is "keep "; it must be one of keep, kill',
    ],
  )
})

t.test('of a secret only its length is told', async (t) => {
  const schema = Type.Object({
    TOKEN: Type.String({ minLength: 8, maxLength: 64, secret: true, description: 'The token' }),
    CODE: Type.Integer({ minimum: 1, secret: true, description: 'The code' }),
    NICK: Type.Optional(Type.String({ pattern: '^[a-z]+$', description: 'A name' })),
  })
  t.strictSame(mistakesOf(readSettings({ TOKEN: 'hunter2', CODE: '-42', NICK: 'A' }, schema)), [
    'TOKEN is a secret of 7 characters; it must be a text of from 8 to 64 characters',
    'CODE is a secret of 3 characters; it must be a decimal integer from 1',
    'NICK is "A"; it must be a text that matches ^[a-z]+$',
  ])
  t.strictSame(mistakesOf(readSettings({ CODE: '1' }, schema)), [
    'TOKEN is not set; it must be a text of from 8 to 64 characters',
  ])
  const config = configOf(readSettings({ TOKEN: 'hunter22', CODE: '42' }, schema))
  const nick: string | undefined = config?.NICK
  t.strictSame([config, nick], [{ TOKEN: 'hunter22', CODE: 42 }, undefined])
})

t.test('a name one edit away from a setting is a warning', async (t) => {
  const meant = {
    MAX_WORKER: 'MAX_WORKERS',
    MAXX_WORKERS: 'MAX_WORKERS',
    MAX_WORKERZ: 'MAX_WORKERS',
    'MAX-WORKERS': 'MAX_WORKERS',
    AMX_WORKERS: 'MAX_WORKERS',
    MAX_WORKESR: 'MAX_WORKERS',
    max_workers: 'MAX_WORKERS',
    Max_Worker: 'MAX_WORKERS',
    PROT: 'PORT',
    HOSTS: 'HOST',
    SIMULATED_KILLS_MS: 'SIMULATED_KILL_MS',
  }
  for (const [name, setting] of Object.entries(meant)) {
    t.strictSame(warningsOf(readConfig({ [name]: '1' })), [
      `${name} is not a setting; did you mean ${setting}?`,
    ])
  }
  const innocent = [
    'MAX_WORK',
    'WORKERS_MAX',
    'HOME',
    'HOSTNAME',
    'PATH',
    'PWD',
    'OPRTS',
    'TROP',
    'XPORTX',
    'P',
    '_',
  ]
  t.strictSame(warningsOf(readConfig(Object.fromEntries(innocent.map((name) => [name, '1'])))), [])
})

t.test('a schema that cannot be read, or contradicts itself, is told to its author', async (t) => {
  t.throws(() => readSettings({}, Type.Object({ A: Type.String() })), /^A: its schema/)
  const contradiction = Type.Object({ A: Type.Integer({ minimum: 2, default: 1, description: 'a' }) })
  t.throws(() => readSettings({}, contradiction), /^A: its default/)
})

t.test('help and README tell every setting with its default, and what is allowed', async (t) => {
  const help = settingsHelp()
  const table = settingsTable()
  for (const [name, property] of Object.entries<object>(ConfigSchema.properties)) {
    const description = String(Reflect.get(property, 'description'))
    t.ok(help.includes(`  ${name} `) && help.includes(description), `${name} in help`)
    t.ok(table.includes(`| \`${name}\` | \``) && table.includes(description), `${name} in table`)
  }
  t.ok(
    table.includes(
      '| `PORT` | `3000` | Port to listen on; 0 takes a free one. A decimal integer from 0 to 65535. |',
    ),
  )
  t.ok(table.includes('| `BODY_LIMIT_BYTES` | `1048576` (1 MiB) | '))
  t.ok(table.includes('| `KILL_TIMEOUT_MS` | `10000` (10 s) | '))
  const columns = new Set(
    table
      .trimEnd()
      .split('\n')
      .map((row) => row.split(' | ').length),
  )
  t.strictSame([...columns], [3], 'a table of three columns')
})

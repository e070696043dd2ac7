// Packs the package, installs it in an empty folder, and uses it as its users do. The last line is "N passed, N failed".

import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { VERSION } from '../../src/version.ts'
import { roundTrip } from './round-trip.ts'

const root = resolve(import.meta.dirname, '../..')
const execute = promisify(execFile)
const run = (command: string, args: readonly string[], { cwd = root } = {}) =>
  execute(command, args, { cwd, timeout: 120_000 })
const lines = (text: string) => text.split('\n').filter((line) => line !== '')

const work = await mkdtemp(join(tmpdir(), 'package-'))
const checkout = join(work, 'checkout')
const consumer = join(work, 'consumer')
const sources = await copyCheckout()

/** Everything that a TypeScript caller relies on: that the types are there, are not `any`, and that the values run. */
const PROGRAM = `
import { type ContainerRecord, type Event, type Manifest, KillReport, type Problem, type WorkerStatus } from 'sandbox-orchestrator/schemas'

const manifest: Manifest = {
  worker_id: 'w1', parent_id: null, depth: 0, state_snapshot: {}, issued_at: '2026-01-06T09:30:00Z',
  resources: { cpu_limit: 0.5, memory_limit_mb: 256 }, signature: 'signed',
}
// @ts-expect-error a number is no id
manifest.worker_id = 1
// @ts-expect-error there is no such status
const status: WorkerStatus = 'asleep'
const report: KillReport = { reason: 'drift', complete: true, killed: ['w1'], already_ended: [], failed: [], duration_ms: 1 }

export const statusOf = (record: ContainerRecord): WorkerStatus => record.status
export const workerOf = (event: Event): string | undefined => event.worker_id
export const mistakesOf = (problem: Problem): string[] => problem.errors?.map(({ detail }) => detail) ?? []

if (KillReport.$id !== 'KillReport' || report.killed.length !== 1 || status === undefined) throw new Error('no schema')
`

let passed = 0
let failed = 0
try {
  let tarball = ''
  await check('npm pack, from a clean checkout', async () => {
    const { stdout } = await run('npm', ['pack', '--silent', '--pack-destination', work], { cwd: checkout })
    tarball = join(work, lines(stdout).at(-1) ?? '')
  })
  await check('it holds what runs, the types of the wire, the documents, and nothing else', async () => {
    const { stdout } = await run('tar', ['-tzf', tarball])
    assert.deepEqual(lines(stdout).sort(), expectedFiles())
  })
  await check('it installs in an empty folder', async () => {
    await mkdir(consumer)
    await run('npm', ['install', '--silent', tarball], { cwd: consumer })
  })
  await check('npx sandbox-orchestrator --version', async () => {
    assert.equal(await npx('--version'), `${VERSION}\n`)
  })
  await check('npx sandbox-orchestrator --help', async () => {
    assert.match(await npx('--help'), /^Usage: sandbox-orchestrator [\s\S]*\n\s*PORT /)
  })
  await check('its bin serves, and ends with exit code 0 on SIGTERM', serve)
  await check('sandbox-orchestrator/schemas type-checks under strict and nodenext, and runs', compile)
  await check('sandbox-orchestrator/openapi.yaml is found, and nothing inside', async () => {
    const found = "import.meta.resolve('sandbox-orchestrator/openapi.yaml')"
    await runModule(
      `if (!(await import('node:fs')).existsSync(new URL(${found}))) throw new Error('missing')`,
    )
    await assert.rejects(runModule("await import('sandbox-orchestrator/dist/src/app.js')"), /NOT_EXPORTED/)
  })
} finally {
  await rm(work, { recursive: true, force: true })
}
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1

async function check(name: string, work: () => Promise<void>): Promise<void> {
  try {
    await work()
    passed += 1
    console.log(`ok - ${name}`)
  } catch (error) {
    failed += 1
    console.log(`not ok - ${name}\n`, error)
  }
}

/** Copies what git would: what lies about in dist/ must not make a package right or wrong. Returns the files. */
async function copyCheckout(): Promise<string[]> {
  const listed = await run('git', ['ls-files', '--cached', '--others', '--exclude-standard'])
  const files = lines(listed.stdout).filter((file) => existsSync(join(root, file)))
  for (const file of files) await cp(join(root, file), join(checkout, file))
  await symlink(join(root, 'node_modules'), join(checkout, 'node_modules'))
  return files
}

function expectedFiles(): string[] {
  const modules = sources
    .filter((file) => /^(src|routes|schemas)\/.*\.ts$/.test(file))
    .map((file) => `dist/${file.slice(0, -'.ts'.length)}`)
  const declared = modules.filter((module) => module.startsWith('dist/schemas/'))
  return [
    ...['CHANGELOG.md', 'LICENSE', 'README.md', 'openapi.yaml', 'package.json'],
    ...modules.map((module) => `${module}.js`),
    ...declared.map((module) => `${module}.d.ts`),
  ]
    .map((file) => `package/${file}`)
    .sort()
}

async function npx(argument: string): Promise<string> {
  // --no: it is there, and never fetched.
  const { stdout } = await run('npx', ['--no', '--', 'sandbox-orchestrator', argument], { cwd: consumer })
  return stdout
}

async function serve(): Promise<void> {
  // What npx starts, without npx: it hands no SIGTERM on.
  const service = spawn(join(consumer, 'node_modules/.bin/sandbox-orchestrator'), {
    env: { ...process.env, PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 30_000,
    killSignal: 'SIGKILL',
  })
  const ended = once(service, 'exit')
  for await (const line of createInterface(service.stdout)) {
    const [url] = /http:\/\/127\.0\.0\.1:\d+/.exec(line) ?? []
    if (url === undefined) continue
    await roundTrip(url).finally(() => service.kill('SIGTERM'))
  }
  assert.deepEqual(await ended, [0, null])
}

async function compile(): Promise<void> {
  const compilerOptions = {
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    // A caller may check the libraries' declarations too.
    skipLibCheck: false,
    module: 'nodenext',
    target: 'es2022',
    types: [],
  }
  await writeFile(join(consumer, 'program.mts'), PROGRAM)
  await writeFile(
    join(consumer, 'tsconfig.json'),
    JSON.stringify({ compilerOptions, include: ['program.mts'] }),
  )
  await run(join(root, 'node_modules/.bin/tsc'), ['-p', consumer])
  await run('node', ['program.mjs'], { cwd: consumer })
}

async function runModule(program: string): Promise<void> {
  await run('node', ['--input-type=module', '-e', program], { cwd: consumer })
}

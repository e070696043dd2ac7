/**
 * Four generators make clients from openapi.yaml, afresh and outside the checkout; each is compiled as strictly as its
 * language knows, and drives a live server, and a stand-in for a later version of it.
 *
 * `npm run test:clients`, or with the languages to try: `npm run test:clients -- go java`.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startServer } from './live-server.ts'
import { newerService } from './newer-service.ts'

type Command = readonly [string, ...string[]]

interface Language {
  /** What generates and compiles. Each runs in a copy of the language's folder, the document beside it. */
  readonly steps: Readonly<Record<string, Command>>
  /** What drives a server: the URLs of the live one and of the newer one are added. */
  readonly drive: (urls: readonly string[]) => Command
}

const LANGUAGES: Readonly<Record<string, Language>> = {
  typescript: {
    steps: {
      install: ['npm', 'install', '--no-audit', '--no-fund', '--no-package-lock', '--loglevel=error'],
      generate: ['npx', 'openapi-typescript', 'openapi.yaml', '-o', 'api.ts'],
      compile: ['npx', 'tsc'],
    },
    drive: (urls) => ['node', 'out/driver.js', ...urls],
  },
  python: {
    steps: {
      venv: ['python3', '-m', 'venv', 'venv'],
      install: ['venv/bin/pip', 'install', '--quiet', '--requirement', 'requirements.txt'],
      generate: [
        'sh',
        '-c',
        // Its formatter is found on the PATH only.
        'PATH="$PWD/venv/bin:$PATH" openapi-python-client generate --path openapi.yaml --meta none --output-path sandbox_client --fail-on-warning',
      ],
      compile: ['venv/bin/mypy', 'driver.py', 'sandbox_client'],
    },
    drive: (urls) => ['venv/bin/python', 'driver.py', ...urls],
  },
  go: {
    steps: {
      generate: [
        'go',
        'run',
        'github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2',
        '--config=oapi-codegen.yaml',
        'openapi.yaml',
      ],
      vet: ['go', 'vet', './...'],
      compile: ['go', 'build', '-o', 'driver', '.'],
    },
    drive: (urls) => ['./driver', ...urls],
  },
  java: {
    steps: {
      'generate and compile': ['mvn', '--batch-mode', '--quiet', 'test-compile'],
    },
    drive: (urls) => ['mvn', '--batch-mode', '--quiet', 'exec:java', `-Dexec.args=${urls.join(' ')}`],
  },
}

/** What each driver says when it has done it. */
const DRIVEN = [
  'launch',
  'retry',
  'list',
  'get',
  'enforce',
  'kill',
  'kill unknown',
  'kill-all',
  'refusal',
  'events',
  'newer service',
]

const SOURCE = fileURLToPath(new URL('.', import.meta.url))
const DOCUMENT = fileURLToPath(new URL('../../openapi.yaml', import.meta.url))

/** Of one step: downloads may be slow, but a client that hangs has failed. */
const TIMEOUT_MS = 5 * 60_000

/** No toolchain is fetched: the one that is here must do. */
const ENVIRONMENT = { ...process.env, GOTOOLCHAIN: 'local', GOFLAGS: '-mod=mod' }

async function run([program, ...args]: Command, cwd: string): Promise<{ ok: boolean; output: string }> {
  const stdio: ['ignore', 'pipe', 'pipe'] = ['ignore', 'pipe', 'pipe']
  const child = spawn(program, args, { cwd, env: ENVIRONMENT, stdio, timeout: TIMEOUT_MS })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  try {
    const [code] = await once(child, 'close')
    return { ok: code === 0, output }
  } catch (error) {
    return { ok: false, output: String(error) }
  }
}

let passed = 0
let failed = 0

function tell(ok: boolean, step: string, output: string): boolean {
  console.log(`${ok ? 'ok' : 'FAILED'}  ${step}`)
  if (ok) passed += 1
  else {
    failed += 1
    console.log(output.trimEnd().replaceAll(/^/gm, '    '))
  }
  return ok
}

async function tryLanguage(name: string, { steps, drive }: Language, folder: string): Promise<void> {
  await cp(join(SOURCE, name), folder, { recursive: true })
  await cp(DOCUMENT, join(folder, 'openapi.yaml'))
  for (const [step, command] of Object.entries(steps)) {
    const start = performance.now()
    const { ok, output } = await run(command, folder)
    const seconds = ((performance.now() - start) / 1000).toFixed(1)
    if (!tell(ok, `${name}: ${step} (${seconds} s)`, output)) return
  }
  const server = await startServer()
  const newer = newerService(await readFile(DOCUMENT, 'utf8')).listen(0, '127.0.0.1')
  await once(newer, 'listening')
  try {
    const address = newer.address()
    const port = typeof address === 'object' ? address?.port : undefined
    const { ok, output } = await run(drive([server.url, `http://127.0.0.1:${port}`]), folder)
    const said = output.split('\n')
    const missing = DRIVEN.find((step) => !said.some((line) => line.endsWith(`ok ${step}`)))
    for (const step of DRIVEN) {
      if (step === missing) break
      tell(true, `${name}: ${step}`, '')
    }
    if (missing !== undefined) tell(false, `${name}: ${missing}`, output)
    else if (!ok) tell(false, `${name}: ends well`, output)
  } finally {
    newer.close()
    newer.closeAllConnections()
    await server.stop()
  }
}

const wanted = process.argv.slice(2)
const folder = await mkdtemp(join(tmpdir(), 'clients-'))
try {
  for (const [name, language] of Object.entries(LANGUAGES)) {
    if (wanted.length > 0 && !wanted.includes(name)) continue
    await mkdir(join(folder, name))
    await tryLanguage(name, language, join(folder, name))
  }
} finally {
  await rm(folder, { recursive: true, force: true })
}
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed > 0 || passed === 0 ? 1 : 0

/**
 * schemathesis sends a live server what openapi.yaml says it takes, and what it says it does not, and holds every answer
 * to the document. What it is told is in schemathesis/; options are passed on: `npm run test:schemathesis -- --seed 7`.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startServer } from './live-server.ts'

const SETTINGS = fileURLToPath(new URL('schemathesis', import.meta.url))
const DOCUMENT = fileURLToPath(new URL('../../openapi.yaml', import.meta.url))

/** Whether the program ended well; what it says is shown. */
async function succeeds(program: string, ...args: string[]): Promise<boolean> {
  const child = spawn(program, args, { cwd: settings, stdio: 'inherit' })
  const [code] = await once(child, 'close')
  return code === 0
}

const folder = await mkdtemp(join(tmpdir(), 'schemathesis-'))
// A copy: what schemathesis remembers of a run would change the next.
const settings = join(folder, 'settings')
await cp(SETTINGS, settings, { recursive: true })
// Some limits drift, so that enforcements have something to report.
const server = await startServer({ SIMULATED_DRIFT_RATE: '0.5' })
try {
  const bin = join(folder, 'venv', 'bin')
  const passed =
    (await succeeds('python3', '-m', 'venv', join(folder, 'venv'))) &&
    (await succeeds(join(bin, 'pip'), 'install', '--quiet', '--requirement', 'requirements.txt')) &&
    (await succeeds(
      join(bin, 'schemathesis'),
      '--config-file=schemathesis.toml',
      'run',
      DOCUMENT,
      `--url=${server.url}`,
      ...process.argv.slice(2),
    ))
  console.log(passed ? '1 passed, 0 failed' : '0 passed, 1 failed')
  process.exitCode = passed ? 0 : 1
} finally {
  await server.stop()
  await rm(folder, { recursive: true, force: true })
}

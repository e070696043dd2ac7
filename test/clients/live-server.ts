import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

const ROOT = new URL('../../', import.meta.url)

/** Starts what `npm run build` made, on a free port. */
export async function startServer(settings: Record<string, string> = {}) {
  const server = spawn(process.execPath, ['dist/src/server.js'], {
    cwd: ROOT,
    env: { ...process.env, HOST: '127.0.0.1', PORT: '0', ...settings },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = once(server, 'exit')
  const stop = async () => {
    server.kill()
    await exited
  }
  const said: string[] = []
  for await (const line of createInterface({ input: server.stdout })) {
    said.push(line)
    const [, url] = /listening on (http:[^",\s]+)/.exec(line) ?? []
    if (url === undefined) continue
    server.stdout.resume()
    return { url, stop }
  }
  throw new Error(`the server ended before it listened:\n${said.join('\n')}`)
}

import { existsSync, readFileSync } from 'node:fs'

/** package.json lies one folder up from src/, two from dist/src/. */
const candidates = ['../package.json', '../../package.json'].map((path) => new URL(path, import.meta.url))

function readVersion(): string {
  const found = candidates.find((url) => existsSync(url))
  if (found === undefined) throw new Error(`no package.json at ${candidates.join(' or ')}`)
  const manifest: unknown = JSON.parse(readFileSync(found, 'utf8'))
  if (typeof manifest === 'object' && manifest !== null && 'version' in manifest)
    return String(manifest.version)
  throw new Error(`${found} has no version`)
}

/** This service's own, as package.json has it. */
export const VERSION = readVersion()

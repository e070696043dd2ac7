import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import t from 'tap'
import { currentDocument } from '../scripts/current-document.ts'
import { withSettingsTable } from '../scripts/settings-table.ts'
import { buildApp } from '../src/app.ts'
import { readConfig } from '../src/config.ts'

const run = promisify(execFile)
const textOf = (path: string) => readFile(new URL(`../${path}`, import.meta.url), 'utf8')

interface Example {
  readonly command: string
  readonly output: string
}

/** The commands of a text's ```console blocks, each with the output that is shown below it. */
function examplesIn(markdown: string): Example[] {
  const blocks = [...markdown.matchAll(/^```console\n([\s\S]*?)^```$/gm)].map(([, block = '']) => block)
  return blocks.flatMap((block) =>
    block
      .split(/^\$ /m)
      .slice(1)
      .map((example) => {
        const end = commandEnd(example)
        return { command: example.slice(0, end), output: example.slice(end).trim() }
      }),
  )
}

/** A command goes on over lines as long as a quote is open. */
function commandEnd(example: string): number {
  for (let end = example.indexOf('\n'); end !== -1; end = example.indexOf('\n', end + 1)) {
    if (example.slice(0, end).split("'").length % 2 === 1) return end
  }
  return example.length
}

/** What differs from run to run. */
const steady = (text: string) =>
  text
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replace(/"duration_ms":[\d.]+/g, '"duration_ms":N')
    .replace(/"log_id":"[^"]+"/g, '"log_id":"ID"')
    .trim()

const escaped = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')

/** `…` in what is shown stands for anything. */
const pattern = (shown: string) => new RegExp(`^${steady(shown).split('…').map(escaped).join('[\\s\\S]*')}$`)

t.test('openapi.yaml is what the code says: npm run openapi writes it', async (t) => {
  t.equal(await textOf('openapi.yaml'), await currentDocument())
})

t.test("README's settings are what the code says: npm run settings writes them", async (t) => {
  const readme = await textOf('README.md')
  t.equal(readme, withSettingsTable(readme))
})

/** The tests need Node alone: without curl and a shell there is nothing to try here. */
const hasCurl = await run('sh', ['-c', 'curl --version']).then(
  () => true,
  () => false,
)

for (const document of ['README.md', 'examples/curl.md']) {
  t.test(`the commands of ${document} print what it shows`, { skip: !hasCurl && 'needs curl' }, async (t) => {
    const reading = readConfig({})
    if ('mistakes' in reading) throw new Error(reading.mistakes.join())
    const app = await buildApp(reading.config)
    t.teardown(() => app.close())
    const address = (await app.listen({ host: '127.0.0.1', port: 0 })).replace('http://', '')
    const examples = examplesIn(await textOf(document))
    t.ok(examples.length > 5, 'there are examples')
    for (const { command, output } of examples) {
      const { stdout } = await run('sh', ['-c', command.replaceAll('localhost:3000', address)])
      t.match(steady(stdout), pattern(output), command)
    }
  })
}

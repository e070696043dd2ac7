import { buildApp } from '../src/app.ts'
import { readConfig } from '../src/config.ts'
import { yamlDocument } from '../src/plugins/openapi.ts'

/** The OpenAPI document of the service as the code has it now, in YAML. */
export async function currentDocument(): Promise<string> {
  const reading = readConfig({})
  if ('mistakes' in reading)
    throw new Error(`the defaults are no configuration: ${reading.mistakes.join('; ')}`)
  const app = await buildApp(reading.config)
  try {
    await app.ready()
    return yamlDocument(app)
  } finally {
    await app.close()
  }
}

import { writeFile } from 'node:fs/promises'
import { currentDocument } from './current-document.ts'

await writeFile(new URL('../openapi.yaml', import.meta.url), await currentDocument())

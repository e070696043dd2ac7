import { settingsTable } from '../src/config.ts'

const TABLE = /(?<=<!-- settings -->\n)[\s\S]*?(?=<!-- end of settings -->)/

/** README's text with the table of settings as the code has it now. */
export function withSettingsTable(readme: string): string {
  if (!TABLE.test(readme)) throw new Error('README.md has no <!-- settings --> … <!-- end of settings -->')
  return readme.replace(TABLE, () => settingsTable())
}

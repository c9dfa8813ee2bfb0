/**
 * Writes docs/cli.md out of the help texts of all commands: `node --import tsx tools/gen-cli-docs.ts`. A test compares the file with what
 * this makes, so that help and documentation cannot differ.
 */
import { realpathSync, writeFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { commandHelp, rootHelp } from '../src/cli/help.ts'
import { allCommands, rootSections } from '../src/cli/registry.ts'

export const CLI_DOC = new URL('../docs/cli.md', import.meta.url)
const WIDTH = 100

/** The text of docs/cli.md. A command that has two names (`ps`, `container ls`) stands there once, under the name its help uses. */
export async function cliDoc(): Promise<string> {
  const byPath = new Map<string, string>()
  for (const [, verb] of allCommands()) {
    const { spec } = await verb.load()
    if (!byPath.has(spec.path)) byPath.set(spec.path, commandHelp(spec, WIDTH))
  }
  const block = (text: string) => ['```', text.trimEnd(), '```', '']
  const lines = [
    '# The `causeway` command',
    '',
    'Made by `tools/gen-cli-docs.ts` from the help texts. Exit codes: [errors.md](errors.md).',
    '',
    ...block(rootHelp(rootSections())),
  ]
  for (const [path, help] of [...byPath].sort(([a], [b]) => (a < b ? -1 : 1))) lines.push(`## causeway ${path}`, '', ...block(help))
  return `${lines.join('\n').trimEnd()}\n`
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(realpathSync(process.argv[1])).href)
  writeFileSync(CLI_DOC, await cliDoc())

/** `daemon`: listed here, run by the launcher, which alone may load the engine. */
import { defineCommand } from '../command.ts'
import { fail } from '../fail.ts'

export const daemon = defineCommand({
  path: 'daemon',
  summary: 'Run the engine in the foreground',
  usage: '[OPTIONS]',
  args: [0, Number.POSITIVE_INFINITY],
  options: {},
  raw: true,
  examples: [{ line: 'causeway daemon' }, { line: 'causeway daemon --bip 10.200.0.1/16 --log-level debug' }],
  run: async () => {
    throw fail('the engine is started by bin/causeway: this program is only its client')
  },
})

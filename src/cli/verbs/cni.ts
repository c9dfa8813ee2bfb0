/** `cni install` and `cni exec`: listed here, run by the launcher, which alone may load the engine. */
import { defineCommand } from '../command.ts'
import { fail } from '../fail.ts'

const byTheLauncher = async (): Promise<number> => {
  throw fail('this is done by bin/causeway: this program is only the client')
}

export const install = defineCommand({
  path: 'cni install',
  summary: 'Write the CNI plugin into a folder of plugins',
  usage: '[--dir DIR] [--name NAME] [ENGINE OPTIONS]',
  args: [0, Number.POSITIVE_INFINITY],
  options: {},
  raw: true,
  notes:
    'DIR is /opt/cni/bin and NAME is causeway unless given; configurations say "type": "NAME". The plugin talks to the engine of these ' +
    'options (--exec-root and the others of `causeway daemon`), and does the work itself with them when no engine runs. It remembers where ' +
    'this command and node are: install it again when they move.',
  examples: [
    { line: 'causeway cni install' },
    { line: 'causeway cni install --dir /usr/lib/cni --exec-root /run/a --data-root /var/lib/a', why: 'Another folder, another engine' },
  ],
  run: byTheLauncher,
})

export const exec = defineCommand({
  path: 'cni exec',
  summary: 'Do one CNI call without an engine; what the installed plugin becomes when none runs',
  usage: '[ENGINE OPTIONS]',
  args: [0, Number.POSITIVE_INFINITY],
  options: {},
  raw: true,
  notes: 'Takes the CNI_ variables and standard input that a container runtime gives to a plugin, and prints what a plugin prints.',
  examples: [{ line: 'CNI_COMMAND=VERSION causeway cni exec </dev/null' }],
  run: byTheLauncher,
})

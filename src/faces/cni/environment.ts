/** What a runtime says through the environment (CNI specification 1.1, section 2), checked as the reference library checks it. */
import { CNI, CniError } from './errors.ts'

export type Command = 'ADD' | 'DEL' | 'CHECK' | 'GC' | 'STATUS' | 'VERSION'

export interface CniCall {
  readonly command: Command
  /** '' for the commands that are about no container. */
  readonly containerId: string
  readonly ifname: string
  /** Namespace file; may be '' for DEL. */
  readonly netns: string
  /** CNI_ARGS, taken apart. */
  readonly args: Readonly<Record<string, string>>
}

const COMMANDS: readonly string[] = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION']

const NEEDS: Readonly<Record<Command, readonly string[]>> = {
  ADD: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  CHECK: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  DEL: ['CNI_CONTAINERID', 'CNI_IFNAME'],
  GC: [],
  STATUS: [],
  VERSION: [],
}

const bad = (message: string, details = '') => new CniError(CNI.badEnvironment, message, details)

/** Undefined when no command is given at all: somebody ran the executable by hand. Throws code 4. */
export function parseEnvironment(env: Readonly<Record<string, string | undefined>>): CniCall | undefined {
  const command = env['CNI_COMMAND']
  if (command === undefined || command === '') return undefined
  if (!COMMANDS.includes(command)) throw bad(`unknown CNI_COMMAND: ${command}`)
  const missing = NEEDS[command as Command].filter((name) => (env[name] ?? '') === '')
  if (missing.length > 0) throw bad(`required env variables [${missing.join(',')}] missing`)
  const call: CniCall = {
    command: command as Command,
    containerId: env['CNI_CONTAINERID'] ?? '',
    ifname: env['CNI_IFNAME'] ?? '',
    netns: env['CNI_NETNS'] ?? '',
    args: parseArgs(env['CNI_ARGS'] ?? ''),
  }
  if (NEEDS[call.command].length > 0) {
    checkContainerId(call.containerId)
    checkIfname(call.ifname)
  }
  return call
}

/** Throws code 4. */
function checkContainerId(id: string): void {
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(id)) throw bad('invalid characters in containerID', id)
}

/** Throws code 4. */
function checkIfname(name: string): void {
  if (name.length > 15) throw bad('interface name is too long', 'interface name should be less than 16 characters')
  if (name === '.' || name === '..') throw bad('interface name is . or ..')
  if (/[/:\s]/.test(name)) throw bad('interface name contains / or : or whitespace characters', name)
}

/** `K=V;K2=V2`. Throws code 4 on a pair without `=`. */
function parseArgs(text: string): Record<string, string> {
  const out: Record<string, string> = {}
  for (const pair of text.split(';')) {
    if (pair === '') continue
    const equals = pair.indexOf('=')
    if (equals < 1) throw bad(`CNI_ARGS: invalid CNI_ARGS pair "${pair}"`)
    out[pair.slice(0, equals)] = pair.slice(equals + 1)
  }
  return out
}

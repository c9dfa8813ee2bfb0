/**
 * Entry of the `causeway` command: global options, the verb, its module, its exit code.
 * Loads nothing that the verb does not need; `--help` loads no parser and no HTTP.
 */
import { systemClock } from '../base/clock.ts'
import { NetError } from '../base/errors.ts'
import type { Command } from './command.ts'
import type { ContextParts, GlobalOptions, StartProgram } from './context.ts'
import type { CliDetail } from './fail.ts'
import { find, rootSections } from './registry.ts'

import { VERSION } from './version-number.ts'

/** Runs one command line (without the program's name) and resolves with the exit code. Never throws. */
export async function main(argv: readonly string[], parts: ContextParts): Promise<number> {
  try {
    const { global, rest, action } = parseGlobal(argv)
    if (action === 'version') {
      parts.stdout.write(`causeway version ${VERSION}\n`)
      return 0
    }
    const words = rest[0] === 'help' ? rest.slice(1) : rest
    if (action === 'help' || words.length === 0) {
      const help = (await import('./help.ts')).rootHelp(rootSections())
      parts.stdout.write(help)
      return 0
    }
    const found = find(words)
    if (found.kind === 'unknown') return await unknownCommand(words, found, parts)
    if (found.kind === 'group') {
      parts.stdout.write((await import('./help.ts')).groupHelp(found.path, found.group))
      return 0
    }
    const command = await found.load()
    return await runCommand(command, rest[0] === 'help' ? ['--help'] : words.slice(found.depth), parts, global)
  } catch (error) {
    return report(error, undefined, parts, false)
  }
}

async function runCommand(command: Command, argv: readonly string[], parts: ContextParts, global: GlobalOptions): Promise<number> {
  const { spec } = command
  try {
    const { parseCommandLine } = await import('./parse.ts')
    const isHelp = argv[0] === '--help' || argv[0] === '-h'
    const parsed = spec.raw === true ? { help: isHelp, args: argv, options: {} } : parseCommandLine(spec, argv)
    if (parsed.help) {
      const { commandHelp } = await import('./help.ts')
      parts.stdout.write(commandHelp(spec, Math.min(parts.stdout.columns ?? 100, 120)))
      return 0
    }
    checkCount(spec, parsed.args.length)
    const { Context } = await import('./context.ts')
    const context = new Context(parts, global)
    try {
      return (await spec.run(context, parsed.args, parsed.options as never)) ?? 0
    } finally {
      context.close()
    }
  } catch (error) {
    return report(error, spec, parts, global.debug)
  }
}

function checkCount(spec: Command['spec'], count: number): void {
  const [least, most] = spec.args
  if (count >= least && count <= most) return
  const number = (n: number) => `${n} argument${n === 1 ? '' : 's'}`
  const need =
    most === 0
      ? 'accepts no arguments'
      : least === most
        ? `requires ${number(least)}`
        : Number.isFinite(most)
          ? `requires at least ${least} and at most ${number(most)}`
          : count < least
            ? `requires at least ${number(least)}`
            : `requires at most ${number(most)}`
  const detail: CliDetail = { usage: most === Number.POSITIVE_INFINITY ? 'see' : 'run', exitCode: 1 }
  throw new NetError('invalid', `causeway: 'causeway ${spec.path}' ${need}`, detail)
}

async function report(error: unknown, spec: Command['spec'] | undefined, parts: ContextParts, debug: boolean): Promise<number> {
  const { cliDetailOf, describe } = await import('./fail.ts')
  const detail = cliDetailOf(error)
  const lines: string[] = []
  if (spec !== undefined && detail.usage !== undefined) {
    const { usageHint } = await import('./help.ts')
    lines.push(describe(error), '', usageHint(spec, detail.usage === 'see' ? 'See' : 'Run'))
  } else if (spec?.failureCode !== undefined && detail.bare !== true) {
    lines.push(`causeway: ${describe(error)}`, '', `Run 'causeway ${spec.path} --help' for more information`)
  } else if (describe(error) !== '') lines.push(describe(error))
  if (lines.length > 0) parts.stderr.write(`${lines.join('\n')}\n`)
  if (debug && error instanceof Error) parts.stderr.write(`${error.stack ?? ''}\n`)
  return detail.exitCode ?? (detail.usage === undefined ? spec?.failureCode : 125) ?? 1
}

async function unknownCommand(words: readonly string[], found: { path: string }, parts: ContextParts): Promise<number> {
  if (words.some((w) => w === '--help' || w === '-h') && found.path === '') return 0
  const { nearest } = await import('./nearest.ts')
  const asked = `causeway ${found.path === '' ? '' : `${found.path} `}${words[found.path === '' ? 0 : found.path.split(' ').length]}`
  const guess = nearest(words.at(found.path === '' ? 0 : found.path.split(' ').length) ?? '', found.path)
  const hint = guess === undefined ? '' : `\n\nDid you mean 'causeway ${found.path === '' ? '' : `${found.path} `}${guess}'?`
  const usage = found.path === '' ? '' : `\nUsage:  causeway ${found.path}\n`
  parts.stderr.write(
    `causeway: unknown command: ${asked}${hint}\n${usage}\nRun 'causeway ${found.path === '' ? '' : `${found.path} `}--help' for more information\n`,
  )
  return 1
}

interface Global {
  readonly global: GlobalOptions
  readonly rest: readonly string[]
  readonly action: 'help' | 'version' | undefined
}

const WITH_VALUE: Readonly<Record<string, string>> = {
  '-H': 'host',
  '--host': 'host',
  '--tlscacert': 'tlsCa',
  '--tlscert': 'tlsCert',
  '--tlskey': 'tlsKey',
  '-l': 'logLevel',
  '--log-level': 'logLevel',
  '--config': 'config',
  '-c': 'context',
  '--context': 'context',
}

/** The options before the verb. `-l`, `--config` and `--context` are taken for scripts' sake and do nothing. */
function parseGlobal(argv: readonly string[]): Global {
  const values: Record<string, string> = {}
  const flags = { tls: false, tlsVerify: false, debug: false }
  let action: Global['action']
  let at = 0
  for (; at < argv.length; at++) {
    const word = argv[at] as string
    if (!word.startsWith('-')) break
    const joined = /^(--[a-z-]+)=([\s\S]*)$/.exec(word) ?? /^(-[Hlc])=?([\s\S]+)$/.exec(word)
    const name = joined?.[1] ?? word
    const key = WITH_VALUE[name]
    if (key !== undefined) {
      const given = joined?.[2] ?? argv[++at]
      if (given === undefined) throw new NetError('invalid', `flag needs an argument: ${name}`, { exitCode: 125 } as CliDetail)
      values[key] = given
    } else if (name === '--tls') flags.tls = joined?.[2] !== 'false'
    else if (name === '--tlsverify') flags.tlsVerify = joined?.[2] !== 'false'
    else if (name === '-D' || name === '--debug') flags.debug = joined?.[2] !== 'false'
    else if (name === '-v' || name === '--version') action ??= 'version'
    else if (name === '-h' || name === '--help') action ??= 'help'
    else throw new NetError('invalid', `unknown flag: ${name}\nSee 'causeway --help'.`, { exitCode: 125 } as CliDetail)
  }
  return { global: { ...flags, ...values } as GlobalOptions, rest: argv.slice(at), action }
}

/** The process's own streams and signals. Starting programs is given: below `src`, only `sys` may. */
export function processParts(launcher: string, startProgram: StartProgram): ContextParts {
  return {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    clock: systemClock,
    launcher,
    startProgram,
    onSignals: (names, handle) => {
      const handlers = names.map((name) => {
        const handler = () => handle(name)
        process.on(name, handler)
        return () => process.off(name, handler)
      })
      return () => handlers.forEach((stop) => void stop())
    },
  }
}

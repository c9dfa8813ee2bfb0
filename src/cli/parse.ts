/** Command line -> options and arguments: commander does the work, with the flag habits and texts of Docker's CLI around it. */
import { Command as Commander, CommanderError, Option as CommanderOption } from 'commander'
import { messageOf } from '../base/errors.ts'
import type { CommandSpec } from './command.ts'
import { usageError } from './fail.ts'
import { type Option, type OptionTable, parseBool } from './options.ts'

export interface Parsed {
  readonly help: boolean
  readonly args: readonly string[]
  readonly options: Readonly<Record<string, unknown>>
}

/** Throws NetError `invalid` (a usage error) with Docker's text for unknown flags, missing or wrong values. */
export function parseCommandLine(spec: Pick<CommandSpec<OptionTable>, 'options' | 'passThrough'>, argv: readonly string[]): Parsed {
  const values: Record<string, unknown> = {}
  let help = false
  const commander = new Commander().helpOption(false).exitOverride().allowExcessArguments(true).argument('[args...]')
  commander.configureOutput({ writeOut: () => undefined, writeErr: () => undefined }).configureHelp({})
  commander.action(() => undefined)
  if (spec.passThrough === true) commander.passThroughOptions()
  const shorts = new Map<string, boolean>() // letter -> is a flag
  const longs = new Set<string>() // flags only
  for (const [name, option] of Object.entries(spec.options)) {
    values[name] = option.initial
    if (option.short !== '') shorts.set(option.short, option.isFlag)
    for (const long of [name, ...option.aliases]) {
      if (option.isFlag) longs.add(long)
      const short = option.short !== '' && long === name ? `-${option.short}, ` : ''
      commander.addOption(new CommanderOption(`${short}--${long}${option.isFlag ? '' : ' <value>'}`))
      const accept = (given: string) => {
        values[name] = folded(option, name, values[name], given)
      }
      commander.on(`option:${long}`, (given: string | null) => accept(given ?? 'true'))
      if (option.isFlag) {
        commander.addOption(new CommanderOption(`--no-${long}`))
        commander.on(`option:no-${long}`, () => accept('false'))
      }
    }
  }
  if (!('help' in spec.options)) {
    commander.addOption(new CommanderOption(shorts.has('h') ? '--help' : '-h, --help'))
    commander.on('option:help', () => {
      help = true
    })
  }
  try {
    commander.parse(goFlags(argv, shorts, longs, spec.passThrough === true), { from: 'user' })
  } catch (error) {
    if (!help) throw error instanceof CommanderError ? usageError(textOf(error, argv)) : error
  }
  return { help, args: commander.args, options: values }
}

function folded(option: Option<unknown>, name: string, previous: unknown, given: string): unknown {
  try {
    return option.add(previous, given)
  } catch (error) {
    const shown = option.short === '' ? `--${name}` : `-${option.short}, --${name}`
    throw usageError(`invalid argument "${given}" for "${shown}" flag: ${messageOf(error)}`)
  }
}

/** `--flag=false` and `-x=value`, which Go's flags know and commander does not, in commander's spelling. */
function goFlags(
  argv: readonly string[],
  shorts: ReadonlyMap<string, boolean>,
  longs: ReadonlySet<string>,
  passThrough: boolean,
): string[] {
  const out: string[] = []
  for (let i = 0; i < argv.length; i++) {
    const token = argv[i] as string
    if (token === '--' || (passThrough && (!token.startsWith('-') || token === '-'))) return [...out, ...argv.slice(i)]
    const long = /^--([^=]+)(=([\s\S]*))?$/.exec(token)
    const short = /^-([^-=])([\s\S]*)$/.exec(token)
    if (long !== null && longs.has(long[1] as string) && long[3] !== undefined) {
      let on: boolean
      try {
        on = parseBool(long[3])
      } catch (error) {
        throw usageError(`invalid argument "${long[3]}" for "--${long[1]}" flag: ${messageOf(error)}`)
      }
      out.push(on ? `--${long[1]}` : `--no-${long[1]}`)
      continue
    }
    if (short === null) {
      out.push(token)
      if (long !== null && long[2] === undefined && !longs.has(long[1] as string) && i + 1 < argv.length && long[1] !== 'help')
        out.push(argv[++i] as string)
      continue
    }
    // A cluster: flags up to the first letter that takes a value, whose text is the rest or the next word.
    let at = 1
    while (at < token.length && shorts.get(token[at] as string) === true) at++
    const takesValue = shorts.get(token[at] ?? '') === false
    if (takesValue && token[at + 1] === '=') out.push(token.slice(0, at + 1) + token.slice(at + 2))
    else out.push(token)
    if (takesValue && at === token.length - 1 && i + 1 < argv.length) out.push(argv[++i] as string)
  }
  return out
}

function textOf(error: CommanderError, argv: readonly string[]): string {
  const quoted = /'([^']*)'/.exec(error.message)?.[1] ?? ''
  if (error.code === 'commander.unknownOption') {
    if (quoted.startsWith('--')) return `unknown flag: ${quoted.replace(/=.*/s, '')}`
    return `unknown shorthand flag: '${quoted[1] ?? ''}' in ${quoted}`
  }
  if (error.code === 'commander.optionMissingArgument') {
    const [short = '', long] = quoted.replace(/ <value>$/, '').split(', ')
    return `flag needs an argument: ${long === undefined || argv.at(-1) === long ? (long ?? short) : `'${short[1] ?? ''}' in ${short}`}`
  }
  return error.message.replace(/^error: /, '')
}

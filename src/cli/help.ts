/** Texts of `--help`: Docker's shape, with examples. */
import type { CommandSpec } from './command.ts'
import type { Option, OptionTable } from './options.ts'
import type { Group, Listing } from './registry.ts'

const PROGRAM = 'causeway'

function usageLine(spec: Pick<CommandSpec<OptionTable>, 'path' | 'usage'>): string {
  return `Usage:  ${PROGRAM} ${spec.path}${spec.usage === '' ? '' : ` ${spec.usage}`}`
}

/** The block that follows a usage error. */
export function usageHint(spec: Pick<CommandSpec<OptionTable>, 'path' | 'usage'>, word: 'Run' | 'See'): string {
  return `${usageLine(spec)}\n\n${word} '${PROGRAM} ${spec.path} --help' for more information`
}

/** `causeway COMMAND --help`, wrapped to a terminal's width. */
export function commandHelp(spec: CommandSpec<OptionTable>, width: number): string {
  const parts = [usageLine(spec), '', spec.summary]
  if (spec.notes !== undefined) parts.push('', ...spec.notes.split('\n').flatMap((line) => wrap(line, width)))
  if (spec.aliases !== undefined && spec.aliases.length > 0)
    parts.push('', 'Aliases:', `  ${[spec.path, ...spec.aliases].map((a) => `${PROGRAM} ${a}`).join(', ')}`)
  const options = Object.entries(spec.options).filter(([, o]) => !o.hidden)
  if (options.length > 0) parts.push('', 'Options:', ...optionLines(options as [string, Option<unknown>][], width))
  if (spec.examples.length > 0) {
    parts.push('', 'Examples:')
    for (const { line, why } of spec.examples) parts.push(...(why === undefined ? [] : [`  # ${why}`]), `  ${line}`)
  }
  return `${parts.join('\n')}\n`
}

function optionLines(options: readonly [string, Option<unknown>][], width: number): string[] {
  return optionTable(
    options.map(([name, o]) => ({ name, short: o.short, placeholder: o.placeholder, help: o.help + defaultOf(o) })),
    width,
  )
}

/** Options by name, in two columns: how each is written, and what it means, folded at `width`. */
export function optionTable(
  options: readonly { readonly name: string; readonly short: string; readonly placeholder: string; readonly help: string }[],
  width: number,
): string[] {
  const heads = options
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ name, short, placeholder, help }) => ({
      head: `  ${short === '' ? '    ' : `-${short}, `}--${name}${placeholder === '' ? '' : ` ${placeholder}`}`,
      help,
    }))
  const column = Math.max(...heads.map((h) => h.head.length)) + 3
  return heads.flatMap(({ head, help }) => {
    const lines = wrap(help, Math.max(24, width - column))
    return lines.map((line, i) => (i === 0 ? head.padEnd(column) : ' '.repeat(column)) + line)
  })
}

function defaultOf(option: Option<unknown>): string {
  return option.initial === true ? ' (default true)' : ''
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line]
}

/** Help of a group (`causeway network`). */
export function groupHelp(path: string, group: Group): string {
  const lines = [`Usage:  ${PROGRAM} ${path} COMMAND`, '', group.summary, '', 'Commands:', ...listing(Object.entries(group.commands)), '']
  return `${[...lines, `Run '${PROGRAM} ${path} COMMAND --help' for more information on a command.`].join('\n')}\n`
}

/** `causeway --help`. */
export function rootHelp(sections: readonly { title: string; entries: readonly (readonly [string, Listing])[] }[]): string {
  const lines = [`Usage:  ${PROGRAM} [OPTIONS] COMMAND`, '', 'Container networks for Linux that explain themselves']
  for (const { title, entries } of sections) lines.push('', `${title}:`, ...listing(entries))
  lines.push(
    '',
    'Global Options:',
    '  -H, --host string        Engine to talk to: unix:///path or tcp://host:port',
    '                           (CAUSEWAY_HOST; default unix:///run/causeway/causeway.sock)',
    '      --tls                Use TLS; implied by --tlsverify',
    '      --tlscacert string   Trust certificates signed by this CA (default "ca.pem" in CAUSEWAY_CERT_PATH)',
    '      --tlscert string     Own certificate (default "cert.pem" in CAUSEWAY_CERT_PATH)',
    '      --tlskey string      Own key (default "key.pem" in CAUSEWAY_CERT_PATH)',
    '      --tlsverify          Use TLS and verify the engine (CAUSEWAY_TLS_VERIFY=1)',
    '  -D, --debug              Print where an error came from',
    '  -v, --version            Print the version and quit',
    '',
    'Examples:',
    '  # Start the engine, make an image from what this machine has, and run a container',
    '  causeway up',
    '  causeway image bootstrap',
    '  causeway run --rm -it busybox sh',
    '',
    `Run '${PROGRAM} COMMAND --help' for more information on a command.`,
  )
  return `${lines.join('\n')}\n`
}

function listing(entries: readonly (readonly [string, Listing])[]): string[] {
  const column = Math.max(...entries.map(([name]) => name.length)) + 2
  return entries.map(([name, { summary }]) => `  ${name.padEnd(column)}${summary}`)
}

/** A result as people read it. */
import { type Summary, short } from './stats.ts'

export interface ResultRow {
  readonly row: string
  readonly unit: string
  readonly better: 'lower' | 'higher'
  /** Networks and endpoints that were there besides. */
  readonly loaded: number
  readonly sides: readonly (Summary & { readonly values: readonly number[] })[]
}

export interface Result {
  readonly when: string
  readonly quick: boolean
  readonly machine: { readonly kernel: string; readonly cpus: number; readonly cpu: string; readonly node: string }
  readonly engines: readonly { readonly label: string; readonly version: string }[]
  readonly rows: readonly ResultRow[]
  readonly failures: readonly string[]
}

/** How many times better the first engine is than the second: above 1 is better, whatever the unit. */
function advantage({ better, sides }: ResultRow): number {
  const [first, second] = sides
  if (first === undefined || second === undefined) return Number.NaN
  return better === 'lower' ? second.median / first.median : first.median / second.median
}

export function renderMarkdown(result: Result): string {
  const { engines, machine } = result
  const head = ['', ...engines.flatMap(({ label }) => [`${label} median`, 'min']), 'times better', 'cost of load']
  const lines = [head]
  for (const row of result.rows) {
    const what = `${row.row}${row.loaded > 0 ? `, beside ${row.loaded} networks` : ''} (${row.unit})`
    const sides = row.sides.flatMap(({ median, min, n }) => (n === 0 ? ['-', '-'] : [short(median), short(min)]))
    lines.push([what, ...sides, short(advantage(row)), costOfLoad(result, row)])
  }
  const widths = head.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)))
  const pad = (line: readonly string[]) =>
    `| ${line.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] as number) : cell.padStart(widths[i] as number))).join(' | ')} |`
  const rule = `|${widths.map((width, i) => (i === 0 ? '-'.repeat(width + 2) : `${'-'.repeat(width + 1)}:`)).join('|')}|`
  return [
    `# Benchmark, ${result.when.slice(0, 10)}${result.quick ? ' (quick)' : ''}`,
    '',
    `${engines.map(({ label, version }) => `${label} ${version}`).join(' beside ')}; Linux ${machine.kernel}, ${machine.cpus} x ${machine.cpu || 'CPU'}, Node ${machine.node}.`,
    'Same HTTP client, same image, rounds in turn, namespaces of their own. "Cost of load": median of the first engine beside many networks, divided by that of an empty one.',
    '',
    pad(lines[0] as string[]),
    rule,
    ...lines.slice(1).map(pad),
    ...(result.failures.length > 0 ? ['', 'Not measured:', ...result.failures.map((failure) => `- ${failure}`)] : []),
    '',
  ].join('\n')
}

function costOfLoad(result: Result, row: ResultRow): string {
  if (row.loaded === 0) return ''
  const empty = result.rows.find((other) => other.row === row.row && other.loaded === 0)?.sides[0]
  const here = row.sides[0]
  if (empty === undefined || here === undefined || empty.n === 0 || here.n === 0) return ''
  return short(row.better === 'lower' ? here.median / empty.median : empty.median / here.median)
}

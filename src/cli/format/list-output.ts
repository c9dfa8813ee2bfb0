/** The one way lists are printed: a table with headers, only ids, JSON lines, or the user's template. */
import { goJson } from './go-print.ts'
import { asRow, type Row } from './row.ts'
import { alignTabs } from './tabwriter.ts'
import { compileTemplate } from './template.ts'

export type { Row }

export interface ListFormat {
  /** Heading by column. */
  readonly headers: Readonly<Record<string, string>>
  /** Template behind `table` when the user gave none. */
  readonly table: string
  /** Column shown alone with `--quiet`. */
  readonly quiet: string
  /** `raw` layout, if any. */
  readonly raw?: string
}

/** Text of the whole list, with a line end unless empty. `format` undefined = `table`. */
export function renderList(list: ListFormat, rows: readonly Row[], format: string | undefined, quiet: boolean): string {
  const asked = (format ?? 'table').trim()
  if (quiet && (asked === 'table' || asked === 'raw' || asked === 'json')) return lines(rows.map((row) => String(row[list.quiet])))
  if (asked === 'json') return lines(rows.map((row) => goJson(plain(row))))
  const isTable = asked === 'table' || /^table\s/.test(asked)
  const source =
    asked === 'table' ? list.table : asked === 'raw' ? (list.raw ?? list.table) : isTable ? asked.replace(/^table\s+/, '') : asked
  const template = compileTemplate(expandEscapes(source), { use: 'list', functions: { json: (v) => goJson(plain(v)) } })
  const body = rows.map((row) => template(asRow({ ...row })))
  if (!isTable) return lines(body)
  return lines(alignTabs([headerLine(expandEscapes(source), list.headers, rows[0]), ...body].join('\n')).split('\n'))
}

/** The template run over the headings: functions hand them through. */
function headerLine(source: string, headers: Readonly<Record<string, string>>, sample: Row | undefined): string {
  const row: Record<string, unknown> = { ...headers }
  for (const [key, value] of Object.entries(sample ?? {}))
    if (typeof value === 'function') row[key] = (argument: unknown) => headers[key] ?? String(argument)
  const through = (first: unknown) => first
  const last = (...args: unknown[]) => args.at(-1)
  const functions = {
    json: through,
    split: through,
    join: through,
    title: through,
    lower: through,
    upper: through,
    pad: through,
    truncate: through,
    printf: last,
    println: last,
    print: last,
  }
  return compileTemplate(source, { use: 'list', functions })(asRow(row))
}

function plain(value: unknown): unknown {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, v]) => typeof v !== 'function')
      .toSorted(([a], [b]) => (a < b ? -1 : 1)),
  )
}

/** `\t` and `\n` typed in the shell as two characters. */
function expandEscapes(text: string): string {
  return text.replaceAll('\\t', '\t').replaceAll('\\n', '\n')
}

function lines(texts: readonly string[]): string {
  return texts.map((t) => `${t}\n`).join('')
}

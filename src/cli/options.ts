/** Options of a command as data: what the parser accepts, what help shows, and the type of the values, all from one table. */
import { NetError } from '../base/errors.ts'

export interface Option<T> {
  /** A flag takes no value (but `--flag=false` works, as with Docker). */
  readonly isFlag: boolean
  readonly short: string
  /** Word for the value in help, as Docker's: `string`, `list`, `map`. */
  readonly placeholder: string
  readonly help: string
  readonly initial: T
  readonly hidden: boolean
  /** Other long names, not shown. */
  readonly aliases: readonly string[]
  /** Folds one occurrence into the value; throws NetError `invalid` with the reason. */
  add(previous: T, text: string): T
}

export type OptionTable = Readonly<Record<string, Option<unknown>>>
/** Values by long name. */
export type ValuesOf<O> = { readonly [K in keyof O]: O[K] extends Option<infer T> ? T : never }

interface Extra {
  readonly aliases?: readonly string[]
  readonly hidden?: boolean
}

function make<T>(o: Pick<Option<T>, 'isFlag' | 'short' | 'placeholder' | 'help' | 'initial' | 'add'>, extra: Extra): Option<T> {
  return { ...o, hidden: extra.hidden ?? false, aliases: extra.aliases ?? [] }
}

/** `--flag`, `--flag=false`. */
export function flag(short: string, help: string, extra: Extra = {}): Option<boolean> {
  return make({ isFlag: true, short, placeholder: '', help, initial: false, add: (_, text) => parseBool(text) }, extra)
}

/** A flag whose absence differs from false. */
export function triState(short: string, help: string, extra: Extra = {}): Option<boolean | undefined> {
  return make<boolean | undefined>(
    { isFlag: true, short, placeholder: '', help, initial: undefined, add: (_, text) => parseBool(text) },
    extra,
  )
}

/** A flag that is on unless `=false`. */
export function flagOn(short: string, help: string, extra: Extra = {}): Option<boolean> {
  return make({ isFlag: true, short, placeholder: '', help, initial: true, add: (_, text) => parseBool(text) }, extra)
}

/** An option with a text. */
export function text(short: string, help: string, extra: Extra = {}): Option<string | undefined> {
  return value<string>(short, 'string', help, (t) => t, extra)
}

/** An option with a whole number; anything else is refused before the command runs. */
export function integer(short: string, help: string, extra: Extra = {}): Option<number | undefined> {
  return value<number>(short, 'int', help, parseInteger, extra)
}

/** A value with a parser of its own; the last occurrence counts. */
export function value<T>(
  short: string,
  placeholder: string,
  help: string,
  parse: (text: string) => T,
  extra: Extra = {},
): Option<T | undefined> {
  return make<T | undefined>({ isFlag: false, short, placeholder, help, initial: undefined, add: (_, t) => parse(t) }, extra)
}

/** Repeatable; each occurrence is one item. */
export function list(
  short: string,
  help: string,
  check: (text: string) => string = (t) => t,
  extra: Extra & { placeholder?: string } = {},
): Option<readonly string[]> {
  const add = (previous: readonly string[], t: string) => [...previous, check(t)]
  return make<readonly string[]>({ isFlag: false, short, placeholder: extra.placeholder ?? 'list', help, initial: [], add }, extra)
}

/** Repeatable, and each occurrence may hold several items with commas between. */
export function strings(short: string, help: string, extra: Extra = {}): Option<readonly string[]> {
  const add = (previous: readonly string[], t: string) => [...previous, ...(t === '' ? [] : t.split(','))]
  return make<readonly string[]>({ isFlag: false, short, placeholder: 'strings', help, initial: [], add }, extra)
}

/** Repeatable `key=value`; a missing `=` gives an empty value. */
export function map(short: string, help: string, extra: Extra = {}): Option<Readonly<Record<string, string>>> {
  const add = (previous: Readonly<Record<string, string>>, t: string) => {
    const eq = t.indexOf('=')
    return { ...previous, [eq < 0 ? t : t.slice(0, eq)]: eq < 0 ? '' : t.slice(eq + 1) }
  }
  return make<Readonly<Record<string, string>>>({ isFlag: false, short, placeholder: 'map', help, initial: {}, add }, extra)
}

/** `--filter name=value`, repeatable, grouped by name. */
export function filter(short = 'f'): Option<Readonly<Record<string, readonly string[]>>> {
  const add = (previous: Readonly<Record<string, readonly string[]>>, t: string) => {
    const eq = t.indexOf('=')
    if (eq < 0) throw new NetError('invalid', 'bad format of filter (expected name=value)')
    const name = t.slice(0, eq).trim().toLowerCase()
    const item = t.slice(eq + 1).trim()
    return { ...previous, [name]: [...(previous[name] ?? []), item] }
  }
  const help = 'Filter output based on conditions provided'
  return make<Readonly<Record<string, readonly string[]>>>({ isFlag: false, short, placeholder: 'filter', help, initial: {}, add }, {})
}

/** `--format`, with a Go template or `json`. */
export function formatOption(): Option<string | undefined> {
  return text('', "Print with a Go template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'")
}

/** The spellings Go's strconv.ParseBool takes. */
export function parseBool(t: string): boolean {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(t)) return true
  if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(t)) return false
  throw new NetError('invalid', `strconv.ParseBool: parsing "${t}": invalid syntax`)
}

function parseInteger(t: string): number {
  if (!/^[+-]?\d+$/.test(t)) throw new NetError('invalid', `strconv.ParseInt: parsing "${t}": invalid syntax`)
  return Number(t)
}

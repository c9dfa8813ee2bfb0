/**
 * Templates of `--format`: compile once, run for each value.
 *
 * ```ts
 * compileTemplate('{{.Name}} {{json .Labels}}')({ Name: 'c1', Labels: {} })  // 'c1 {}'
 * ```
 * Values are those of JSON, plus functions as methods (`{{.Label "x"}}`) and {@link GoNil} for typed nils.
 */
import { messageOf, NetError } from '../../base/errors.ts'
import { fail } from '../fail.ts'
import { GoNil, goJson, goPrint, goSprintf, isGoMap } from './go-print.ts'
import { isRow, rowFields } from './row.ts'
import { type Call, type Expr, type Node, type Pipe, parseTemplate } from './template-parse.ts'

export type Template = (data: unknown) => string
type Fn = (...args: unknown[]) => unknown
type BranchNode = Extract<Node, { body: readonly Node[] }>
type LoopExit = 'break' | 'continue' | undefined

const NO_VALUE = Symbol('no value')

export interface TemplateOptions {
  /** Docker words failures of lists and of inspect differently, with different exit codes. */
  readonly use?: 'inspect' | 'list'
  readonly functions?: Readonly<Record<string, Fn>>
}

/** Throws NetError `invalid`: exit code 64 when the template does not parse, 1 when it fails on a value. */
export function compileTemplate(source: string, options: TemplateOptions = {}): Template {
  const functions = { ...FUNCTIONS, ...options.functions }
  const words = WORDING[options.use ?? 'inspect']
  let nodes: readonly Node[]
  try {
    nodes = parseTemplate(source, new Set([...Object.keys(functions), 'and', 'or']))
  } catch (error) {
    throw fail(words.parse + messageOf(error), { exitCode: words.parseExit, bare: true })
  }
  return (data) => new Run(source, functions, data, words.run).output(nodes)
}

/** Before Go's own text, and the exit code of a template that does not parse. */
const WORDING = {
  inspect: { parse: 'template parsing error: ', parseExit: 64, run: 'template parsing error: ' },
  list: { parse: 'failed to parse template: ', parseExit: 1, run: 'failed to execute template: ' },
} as const

class Run {
  readonly #source: string
  readonly #functions: Readonly<Record<string, Fn>>
  #variables: { name: string; value: unknown }[]
  readonly #prefix: string
  #text = ''

  constructor(source: string, functions: Readonly<Record<string, Fn>>, data: unknown, prefix: string) {
    this.#prefix = prefix
    this.#source = source
    this.#functions = functions
    this.#variables = [{ name: '$', value: data }]
  }

  output(nodes: readonly Node[]): string {
    this.#nodes(nodes, this.#variables[0]?.value)
    return this.#text
  }

  /** Undefined at the end, or the loop word that left early. */
  #nodes(nodes: readonly Node[], dot: unknown): LoopExit {
    for (const node of nodes) {
      const exit = this.#node(node, dot)
      if (exit !== undefined) return exit
    }
    return undefined
  }

  #node(node: Node, dot: unknown): LoopExit {
    switch (node.kind) {
      case 'text':
        this.#text += node.text
        return undefined
      case 'action': {
        const value = this.#pipe(node.pipe, dot)
        if (node.pipe.declare.length === 0)
          this.#text += value === NO_VALUE || value === null || value === undefined ? '<no value>' : goPrint(value)
        return undefined
      }
      case 'break':
      case 'continue':
        return node.kind
      default:
        return this.#branch(node, dot)
    }
  }

  #branch(node: BranchNode, dot: unknown): LoopExit {
    const scope = this.#variables.length
    let exit: LoopExit
    if (node.kind === 'range') exit = this.#range(node, dot)
    else {
      const value = this.#pipe(node.pipe, dot)
      exit = isTrue(value) ? this.#nodes(node.body, node.kind === 'with' ? value : dot) : this.#nodes(node.otherwise, dot)
    }
    this.#variables.length = scope
    return exit
  }

  #range(node: BranchNode, dot: unknown): LoopExit {
    const value = this.#evaluate(node.pipe, dot)
    const items = itemsOf(value)
    if (items === undefined) throw this.#error(`range can't iterate over ${goPrint(value)}`, node.pipe.calls[0]?.[0])
    if (items.length === 0) return this.#nodes(node.otherwise, dot)
    const scope = this.#variables.length
    for (const [key, item] of items) {
      const [first, second] = node.pipe.declare
      if (second !== undefined) this.#variables.push({ name: first as string, value: key }, { name: second, value: item })
      else if (first !== undefined) this.#variables.push({ name: first, value: item })
      const exit = this.#nodes(node.body, item)
      this.#variables.length = scope
      if (exit === 'break') break
    }
    return undefined
  }

  #pipe(pipe: Pipe, dot: unknown): unknown {
    const value = this.#evaluate(pipe, dot)
    for (const name of pipe.declare) {
      const known = pipe.assign ? this.#variables.findLast((v) => v.name === name) : undefined
      if (known !== undefined) known.value = value
      else this.#variables.push({ name, value })
    }
    return value
  }

  #evaluate(pipe: Pipe, dot: unknown): unknown {
    let value: unknown = NO_VALUE
    pipe.calls.forEach((call, i) => {
      value = this.#call(call, dot, i === 0 ? [] : [value])
    })
    return value
  }

  #call(call: Call, dot: unknown, piped: readonly unknown[]): unknown {
    const [head, ...rest] = call as [Expr, ...Expr[]]
    if (head.kind === 'function') {
      if (head.name === 'and' || head.name === 'or') return this.#shortCircuit(head.name, rest, dot, piped)
      const fn = this.#functions[head.name] as Fn
      const whole = { ...head, source: call.map((e) => e.source).join(' ') }
      return this.#guard(whole, () => fn(...rest.map((e) => this.#operand(e, dot)), ...piped), `error calling ${head.name}: `)
    }
    const value =
      head.kind === 'field' ? this.#field(head, dot, [...rest.map((e) => this.#operand(e, dot)), ...piped]) : this.#operand(head, dot)
    if (head.kind !== 'field' && (rest.length > 0 || piped.length > 0))
      throw this.#error(`can't give argument to non-function ${head.source}`, head)
    return value
  }

  /** `and`/`or` stop at the first operand that decides, as Go since 1.18. */
  #shortCircuit(name: 'and' | 'or', rest: readonly Expr[], dot: unknown, piped: readonly unknown[]): unknown {
    let value: unknown = NO_VALUE
    for (const next of [...rest.map((e) => () => this.#operand(e, dot)), ...piped.map((p) => () => p)]) {
      value = next()
      if (isTrue(value) === (name === 'or')) return value
    }
    return value
  }

  #operand(expr: Expr, dot: unknown): unknown {
    switch (expr.kind) {
      case 'literal':
        return expr.value
      case 'dot':
        return dot
      case 'variable':
        return this.#variables.findLast((v) => v.name === expr.name)?.value
      case 'function':
        return this.#call([expr], dot, [])
      case 'field':
        return this.#field(expr, dot, [])
      case 'pipe':
        return this.#evaluate(expr.pipe, dot)
    }
  }

  #field(expr: Extract<Expr, { kind: 'field' }>, dot: unknown, args: readonly unknown[]): unknown {
    let value = this.#operand(expr.of, dot)
    expr.names.forEach((name, i) => {
      const isLast = i === expr.names.length - 1
      value = this.#member(expr, value, name, isLast ? args : [])
    })
    return value
  }

  #member(expr: Expr, of: unknown, name: string, args: readonly unknown[]): unknown {
    if (of === null || of === undefined) throw this.#error(`nil data; no entry for key "${name}"`, expr)
    if (of === NO_VALUE || (of instanceof GoNil && of.kind === 'map')) return NO_VALUE
    if (of instanceof GoNil) throw this.#error(`map has no entry for key "${name}"`, expr)
    if (typeof of !== 'object' || Array.isArray(of)) throw this.#error(`can't evaluate field ${name} in type interface {}`, expr)
    const table = of as Record<string, unknown>
    if (!Object.hasOwn(table, name) && isGoMap(table)) return NO_VALUE
    if (!(name in table))
      throw this.#error(
        isRow(table) ? `can't evaluate field ${name}: there are ${rowFields(table)}` : `map has no entry for key "${name}"`,
        expr,
      )
    const member = table[name]
    if (typeof member === 'function') return this.#guard(expr, () => (member as Fn)(...args), '')
    if (args.length > 0) throw this.#error(`${name} has arguments but cannot be invoked as function`, expr)
    return member
  }

  #guard(expr: Expr, run: () => unknown, prefix: string): unknown {
    try {
      return run()
    } catch (error) {
      if (error instanceof NetError && error.detail.op === COMPLAINT) throw this.#error(prefix + error.message, expr)
      throw error
    }
  }

  #error(reason: string, expr: Expr | undefined): Error {
    const at = expr?.at ?? 0
    const before = this.#source.slice(0, at).split('\n')
    const place = `:${before.length}:${(before.at(-1) as string).length}`
    const shown = (expr?.source ?? '').length > 20 ? `${expr?.source.slice(0, 20)}...` : expr?.source
    return fail(`${this.#prefix}template: ${place}: executing "" at <${shown}>: ${reason}`, { exitCode: 1, bare: true })
  }
}

/** A function's own complaint; the place is added where it was called. */
function complaint(message: string): NetError {
  return new NetError('invalid', message, { op: COMPLAINT })
}
const COMPLAINT = 'template function'

function isTrue(value: unknown): boolean {
  if (value === NO_VALUE || value === null || value === undefined || value instanceof GoNil) return false
  if (Array.isArray(value)) return value.length > 0
  if (typeof value === 'object') return Object.keys(value).length > 0
  return value !== '' && value !== 0 && value !== false
}

/** Maps are walked in the order of their keys, as Go does. */
function itemsOf(value: unknown): readonly (readonly [unknown, unknown])[] | undefined {
  if (value === NO_VALUE || value === null || value === undefined || value instanceof GoNil) return []
  if (Array.isArray(value)) return value.map((item, i) => [i, item] as const)
  if (typeof value === 'object') return Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1))
  if (typeof value === 'number') return Array.from({ length: value }, (_, i) => [i, i] as const)
  return undefined
}

function goType(value: unknown): string {
  if (typeof value === 'string') return 'string'
  if (typeof value === 'number') return Number.isInteger(value) ? 'int' : 'float64'
  if (typeof value === 'boolean') return 'bool'
  return Array.isArray(value) ? '[]interface {}' : 'interface {}'
}

function lengthOf(value: unknown): number {
  if (value instanceof GoNil) return 0
  if (typeof value === 'string') return Buffer.byteLength(value)
  if (Array.isArray(value)) return value.length
  if (typeof value === 'object' && value !== null) return Object.keys(value).length
  throw complaint(value === null || value === undefined || value === NO_VALUE ? 'len of nil pointer' : `len of type ${goType(value)}`)
}

function indexOf(value: unknown, ...keys: unknown[]): unknown {
  let at = value
  for (const key of keys) {
    if (at instanceof GoNil && at.kind === 'map') at = null
    else if (at === null || at === undefined || at instanceof GoNil) throw complaint('index of untyped nil')
    else if (Array.isArray(at) || typeof at === 'string') {
      if (typeof key !== 'number') throw complaint(`cannot index slice/array with type ${goType(key)}`)
      if (key < 0 || key >= at.length) throw complaint(`index out of range: ${key}`)
      at = typeof at === 'string' ? at.charCodeAt(key) : at[key]
    } else if (typeof at === 'object') at = (at as Record<string, unknown>)[String(key)] ?? ''
    else throw complaint(`can't index item of type ${goType(at)}`)
  }
  return at
}

function sliceOf(value: unknown, from = 0, to?: unknown): unknown {
  if (typeof value !== 'string' && !Array.isArray(value)) throw complaint(`can't slice item of type ${goType(value)}`)
  const end = to === undefined ? value.length : Number(to)
  if (Number(from) > end || end > value.length) throw complaint(`index out of range: ${end}`)
  return value.slice(Number(from), end)
}

function compare(a: unknown, b: unknown): number {
  if (typeof a !== typeof b) throw complaint('incompatible types for comparison')
  if (typeof a !== 'number' && typeof a !== 'string') throw complaint('invalid type for comparison')
  return a < (b as typeof a) ? -1 : a > (b as typeof a) ? 1 : 0
}

function same(a: unknown, b: unknown): boolean {
  if (a === null || b === null || a === undefined || b === undefined) return (a ?? null) === (b ?? null)
  if (typeof a === 'object' || typeof b === 'object') throw complaint('non-comparable type')
  if (typeof a !== typeof b) throw complaint('incompatible types for comparison')
  return a === b
}

const asText = (value: unknown): string => (typeof value === 'string' ? value : goPrint(value))
const html: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&#34;', "'": '&#39;' }

/** Go's built-ins and the ones Docker's CLI adds. */
const FUNCTIONS: Readonly<Record<string, Fn>> = {
  json: (v) => goJson(v),
  split: (s, separator) => asText(s).split(asText(separator)),
  join: (items, separator) => (Array.isArray(items) ? items : []).map(asText).join(asText(separator)),
  title: (s) => asText(s).replace(/(^|[^\p{L}\p{N}_'])(\p{L})/gu, (_, before: string, c: string) => before + c.toUpperCase()),
  lower: (s) => asText(s).toLowerCase(),
  upper: (s) => asText(s).toUpperCase(),
  pad: (s, before, after) => ' '.repeat(Number(before)) + asText(s) + ' '.repeat(Number(after)),
  truncate: (s, length) => asText(s).slice(0, Number(length)),
  println: (...v) => `${v.map(goPrint).join(' ')}\n`,
  print: (...v) =>
    v.reduce((t: string, x, i) => t + (i > 0 && typeof x !== 'string' && typeof v[i - 1] !== 'string' ? ' ' : '') + goPrint(x), ''),
  printf: (format, ...v) => goSprintf(asText(format), v),
  len: (v) => lengthOf(v),
  index: indexOf,
  slice: (v, from, to) => sliceOf(v, from as number | undefined, to),
  not: (v) => !isTrue(v),
  eq: (a, ...b) => b.some((x) => same(a, x)),
  ne: (a, b) => !same(a, b),
  lt: (a, b) => compare(a, b) < 0,
  le: (a, b) => compare(a, b) <= 0,
  gt: (a, b) => compare(a, b) > 0,
  ge: (a, b) => compare(a, b) >= 0,
  html: (...v) =>
    v
      .map(goPrint)
      .join('')
      .replace(/[&<>"']/g, (c) => html[c] as string),
  urlquery: (...v) => encodeURIComponent(v.map(goPrint).join('')).replaceAll('%20', '+'),
  js: (...v) => goJson(v.map(goPrint).join('')).slice(1, -1),
}

/**
 * Go's text/template, parsed: the part of the language that people use with `--format`.
 * Left out: define/template/block, complex numbers, custom delimiters.
 */
import { fail } from '../fail.ts'

/** An operand or call. `at` is the byte offset of the node, as Go counts it in error texts. */
export type Expr =
  | { readonly kind: 'literal'; readonly value: unknown; readonly source: string; readonly at: number }
  | { readonly kind: 'dot'; readonly at: number; readonly source: string }
  | { readonly kind: 'variable'; readonly name: string; readonly at: number; readonly source: string }
  | { readonly kind: 'function'; readonly name: string; readonly at: number; readonly source: string }
  | { readonly kind: 'field'; readonly of: Expr; readonly names: readonly string[]; readonly at: number; readonly source: string }
  | { readonly kind: 'pipe'; readonly pipe: Pipe; readonly at: number; readonly source: string }

/** `a b c`: a function or method with its arguments, or one operand. */
export type Call = readonly Expr[]

export interface Pipe {
  readonly declare: readonly string[]
  /** `=` instead of `:=`. */
  readonly assign: boolean
  readonly calls: readonly Call[]
}

export type Node =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'action'; readonly pipe: Pipe }
  | { readonly kind: 'if' | 'with' | 'range'; readonly pipe: Pipe; readonly body: readonly Node[]; readonly otherwise: readonly Node[] }
  | { readonly kind: 'break' }
  | { readonly kind: 'continue' }

interface Token {
  readonly kind: 'field' | 'dot' | 'variable' | 'word' | 'string' | 'number' | 'char' | 'symbol'
  readonly text: string
  readonly at: number
  /** A blank came before: `.A .B` are two operands, `.A.B` is one. */
  readonly spaced: boolean
}

function broken(reason: string, line: number): Error {
  return fail(`template: :${line}: ${reason}`)
}

/** Parses a template; `functions` are the names that may be called. Throws NetError `invalid`, worded as Go's package does. */
export function parseTemplate(source: string, functions: ReadonlySet<string>): readonly Node[] {
  return new Parser(source, functions).parse()
}

const TOKEN =
  /(?<space>\s+)|(?<string>"(?:\\.|[^"\\\n])*"|`[^`]*`)|(?<char>'(?:\\.|[^'\\])+')|(?<number>[+-]?(?:0[xX][0-9a-fA-F_]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?))|(?<variable>\$[A-Za-z0-9_]*)|(?<field>\.[\p{L}_][\p{L}\p{N}_]*)|(?<dot>\.)|(?<word>[\p{L}_][\p{L}\p{N}_]*)|(?<symbol>:=|[=|(),])/uy

class Parser {
  readonly #source: string
  readonly #functions: ReadonlySet<string>
  #position = 0
  #tokens: Token[] = []
  #next = 0
  #line = 1
  #trimNext = false
  /** Names in scope, innermost last. */
  #variables: string[] = ['$']
  #loops = 0

  constructor(source: string, functions: ReadonlySet<string>) {
    this.#source = source
    this.#functions = functions
  }

  parse(): readonly Node[] {
    const { nodes, end } = this.#list()
    if (end !== 'eof') throw broken(`unexpected {{${end}}}`, this.#line)
    return nodes
  }

  /** Nodes up to `end`, `else` or the end of the text; for `else if` the tokens behind `else` are left to be read. */
  #list(): { nodes: Node[]; end: string } {
    const nodes: Node[] = []
    for (;;) {
      const open = this.#source.indexOf('{{', this.#position)
      let text = open < 0 ? this.#source.slice(this.#position) : this.#source.slice(this.#position, open)
      if (this.#trimNext) text = text.trimStart()
      this.#trimNext = false
      const trimsLeft = open >= 0 && /^\{\{-\s/.test(this.#source.slice(open, open + 4))
      if (trimsLeft) text = text.trimEnd()
      if (text !== '') nodes.push({ kind: 'text', text })
      if (open < 0) {
        this.#position = this.#source.length
        return { nodes, end: 'eof' }
      }
      if (!this.#readAction(open + (trimsLeft ? 3 : 2))) continue // a comment
      const head = this.#tokens[0]
      if (head === undefined) throw broken('missing value for command', this.#line)
      const word = head.kind === 'word' ? head.text : ''
      if (word === 'end' || word === 'else') {
        this.#next = 1
        if (word === 'end' && this.#tokens.length > 1) throw broken(`unexpected <${this.#tokens[1]?.text}> in end`, this.#line)
        return { nodes, end: word }
      }
      nodes.push(this.#action(word))
    }
  }

  #action(word: string): Node {
    if (word === 'if' || word === 'with' || word === 'range') {
      this.#next = 1
      return this.#branch(word)
    }
    if (word === 'break' || word === 'continue') {
      if (this.#loops === 0) throw broken(`{{${word}}} outside {{range}}`, this.#line)
      return { kind: word }
    }
    if (word === 'define' || word === 'template' || word === 'block') throw broken(`{{${word}}} is not supported here`, this.#line)
    this.#next = 0
    return { kind: 'action', pipe: this.#pipe('command', true) }
  }

  #branch(kind: 'if' | 'with' | 'range'): Node {
    const scope = this.#variables.length
    const pipe = this.#pipe(kind, true)
    if (kind === 'range') this.#loops++
    const { nodes, end } = this.#list()
    if (kind === 'range') this.#loops--
    let otherwise: Node[] = []
    if (end === 'else') {
      const follow = this.#tokens[this.#next]
      if (follow?.kind === 'word' && (follow.text === 'if' || follow.text === 'with')) {
        this.#next++
        otherwise = [this.#branch(follow.text)]
        this.#variables.length = scope
        return { kind, pipe, body: nodes, otherwise } // its `end` closed us as well
      }
      if (follow !== undefined) throw broken(`unexpected <${follow.text}> in else`, this.#line)
      const rest = this.#list()
      if (rest.end !== 'end') throw broken(rest.end === 'eof' ? 'unexpected EOF' : 'unexpected {{else}}', this.#line)
      otherwise = rest.nodes
    } else if (end === 'eof') throw broken('unexpected EOF', this.#line)
    this.#variables.length = scope
    return { kind, pipe, body: nodes, otherwise }
  }

  /** Reads the tokens of the action that starts at `from`. False for a comment. */
  #readAction(from: number): boolean {
    this.#line = this.#source.slice(0, from).split('\n').length
    const comment = /^\s*\/\*[\s\S]*?\*\/\s*(-?)\}\}/.exec(this.#source.slice(from))
    if (comment !== null) {
      this.#position = from + comment[0].length
      this.#trimNext = comment[1] === '-'
      return false
    }
    this.#tokens = []
    this.#next = 0
    let spaced = true
    let depth = 0
    TOKEN.lastIndex = from
    for (;;) {
      const at = TOKEN.lastIndex
      const rest = this.#source.slice(at, at + 4)
      if (rest.startsWith('}}') || (/^-\}\}/.test(rest) && spaced)) {
        if (depth > 0) throw broken('unclosed left paren', this.#line)
        this.#trimNext = rest.startsWith('-')
        this.#position = at + (rest.startsWith('-') ? 3 : 2)
        return true
      }
      if (at >= this.#source.length) throw broken('unclosed action', this.#line)
      const found = TOKEN.exec(this.#source)
      if (found?.groups === undefined) {
        const c = this.#source[at] as string
        throw broken(c === '"' ? 'unterminated quoted string' : `unexpected "${c}" in command`, this.#line)
      }
      const [kind, text] = Object.entries(found.groups).find(([, t]) => t !== undefined) as [string, string]
      if (kind === 'space') {
        spaced = true
        continue
      }
      if (text === '(') depth++
      if (text === ')' && --depth < 0) throw broken('unexpected right paren', this.#line)
      this.#tokens.push({ kind: kind as Token['kind'], text, at, spaced })
      spaced = false
    }
  }

  #peek(): Token | undefined {
    return this.#tokens[this.#next]
  }

  #pipe(context: string, mayDeclare: boolean): Pipe {
    const declare: string[] = []
    let assign = false
    if (mayDeclare && this.#peek()?.kind === 'variable') {
      const [a, b, c, d] = this.#tokens.slice(this.#next, this.#next + 4)
      if (b?.text === ':=' || b?.text === '=') {
        declare.push((a as Token).text)
        assign = b.text === '='
        this.#next += 2
      } else if (b?.text === ',' && c?.kind === 'variable' && d?.text === ':=' && context === 'range') {
        declare.push((a as Token).text, c.text)
        this.#next += 4
      }
    }
    const calls: Expr[][] = []
    for (;;) {
      const call: Expr[] = []
      for (let token = this.#peek(); token !== undefined && token.text !== '|' && token.text !== ')'; token = this.#peek())
        call.push(this.#operand())
      if (call.length === 0) throw broken(calls.length === 0 ? `missing value for ${context}` : 'missing value for command', this.#line)
      const head = call[0] as Expr
      if (calls.length > 0 && head.kind === 'literal')
        throw broken(`non executable command in pipeline stage ${calls.length + 1}`, this.#line)
      calls.push(call)
      if (this.#peek()?.text !== '|') break
      this.#next++
    }
    if (assign) for (const name of declare) this.#known(name)
    else this.#variables.push(...declare)
    return { declare, assign, calls }
  }

  #known(name: string): void {
    if (!this.#variables.includes(name)) throw broken(`undefined variable "${name}"`, this.#line)
  }

  #operand(): Expr {
    const token = this.#tokens[this.#next++] as Token
    let expr = this.#head(token)
    const names: string[] = []
    let at = expr.at
    let source = expr.source
    for (let next = this.#peek(); next?.kind === 'field' && !next.spaced; next = this.#peek()) {
      if (names.length === 0) at = next.at
      names.push(next.text.slice(1))
      source += next.text
      this.#next++
    }
    if (names.length === 0) return expr
    if (expr.kind === 'literal') throw broken(`unexpected . after term ${expr.source}`, this.#line)
    if (expr.kind === 'field') {
      names.unshift(...expr.names)
      expr = expr.of
    }
    return { kind: 'field', of: expr, names, at, source }
  }

  #head(token: Token): Expr {
    const { kind, text, at } = token
    const base = { at, source: text }
    if (kind === 'field') return { kind: 'field', of: { kind: 'dot', ...base }, names: [text.slice(1)], ...base }
    if (kind === 'dot') return { kind: 'dot', ...base }
    if (kind === 'variable') {
      this.#known(text)
      return { kind: 'variable', name: text, ...base }
    }
    if (kind === 'string') return { kind: 'literal', value: unquote(text), ...base }
    if (kind === 'char') return { kind: 'literal', value: unquote(`"${text.slice(1, -1)}"`).codePointAt(0), ...base }
    if (kind === 'number') return { kind: 'literal', value: Number(text.replaceAll('_', '')), ...base }
    if (kind === 'word') {
      if (text === 'true' || text === 'false') return { kind: 'literal', value: text === 'true', ...base }
      if (text === 'nil') return { kind: 'literal', value: null, ...base }
      if (!this.#functions.has(text)) throw broken(`function "${text}" not defined`, this.#line)
      return { kind: 'function', name: text, ...base }
    }
    if (text === '(') {
      const pipe = this.#pipe('parenthesized pipeline', false)
      this.#next++ // `)`: the reader checked the balance
      return { kind: 'pipe', pipe, ...base }
    }
    throw broken(`unexpected "${text}" in operand`, this.#line)
  }
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', a: '\x07', b: '\b', f: '\f', v: '\v' }

function unquote(text: string): string {
  if (text.startsWith('`')) return text.slice(1, -1)
  return text
    .slice(1, -1)
    .replace(/\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)/g, (_, e: string) =>
      e.length > 1 ? String.fromCodePoint(Number.parseInt(e.slice(1), 16)) : (ESCAPES[e] ?? e),
    )
}

/** Reads fields of parsed JSON: what has the wrong type is named, never guessed at. */
import { CNI, CniError } from './errors.ts'

export type Json = Readonly<Record<string, unknown>>

const wrong = (path: string, should: string) => new CniError(CNI.badConfig, `invalid "${path}": it should be ${should}`)

/** The fields of one object of the configuration. Absent fields (and null) are undefined; other types throw code 7. */
export class Fields {
  readonly json: Json
  readonly #path: string

  constructor(json: Json, path = '') {
    this.json = json
    this.#path = path
  }

  static of(value: unknown, path: string): Fields {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(path, 'an object')
    return new Fields(value as Json, path)
  }

  path(key: string): string {
    return this.#path === '' ? key : `${this.#path}.${key}`
  }

  /** As it is; undefined when it is absent or null. The key's case counts only when several are alike, as for every plugin that is written in Go. */
  value(key: string): unknown {
    if (key in this.json) return this.json[key] ?? undefined
    const folded = key.toLowerCase()
    const alike = Object.keys(this.json).findLast((name) => name.toLowerCase() === folded)
    return alike === undefined ? undefined : (this.json[alike] ?? undefined)
  }

  text(key: string): string | undefined {
    const value = this.value(key)
    if (value === undefined || typeof value === 'string') return value
    throw wrong(this.path(key), 'a string')
  }

  flag(key: string): boolean | undefined {
    const value = this.value(key)
    if (value === undefined || typeof value === 'boolean') return value
    throw wrong(this.path(key), 'true or false')
  }

  number(key: string): number | undefined {
    const value = this.value(key)
    if (value === undefined || (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0)) return value
    throw wrong(this.path(key), 'a whole number')
  }

  object(key: string): Fields | undefined {
    const value = this.value(key)
    return value === undefined ? undefined : Fields.of(value, this.path(key))
  }

  list(key: string): readonly unknown[] | undefined {
    const value = this.value(key)
    if (value === undefined || Array.isArray(value)) return value
    throw wrong(this.path(key), 'a list')
  }

  objects(key: string): Fields[] | undefined {
    return this.list(key)?.map((value, i) => Fields.of(value, `${this.path(key)}[${i}]`))
  }

  texts(key: string): string[] | undefined {
    return this.list(key)?.map((value, i) => {
      if (typeof value !== 'string') throw wrong(`${this.path(key)}[${i}]`, 'a string')
      return value
    })
  }
}

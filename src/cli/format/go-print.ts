/** Values as Go's fmt and encoding/json write them, so that templates give the text people know from Docker. */

/** A nil that Go knows the type of: prints `map[]`, `[]` or `<nil>`, is `null` in JSON. */
export class GoNil {
  readonly kind: 'map' | 'slice' | 'pointer'
  constructor(kind: GoNil['kind']) {
    this.kind = kind
  }
  toJSON(): null {
    return null
  }
}

const GO_MAP = Symbol('map')

/** Marks an object as a map of Go's, where a missing key is no error. Not enumerable: JSON does not see it. */
export function asGoMap<T extends object>(table: T): T {
  return Object.defineProperty(table, GO_MAP, { value: true })
}

export function isGoMap(value: object): boolean {
  return GO_MAP in value
}

/** Objects that are structs in Docker's API: printed as `{a b}` in this order, not as `map[...]`. Recognised by their keys. */
const STRUCTS: readonly { readonly marks: readonly string[]; readonly order: readonly string[]; readonly maps: readonly string[] }[] = [
  { marks: ['HostIp', 'HostPort'], order: ['HostIp', 'HostPort'], maps: [] },
  { marks: ['Subnet'], order: ['Subnet', 'IPRange', 'Gateway', 'AuxiliaryAddresses'], maps: ['AuxiliaryAddresses'] },
  {
    marks: ['EndpointID', 'IPv4Address'],
    order: ['Name', 'EndpointID', 'MacAddress', 'IPv4Address', 'IPv6Address'],
    maps: [],
  },
  {
    marks: ['Destination', 'RW'],
    order: ['Type', 'Name', 'Source', 'Destination', 'Driver', 'Mode', 'RW', 'Propagation'],
    maps: [],
  },
]

/** As `%v`. */
export function goPrint(value: unknown): string {
  if (value === null || value === undefined) return '<nil>'
  if (typeof value === 'number') return goNumber(value)
  if (value instanceof GoNil) return value.kind === 'map' ? 'map[]' : value.kind === 'slice' ? '[]' : '<nil>'
  if (Array.isArray(value)) return `[${value.map(goPrint).join(' ')}]`
  if (typeof value === 'object') {
    const table = value as Record<string, unknown>
    const struct = isGoMap(table) ? undefined : STRUCTS.find((s) => s.marks.every((key) => key in table))
    if (struct !== undefined)
      return `{${struct.order.map((key) => (key in table ? goPrint(table[key]) : struct.maps.includes(key) ? 'map[]' : '')).join(' ')}}`
    const keys = Object.keys(table).filter((key) => typeof table[key] !== 'function')
    return `map[${keys
      .sort()
      .map((key) => `${key}:${goPrint(table[key])}`)
      .join(' ')}]`
  }
  return String(value)
}

function goNumber(value: number): string {
  if (Number.isInteger(value) && Math.abs(value) < 1e21) return BigInt(value).toString()
  return String(value).replace(/e([+-])(\d)$/, 'e$10$2')
}

/** Compact JSON with keys as they come and `<`, `>`, `&` escaped, as Go's encoder does. */
export function goJson(value: unknown): string {
  const text = JSON.stringify(value ?? null) ?? 'null'
  return text.replace(/[<>&\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** `printf` with %s %d %v %q %t %x %X %f %g %e %c %U %% and width, precision, `-`, `0`, `+`. */
export function goSprintf(format: string, args: readonly unknown[]): string {
  let next = 0
  const text = format.replace(
    /%([-+#0 ]*)(\d+|\*)?(?:\.(\d+))?([a-zA-Z%])/g,
    (whole, flags: string, width: string | undefined, precision: string | undefined, verb: string) => {
      if (verb === '%') return '%'
      const wide = width === '*' ? Number(args[next++]) : width === undefined ? 0 : Number(width)
      if (next >= args.length) return `%!${verb}(MISSING)`
      const out = formatOne(args[next++], verb, flags, precision === undefined ? undefined : Number(precision))
      if (out === undefined) return whole
      if (flags.includes('-')) return out.padEnd(wide)
      return flags.includes('0') && verb !== 's'
        ? out.replace(/^[+-]?/, (sign) => sign + '0'.repeat(Math.max(0, wide - out.length)))
        : out.padStart(wide)
    },
  )
  const extra = args.slice(next)
  return extra.length === 0
    ? text
    : `${text}%!(EXTRA ${extra.map((v) => `${typeof v === 'string' ? 'string' : 'int'}=${goPrint(v)}`).join(', ')})`
}

function formatOne(value: unknown, verb: string, flags: string, precision: number | undefined): string | undefined {
  const number = Number(value)
  const sign = flags.includes('+') && number >= 0 ? '+' : ''
  switch (verb) {
    case 's':
    case 'v':
      return precision === undefined ? goPrint(value) : goPrint(value).slice(0, precision)
    case 'd':
      return typeof value === 'number' || typeof value === 'bigint'
        ? sign + (typeof value === 'bigint' ? String(value) : goNumber(value))
        : `%!d(${typeof value === 'string' ? 'string' : 'bool'}=${goPrint(value)})`
    case 't':
      return String(value)
    case 'q':
      return JSON.stringify(goPrint(value))
    case 'x':
    case 'X': {
      const hex = typeof value === 'number' ? value.toString(16) : Buffer.from(goPrint(value)).toString('hex')
      return verb === 'x' ? hex : hex.toUpperCase()
    }
    case 'f':
      return sign + number.toFixed(precision ?? 6)
    case 'e':
      return sign + number.toExponential(precision ?? 6).replace(/e([+-])(\d)$/, 'e$10$2')
    case 'g':
      return sign + goNumber(precision === undefined ? number : Number(number.toPrecision(Math.max(1, precision))))
    case 'c':
      return String.fromCodePoint(number)
    case 'U':
      return `U+${number.toString(16).toUpperCase().padStart(4, '0')}`
    default:
      return undefined
  }
}

/** `--cluster-store`, `--cluster-store-opt` and `--cluster-advertise` as a person writes them -> checked values. Pure; files are read elsewhere. */
import { tryParseIp } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import { MAX_LEASE_SECONDS, MIN_LEASE_SECONDS } from './types.ts'

export interface StoreMember {
  readonly host: string
  readonly port: number
}

export interface StoreConfig {
  readonly kind: 'etcd' | 'consul'
  /** As written. */
  readonly url: string
  readonly members: readonly StoreMember[]
  /** Folder of everything that is ours, without slashes around it: `<path>/causeway`, or `causeway`. */
  readonly root: string
  /** Paths of PEM files; present = the store is spoken to over TLS. */
  readonly tls?: { readonly caFile?: string; readonly certFile?: string; readonly keyFile?: string }
  readonly user?: { readonly name: string; readonly password?: string; readonly passwordFile?: string }
  /** Consul's ACL token. */
  readonly token?: { readonly value?: string; readonly file?: string }
  /** Milliseconds for which a change waits while the store does not answer, before it is refused. */
  readonly patienceMs: number
  /** Seconds after which a host that is not heard of is down: Docker's discovery.ttl, or three times its discovery.heartbeat, when given. */
  readonly ttlSeconds?: number
}

const DEFAULT_PORT = { etcd: 2379, consul: 8500 } as const
const OPTIONS = [
  'kv.cacertfile',
  'kv.certfile',
  'kv.keyfile',
  'kv.tls',
  'kv.path',
  'kv.username',
  'kv.password',
  'kv.passwordfile',
  'kv.token',
  'kv.tokenfile',
  'kv.patience',
  'discovery.heartbeat',
  'discovery.ttl',
]
const DEFAULT_PATIENCE_MS = 6000
/** Heartbeats that may fail before a host is down. */
const TTL_FACTOR = 3

const invalid = (message: string) => new NetError('invalid', message)

/** `['kv.path=a', …]` -> `{ 'kv.path': 'a' }`. Throws `invalid` for what is no pair, is unknown or is given twice. */
export function parseStoreOptions(pairs: readonly string[]): Record<string, string> {
  const found: Record<string, string> = {}
  for (const pair of pairs) {
    const at = pair.indexOf('=')
    if (at <= 0) throw invalid(`invalid --cluster-store-opt "${pair}": expected key=value`)
    const key = pair.slice(0, at)
    if (!OPTIONS.includes(key)) throw invalid(`invalid --cluster-store-opt "${key}": expected one of ${OPTIONS.join(', ')}`)
    if (found[key] !== undefined) throw invalid(`invalid --cluster-store-opt "${key}": it is given twice`)
    found[key] = pair.slice(at + 1)
  }
  return found
}

/** Throws `invalid` with what is wrong and what would be right. */
export function parseStoreUrl(url: string, options: Readonly<Record<string, string>> = {}): StoreConfig {
  const bad = (why: string) => invalid(`invalid --cluster-store "${url}": ${why}`)
  const split = /^([a-z0-9+.-]*):\/\/([^/]*)(\/.*)?$/i.exec(url)
  if (split === null) throw bad('expected etcd://host:port[,host:port][/path] or consul://host:port[/path]')
  const [, scheme, authority, path = ''] = split as unknown as [string, string, string, string?]
  if (scheme !== 'etcd' && scheme !== 'consul') throw bad(`"${scheme}" is not a store that Causeway knows, expected etcd:// or consul://`)
  if (authority.includes('@')) throw bad('a user does not belong into the URL, which others see; use --cluster-store-opt kv.username=…')
  for (const key of Object.keys(options))
    if (!OPTIONS.includes(key)) throw invalid(`invalid --cluster-store-opt "${key}": expected one of ${OPTIONS.join(', ')}`)
  const members = authority.split(',').map((text) => parseMember(text, DEFAULT_PORT[scheme], bad))
  const twice = members.find((m, i) => members.findIndex((other) => other.host === m.host && other.port === m.port) < i)
  if (twice !== undefined) throw bad(`${memberText(twice)} is named twice`)

  const fromUrl = parsePath(path, bad)
  const fromOption = parsePath(options['kv.path'] ?? '', (why) => invalid(`invalid --cluster-store-opt kv.path: ${why}`))
  if (fromUrl !== '' && fromOption !== '' && fromUrl !== fromOption)
    throw invalid(`--cluster-store says path "${fromUrl}" and kv.path says "${fromOption}": expected one of them, or the same`)
  const folder = fromUrl || fromOption
  return {
    kind: scheme,
    url,
    members,
    root: folder === '' ? 'causeway' : `${folder}/causeway`,
    patienceMs: (seconds(options, 'kv.patience', 0, 3600) ?? DEFAULT_PATIENCE_MS / 1000) * 1000,
    ...given('tls', parseTls(options)),
    ...given('user', parseUser(scheme, options)),
    ...given('token', parseToken(scheme, options)),
    ...given('ttlSeconds', parseTtl(options)),
  }
}

export function memberText(member: StoreMember): string {
  return member.host.includes(':') ? `[${member.host}]:${member.port}` : `${member.host}:${member.port}`
}

/**
 * `<ip|interface>:<port>` -> the address others reach this host by. `addressesOf` gives an interface's addresses in the kernel's order,
 * undefined when there is no such interface; the first IPv4 one is taken, else the first IPv6 one that is not link-local.
 */
export function parseAdvertise(text: string, addressesOf: (ifname: string) => readonly string[] | undefined): StoreMember {
  const bad = (why: string) => invalid(`invalid --cluster-advertise "${text}": ${why}`)
  const split = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(text)
  if (split === null) throw bad('expected <ip>:<port> or <interface>:<port>')
  const host = (split[1] ?? split[2]) as string
  const port = Number(split[3])
  if (port < 1 || port > 65535) throw bad(`port ${split[3]} is not between 1 and 65535`)
  const ip = tryParseIp(host)
  if (ip !== undefined) {
    if (!canBeReached(ip)) throw bad(`${ip} is not an address at which other hosts reach this one`)
    return { host: ip, port }
  }
  const addresses = addressesOf(host)
  if (addresses === undefined) throw bad(`there is no interface "${host}", and it is not an address`)
  const usable = addresses.filter(canBeReached)
  const chosen = usable.find((a) => !a.includes(':')) ?? usable[0]
  if (chosen === undefined) throw bad(`couldn't find a valid ip-address in interface ${host}`)
  return { host: chosen, port }
}

/** Not of this host alone, nor everybody's, nor one that needs the name of an interface beside it. */
function canBeReached(ip: string): boolean {
  return !/^(0\.|127\.|22[4-9]\.|23\d\.|25[0-5]\.|::1?$|fe[89ab]|ff)/i.test(ip)
}

function parseMember(text: string, defaultPort: number, bad: (why: string) => NetError): StoreMember {
  const split = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::([^:]*))?$/.exec(text.trim())
  if (split === null) throw bad(text.trim() === '' ? 'a host is missing, expected host:port' : `"${text}" is not host:port`)
  const [, bracketed, plain, portText] = split
  const host = (bracketed ?? plain) as string
  if (bracketed !== undefined && tryParseIp(bracketed) === undefined) throw bad(`"[${bracketed}]" is not an IPv6 address`)
  if (bracketed === undefined && !/^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$/i.test(host)) throw bad(`"${host}" is not a host name or an address`)
  if (bracketed === undefined && /^[\d.]+$/.test(host) && tryParseIp(host) === undefined) throw bad(`"${host}" is not an address`)
  const port = portText === undefined ? defaultPort : Number(portText)
  if (portText !== undefined && (!/^\d{1,5}$/.test(portText) || port < 1 || port > 65535))
    throw bad(`port "${portText}" is not between 1 and 65535`)
  return { host, port }
}

/** Segments of letters that both stores take in a key and in a URL without escaping. */
function parsePath(text: string, bad: (why: string) => NetError): string {
  const segments = text.split('/').filter((segment) => segment !== '')
  for (const segment of segments) {
    if (!/^[A-Za-z0-9._~@+=-]+$/.test(segment) || segment === '.' || segment === '..')
      throw bad(`"${segment}" cannot be part of a path, expected letters, digits and . _ ~ @ + = -`)
  }
  if (segments.join('/').length > 200) throw bad('the path is longer than 200 letters')
  return segments.join('/')
}

function parseTls(options: Readonly<Record<string, string>>): StoreConfig['tls'] {
  const [caFile, certFile, keyFile] = ['kv.cacertfile', 'kv.certfile', 'kv.keyfile'].map((key) => options[key] || undefined)
  const wanted = options['kv.tls']
  if (wanted !== undefined && wanted !== 'true' && wanted !== 'false')
    throw invalid(`invalid --cluster-store-opt kv.tls "${wanted}": expected true or false`)
  if ((certFile === undefined) !== (keyFile === undefined))
    throw invalid(`--cluster-store-opt ${certFile === undefined ? 'kv.keyfile needs kv.certfile' : 'kv.certfile needs kv.keyfile'}`)
  const files = { ...given('caFile', caFile), ...given('certFile', certFile), ...given('keyFile', keyFile) }
  if (wanted === 'false' && Object.keys(files).length > 0)
    throw invalid('--cluster-store-opt kv.tls=false contradicts the certificate files: leave one of them out')
  return wanted === 'true' || Object.keys(files).length > 0 ? files : undefined
}

function parseUser(kind: string, options: Readonly<Record<string, string>>): StoreConfig['user'] {
  const { 'kv.username': name, 'kv.password': password, 'kv.passwordfile': passwordFile } = options
  if (name === undefined && password === undefined && passwordFile === undefined) return undefined
  if (kind === 'consul') throw invalid('Consul has no users: expected --cluster-store-opt kv.token=… or kv.tokenfile=…')
  if (!name) throw invalid('--cluster-store-opt kv.password needs kv.username')
  if (password !== undefined && passwordFile !== undefined)
    throw invalid('--cluster-store-opt kv.password and kv.passwordfile: expected one of them')
  if (password === undefined && passwordFile === undefined)
    throw invalid('--cluster-store-opt kv.username needs kv.password or kv.passwordfile')
  return { name, ...given('password', password), ...given('passwordFile', passwordFile) }
}

function parseToken(kind: string, options: Readonly<Record<string, string>>): StoreConfig['token'] {
  const { 'kv.token': value, 'kv.tokenfile': file } = options
  if (value === undefined && file === undefined) return undefined
  if (kind === 'etcd') throw invalid('etcd has no tokens of its own: expected --cluster-store-opt kv.username=… and kv.password=…')
  if (value !== undefined && file !== undefined) throw invalid('--cluster-store-opt kv.token and kv.tokenfile: expected one of them')
  return { ...given('value', value), ...given('file', file) }
}

/** As in Docker (daemon/discovery/discovery.go discoveryOpts), within what stores take for a lease. */
function parseTtl(options: Readonly<Record<string, string>>): number | undefined {
  const heartbeat = seconds(options, 'discovery.heartbeat', 1, MAX_LEASE_SECONDS / TTL_FACTOR)
  const ttl = seconds(options, 'discovery.ttl', MIN_LEASE_SECONDS, MAX_LEASE_SECONDS)
  if (ttl !== undefined && heartbeat !== undefined && ttl <= heartbeat)
    throw invalid('discovery.ttl timer must be greater than discovery.heartbeat')
  return ttl ?? (heartbeat === undefined ? undefined : Math.max(heartbeat * TTL_FACTOR, MIN_LEASE_SECONDS))
}

function seconds(options: Readonly<Record<string, string>>, key: string, least: number, most: number): number | undefined {
  const text = options[key]
  if (text === undefined) return undefined
  const value = Number(/^(\d+)s?$/.exec(text)?.[1] ?? Number.NaN)
  if (!(value >= least && value <= most))
    throw invalid(`invalid --cluster-store-opt ${key} "${text}": expected whole seconds from ${least} to ${most}`)
  return value
}

/** `{ key: value }`, or nothing when there is no value. */
function given<K extends string, V>(key: K, value: V | undefined): { readonly [P in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]: V })
}

/**
 * Values of the shared store, from text to what they say. Anybody who can write to the store can write anything: every field is checked,
 * what is not as it should be is refused as a whole, and the key must agree with the value. Nothing here throws.
 */
import { type Cidr, cidrContains, familyOf, type Ip, type Mac, tryParseCidr, tryParseIp, tryParseMac } from '../base/address.ts'
import { messageOf } from '../base/errors.ts'
import type { IpamPool, Network } from '../model/network.ts'
import type { ClusterEndpoint, ClusterHost, ClusterNetwork, ClusterSubnet, KernelEntry } from './model.ts'
import type { PathReport } from './paths/paths.ts'

export type Decoded<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly why: string }

/** `networks/<id>`. `removing`: somebody is taking it away; whoever needs it may say otherwise by writing it without. */
export interface StoredNetwork {
  readonly value: ClusterNetwork
  readonly removing: boolean
}

/** `hosts/<id>`, without the state that its lease decides. */
export type StoredHost = Omit<ClusterHost, 'state'> & { readonly evicted: boolean }

/** `networks/guard` */
export interface Guard {
  readonly cluster: string
  /** Creations and removals so far: a store that shows fewer than before has lost some. */
  readonly count: number
}

/** `owned/<host>/<network>/<endpoint>`: everything that has to be freed. */
export interface OwnedEndpoint {
  readonly networkId: string
  readonly endpointId: string
  readonly name: string
  readonly addresses: readonly Ip[]
}

/** `states/<network>/<host>` */
export interface PublishedState {
  readonly nonce: string
  readonly hash: string
  readonly entries: number
  /** What the host's kernel holds, left out when it is too long for one value. */
  readonly lines: readonly string[] | undefined
}

type Fields = Readonly<Record<string, unknown>>

class Wrong extends Error {}

const MAX_ITEMS = 4096
const ID = /^[0-9a-f]{8,64}$/
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
const CONTROL = /[\u0000-\u001f\u007f]/

const isId = (text: string): boolean => ID.test(text)

function decode<T>(text: string, read: (fields: Fields) => T): Decoded<T> {
  try {
    return { ok: true, value: read(fieldsOf(JSON.parse(text) as unknown, 'the value')) }
  } catch (error) {
    if (error instanceof Wrong || error instanceof SyntaxError) return { ok: false, why: messageOf(error) }
    throw error
  }
}

function fieldsOf(value: unknown, what: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Wrong(`${what} is not an object`)
  return value as Fields
}

function text(fields: Fields, name: string, max = 255): string {
  const value = fields[name]
  if (typeof value !== 'string' || value.length > max || CONTROL.test(value))
    throw new Wrong(`"${name}" is not a plain text of at most ${max}`)
  return value
}

function id(fields: Fields, name: string): string {
  const value = text(fields, name)
  if (!isId(value)) throw new Wrong(`"${name}" is not an id`)
  return value
}

function bool(fields: Fields, name: string): boolean {
  const value = fields[name]
  if (typeof value !== 'boolean') throw new Wrong(`"${name}" is not true or false`)
  return value
}

function int(fields: Fields, name: string, least: number, most: number): number {
  const value = fields[name]
  if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > most)
    throw new Wrong(`"${name}" is not a number from ${least} to ${most}`)
  return value as number
}

function items(fields: Fields, name: string, most = MAX_ITEMS): readonly unknown[] {
  const value = fields[name]
  if (!Array.isArray(value) || value.length > most) throw new Wrong(`"${name}" is not a list of at most ${most}`)
  return value
}

function texts(fields: Fields, name: string, most: number, max = 255): string[] {
  return items(fields, name, most).map((value) => text({ [name]: value }, name, max))
}

function table(fields: Fields, name: string): Record<string, string> {
  const entries = Object.entries(fieldsOf(fields[name], `"${name}"`))
  if (entries.length > MAX_ITEMS) throw new Wrong(`"${name}" has more than ${MAX_ITEMS} entries`)
  for (const [key, value] of entries)
    if (typeof value !== 'string' || key === '__proto__') throw new Wrong(`"${name}" is not a table of texts`)
  return Object.fromEntries(entries) as Record<string, string>
}

function ip(fields: Fields, name: string): Ip {
  const value = text(fields, name)
  if (tryParseIp(value) !== value) throw new Wrong(`"${name}" is not an IP address`)
  return value as Ip
}

function cidr(fields: Fields, name: string): Cidr {
  const value = text(fields, name)
  if (tryParseCidr(value) !== value) throw new Wrong(`"${name}" is not a subnet`)
  return value as Cidr
}

function unicastMac(fields: Fields, name: string): Mac {
  const value = text(fields, name)
  if (tryParseMac(value) !== value || (Number.parseInt(value.slice(0, 2), 16) & 1) === 1 || value === '00:00:00:00:00:00')
    throw new Wrong(`"${name}" is not the MAC address of one station`)
  return value as Mac
}

function optional<T>(fields: Fields, name: string, read: (fields: Fields, name: string) => T): T | undefined {
  return fields[name] === undefined || fields[name] === null ? undefined : read(fields, name)
}

/** `id` and `networkId` come from the key. */
export function decodeEndpoint(value: string, networkId: string, endpointId: string): Decoded<ClusterEndpoint> {
  return decode(value, (f) => {
    if (id(f, 'id') !== endpointId || id(f, 'networkId') !== networkId) throw new Wrong('the value belongs to another key')
    const family = (name: string, wanted: 4 | 6): Ip | '' => {
      if (f[name] === '') return ''
      const address = ip(f, name)
      if (familyOf(address) !== wanted) throw new Wrong(`"${name}" is not an IPv${wanted} address`)
      return address
    }
    const endpoint: ClusterEndpoint = {
      id: endpointId,
      networkId,
      containerId: text(f, 'containerId'),
      name: text(f, 'name'),
      dnsNames: texts(f, 'dnsNames', 64, 253),
      ipv4: family('ipv4', 4),
      ipv6: family('ipv6', 6),
      mac: unicastMac(f, 'mac'),
      hostId: id(f, 'hostId'),
      hostAddress: ip(f, 'hostAddress'),
      active: bool(f, 'active'),
    }
    if (endpoint.ipv4 === '' && endpoint.ipv6 === '') throw new Wrong('the endpoint has no address')
    return endpoint
  })
}

/** Why an endpoint cannot be one of this network, undefined when it can. */
export function misplaced(endpoint: ClusterEndpoint, network: ClusterNetwork): string | undefined {
  for (const address of [endpoint.ipv4, endpoint.ipv6]) {
    if (address === '') continue
    if (!network.subnets.some(({ subnet }) => cidrContains(subnet, address))) return `${address} is in none of the network's subnets`
    if (network.subnets.some(({ gateway }) => gateway === address)) return `${address} is the network's gateway`
  }
  return undefined
}

export function decodeHost(value: string, hostId: string): Decoded<StoredHost> {
  return decode(value, (f) => {
    if (id(f, 'id') !== hostId) throw new Wrong('the value belongs to another key')
    return {
      id: hostId,
      name: text(f, 'name'),
      address: ip(f, 'address'),
      port: int(f, 'port', 1, 65535),
      version: text(f, 'version'),
      started: int(f, 'started', 0, Number.MAX_SAFE_INTEGER),
      instance: text(f, 'instance'),
      mtu: optional(f, 'mtu', (fields, name) => int(fields, name, 0, 65535)) ?? 0,
      routes: items(f, 'routes', 1024).map((route) => cidr({ route }, 'route')),
      evicted: optional(f, 'evicted', bool) ?? false,
    }
  })
}

export function decodeGuard(value: string): Decoded<Guard> {
  return decode(value, (f) => ({ cluster: text(f, 'cluster'), count: int(f, 'count', 0, Number.MAX_SAFE_INTEGER) }))
}

export function decodeOwned(value: string, networkId: string, endpointId: string): Decoded<OwnedEndpoint> {
  return decode(value, (f) => ({
    networkId,
    endpointId,
    name: text(f, 'name'),
    addresses: items(f, 'addresses', 2).map((address) => ip({ address }, 'address')),
  }))
}

export function decodeState(value: string): Decoded<PublishedState> {
  return decode(value, (f) => ({
    nonce: text(f, 'nonce'),
    hash: text(f, 'hash'),
    entries: int(f, 'entries', 0, Number.MAX_SAFE_INTEGER),
    lines: optional(f, 'lines', (fields, name) => texts(fields, name, 100_000)),
  }))
}

/** `paths/<host>` */
export interface PublishedPaths extends PathReport {
  readonly nonce: string
}

export function decodePaths(value: string): Decoded<PublishedPaths> {
  return decode(value, (f) => ({
    nonce: text(f, 'nonce'),
    sent: sizes(f, 'sent'),
    heard: sizes(f, 'heard'),
    need: int(f, 'need', 0, 65535),
  }))
}

function sizes(fields: Fields, name: string): Record<string, number> {
  const table = fieldsOf(fields[name], `"${name}"`)
  const ids = Object.keys(table)
  if (ids.length > MAX_ITEMS || !ids.every(isId)) throw new Wrong(`"${name}" is not a table by host`)
  return Object.fromEntries(ids.map((hostId) => [hostId, int(table, hostId, 0, 65535)]))
}

export function decodeNonce(value: string): Decoded<string> {
  return decode(value, (f) => text(f, 'nonce'))
}

export function decodeNetwork(value: string, networkId: string): Decoded<StoredNetwork> {
  return decode(value, (f) => {
    if (id(f, 'id') !== networkId) throw new Wrong('the value belongs to another key')
    const name = text(f, 'name')
    if (name === '') throw new Wrong('"name" is empty')
    const subnets = items(f, 'subnets').map((entry) => subnetOf(fieldsOf(entry, 'a subnet')))
    if (subnets.length === 0) throw new Wrong('the network has no subnet')
    const network = optional(f, 'network', (fields, key) => networkOf(fieldsOf(fields[key], '"network"'), networkId, name, subnets))
    const whole: ClusterNetwork = {
      id: networkId,
      name,
      internal: bool(f, 'internal'),
      subnets,
      options: table(f, 'options'),
      createdBy: id(f, 'createdBy'),
      ...(network === undefined ? {} : { network }),
    }
    return { value: whole, removing: optional(f, 'removing', bool) ?? false }
  })
}

function subnetOf(f: Fields): ClusterSubnet {
  const subnet = cidr(f, 'subnet')
  const gateway = optional(f, 'gateway', ip)
  if (gateway !== undefined && !cidrContains(subnet, gateway)) throw new Wrong(`gateway ${gateway} is not in ${subnet}`)
  return { subnet, ...(gateway === undefined ? {} : { gateway }), vni: int(f, 'vni', 1, 2 ** 24 - 1) }
}

/** The engine's record: only what an overlay network of the cluster may be. */
function networkOf(f: Fields, networkId: string, name: string, subnets: readonly ClusterSubnet[]): Network {
  if (f['id'] !== networkId || f['name'] !== name) throw new Wrong('"network" is another one')
  if (f['driver'] !== 'overlay' || f['scope'] !== 'global') throw new Wrong('"network" is not an overlay network')
  const pools = items(f, 'pools').map((entry) => poolOf(fieldsOf(entry, 'a pool')))
  if (
    pools.length !== subnets.length ||
    pools.some((pool, i) => pool.subnet !== subnets[i]?.subnet || pool.gateway !== subnets[i]?.gateway)
  )
    throw new Wrong("the pools are not the network's subnets")
  const data = optional(f, 'data', (fields, key) => fieldsOf(fields[key], `"${key}"`))
  return {
    id: networkId,
    name,
    created: text(f, 'created'),
    driver: 'overlay',
    scope: 'global',
    enableIpv4: bool(f, 'enableIpv4'),
    enableIpv6: bool(f, 'enableIpv6'),
    internal: bool(f, 'internal'),
    attachable: bool(f, 'attachable'),
    ingress: false,
    configOnly: false,
    configFrom: text(f, 'configFrom'),
    ipamDriver: 'default',
    ipamOptions: optional(f, 'ipamOptions', table) ?? null,
    pools,
    options: table(f, 'options'),
    labels: table(f, 'labels'),
    predefined: false,
    ...(data === undefined ? {} : { data }),
  }
}

function poolOf(f: Fields): IpamPool {
  const subnet = cidr(f, 'subnet')
  const gateway = optional(f, 'gateway', ip)
  const ipRange = optional(f, 'ipRange', cidr)
  const aux = table(f, 'aux')
  return {
    subnet,
    ...(gateway === undefined ? {} : { gateway }),
    ...(ipRange === undefined ? {} : { ipRange }),
    aux: Object.fromEntries(Object.keys(aux).map((key) => [key, ip(aux, key)])),
  }
}

/** One line for each path, sorted: equal states are equal texts. */
export function kernelLines(entries: readonly KernelEntry[]): string[] {
  return [...new Set(entries.map((e) => `${e.ip} ${e.mac} ${e.host}`))].toSorted()
}

/** A plugin's configuration from standard input, checked. Source: CNI specification 1.1 section 1, CONVENTIONS.md, plugins `bridge` and `host-local`. */
import {
  type Cidr,
  familyOf,
  type Ip,
  type Mac,
  parseCidr,
  tryParseCidr,
  tryParseIp,
  tryParseMac,
  trySplitPrefix,
} from '../../base/address.ts'
import { defaultBurst, type Rate } from '../../drivers/endpoint-options.ts'
import type { PortRequest, Proto } from '../../model/endpoint.ts'
import { CNI, CniError } from './errors.ts'
import { Fields } from './fields.ts'
import type { Range } from './ranges.ts'
import { type CniDns, type CniResult, type CniRoute, decodeResult } from './result.ts'
import { type CniVersion, supportedVersion } from './versions.ts'

export interface CniConf {
  readonly version: CniVersion
  readonly name: string
  /** A network of the engine to join, whoever made it; absent: the one that belongs to this configuration. */
  readonly network?: string
  readonly bridge?: string
  readonly mtu?: number
  readonly isGateway: boolean
  readonly ipMasq: boolean
  /** Containers reach each other; false = isolated ports. */
  readonly icc: boolean
  readonly sourceGuard: boolean
  readonly internal: boolean
  readonly ranges: readonly Range[]
  /** Undefined: said nothing, so a container gets the default route when it has none. */
  readonly isDefaultGateway?: boolean
  readonly routes: readonly CniRoute[]
  readonly hasRoutes: boolean
  readonly dns: CniDns
  /** The container's names are looked up at a resolver of the engine, in its namespace. */
  readonly resolver: boolean
  /** Addresses asked for by hand. */
  readonly ips: readonly Ip[]
  readonly mac?: Mac
  readonly aliases: readonly string[]
  readonly ports: readonly PortRequest[]
  /** Towards the container, and from it. */
  readonly ingress?: Rate
  readonly egress?: Rate
  readonly prevResult?: CniResult
  /** GC's list of what is in use. libcni leaves it out when nothing is. */
  readonly validAttachments: readonly { readonly containerId: string; readonly ifname: string }[]
}

const bad = (message: string) => new CniError(CNI.badConfig, message)

/** The JSON object that came on standard input. Throws code 6. */
export function parseJson(text: string): Fields {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    throw new CniError(CNI.decode, 'error unmarshall network config', (cause as Error).message, cause)
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new CniError(CNI.decode, 'error unmarshall network config', 'it is no JSON object')
  return new Fields(json as Record<string, unknown>)
}

/** Version and name, which every command but VERSION needs. Throws codes 1 and 7. */
export function parseHead(fields: Fields): { version: CniVersion; name: string } {
  const version = supportedVersion(fields.text('cniVersion'))
  const name = fields.text('name') ?? ''
  if (name === '') throw bad('missing network name')
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name)) throw bad(`invalid characters found in network name: ${name}`)
  return { version, name }
}

/** Fields of the bridge plugin that change what a network is and that are not offered: better an error than another network. */
const NOT_OFFERED: Readonly<Record<string, string>> = {
  vlan: 'give each VLAN a network of its own, for example a Causeway network with a parent interface',
  vlanTrunk: 'give each VLAN a network of its own',
  disableContainerInterface: 'the container would have no interface',
}

/** The whole configuration. `args` is CNI_ARGS. Throws code 1, 2 or 7. */
export function parseConf(fields: Fields, args: Readonly<Record<string, string>>): CniConf {
  const { version, name } = parseHead(fields)
  for (const [key, instead] of Object.entries(NOT_OFFERED))
    if (![undefined, 0, false].includes(fields.value(key) as undefined))
      throw new CniError(CNI.unsupportedField, `unsupported field "${key}"`, instead)
  const runtime = fields.object('runtimeConfig') ?? new Fields({}, 'runtimeConfig')
  const ipam = fields.object('ipam') ?? new Fields({}, 'ipam')
  const asked = askedByHand(fields, runtime, ipam, args)
  const routes = (ipam.objects('routes') ?? []).map(parseRoute)
  const bandwidth = runtime.object('bandwidth') ?? fields.object('bandwidth')
  const prevResult = fields.object('prevResult')
  const isDefaultGateway = fields.flag('isDefaultGateway')
  return {
    version,
    name,
    ...optional('network', fields.text('network')),
    ...optional('bridge', fields.text('bridge')),
    ...optional('mtu', fields.number('mtu') || undefined),
    isGateway: (fields.flag('isGateway') ?? true) || isDefaultGateway === true,
    ipMasq: fields.flag('ipMasq') ?? true,
    icc: !(fields.flag('portIsolation') ?? false),
    sourceGuard: fields.flag('macspoofchk') ?? true,
    internal: fields.flag('internal') ?? false,
    ranges: parseRanges(ipam, runtime, asked.prefixes),
    ...optional('isDefaultGateway', isDefaultGateway),
    routes,
    hasRoutes: ipam.list('routes') !== undefined,
    dns: {
      ...(fields.object('dns')?.json as CniDns | undefined),
      ...(runtime.object('dns') ? runtimeDns(runtime.object('dns') as Fields) : {}),
    },
    // who sends aliases wants them to be found
    resolver: fields.flag('resolver') ?? runtime.value('aliases') !== undefined,
    ips: asked.ips,
    ...optional('mac', askedMac(fields, runtime, args)),
    aliases: parseAliases(runtime, name),
    ports: (runtime.objects('portMappings') ?? []).map(parsePort),
    ...optional('ingress', bandwidth && parseRate(bandwidth, 'ingress')),
    ...optional('egress', bandwidth && parseRate(bandwidth, 'egress')),
    ...optional('prevResult', prevResult && decodeResult(prevResult, version)),
    validAttachments: parseValid(fields),
  }
}

function optional<K extends string, T>(key: K, value: T | undefined): { [P in K]?: T } {
  return (value === undefined ? {} : { [key]: value }) as { [P in K]?: T }
}

/** Kinds of IPAM that mean "choose from these ranges" and "take these". Others would have to be run as programs. */
function parseRanges(ipam: Fields, runtime: Fields, prefixes: readonly Cidr[]): Range[] {
  const type = ipam.text('type') ?? 'causeway'
  if (type === 'static') return dedupe(prefixes.map((subnet) => ({ subnet })))
  if (type !== 'causeway' && type !== 'host-local')
    throw new CniError(
      CNI.unsupportedField,
      `unsupported field "ipam.type": ${type}`,
      'Causeway chooses addresses itself: give "host-local" (or nothing) with "subnet" or "ranges", or "static" with "addresses"',
    )
  const sets = [...(runtime.list('ipRanges') ?? []), ...(ipam.list('ranges') ?? [])]
  const given = sets.flatMap((set, i) => {
    if (!Array.isArray(set)) throw bad(`invalid "ranges[${i}]": it should be a list of ranges`)
    return set.map((range: unknown, j) => parseRange(Fields.of(range, `ranges[${i}][${j}]`)))
  })
  return dedupe([...(ipam.text('subnet') === undefined ? [] : [parseRange(ipam)]), ...given])
}

/** One subnet of each family; several ranges of it are fine. */
function dedupe(ranges: Range[]): Range[] {
  for (const family of [4, 6] as const) {
    const subnets = new Set(ranges.filter((range) => familyOf(range.subnet) === family).map((range) => range.subnet))
    if (subnets.size > 1)
      throw bad(`a network has one IPv${family} subnet, these are several: ${[...subnets].join(', ')}; make a network for each`)
  }
  return ranges
}

function parseRange(fields: Fields): Range {
  const text = fields.text('subnet') ?? ''
  const subnet = tryParseCidr(text)
  if (subnet === undefined) throw bad(`invalid "${fields.path('subnet')}": "${text}" is no subnet like 10.1.0.0/16`)
  const ip = (key: string): Ip | undefined => {
    const given = fields.text(key)
    if (given === undefined || given === '') return undefined
    const parsed = tryParseIp(given)
    if (parsed === undefined || familyOf(parsed) !== familyOf(subnet))
      throw bad(`invalid "${fields.path(key)}": "${given}" is no address of ${subnet}`)
    return parsed
  }
  return { subnet, ...optional('start', ip('rangeStart')), ...optional('end', ip('rangeEnd')), ...optional('gateway', ip('gateway')) }
}

function parseRoute(fields: Fields): CniRoute {
  const dst = fields.text('dst') ?? ''
  if (trySplitPrefix(dst) === undefined) throw bad(`invalid "${fields.path('dst')}": "${dst}" is no subnet like 10.1.0.0/16`)
  const gw = fields.text('gw')
  if (gw !== undefined && tryParseIp(gw) === undefined) throw bad(`invalid "${fields.path('gw')}": "${gw}" is no IP address`)
  return { dst, ...optional('gw', gw) }
}

/** Addresses by the capability, by `args.cni.ips`, by CNI_ARGS (`IP=`) or by the IPAM `static`. The first that is said counts. */
function askedByHand(
  fields: Fields,
  runtime: Fields,
  ipam: Fields,
  args: Readonly<Record<string, string>>,
): { ips: Ip[]; prefixes: Cidr[] } {
  const statics = ipam.text('type') === 'static' ? (ipam.objects('addresses') ?? []).map((f) => f.text('address') ?? '') : []
  const said = [
    runtime.texts('ips'),
    fields.object('args')?.object('cni')?.texts('ips'),
    args['IP'] === undefined ? undefined : args['IP'].split(','),
    statics,
  ].find((list) => list !== undefined && list.length > 0)
  const ips = (said ?? []).map((text) => {
    const ip = trySplitPrefix(text)?.ip ?? tryParseIp(text)
    if (ip === undefined) throw bad(`invalid address "${text}": it should be like 10.1.2.3 or 10.1.2.3/24`)
    return ip
  })
  const prefixes = statics.map((text) => {
    const prefix = trySplitPrefix(text)
    if (prefix === undefined) throw bad(`invalid "ipam.addresses": "${text}" should be like 10.1.2.3/24`)
    return parseCidr(text)
  })
  return { ips, prefixes }
}

function askedMac(fields: Fields, runtime: Fields, args: Readonly<Record<string, string>>): Mac | undefined {
  const text = runtime.text('mac') || fields.object('args')?.object('cni')?.text('mac') || args['MAC'] || undefined
  if (text === undefined) return undefined
  const mac = tryParseMac(text)
  if (mac === undefined) throw bad(`invalid MAC address "${text}"`)
  return mac
}

/** A list of names, or (as Podman sends it) a list for each network. */
function parseAliases(runtime: Fields, network: string): readonly string[] {
  const value = runtime.value('aliases')
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return runtime.object('aliases')?.texts(network) ?? []
  return runtime.texts('aliases') ?? []
}

const PROTOCOLS: readonly string[] = ['tcp', 'udp', 'sctp']

function parsePort(fields: Fields): PortRequest {
  const proto = (fields.text('protocol') || 'tcp').toLowerCase()
  if (!PROTOCOLS.includes(proto)) throw bad(`invalid "${fields.path('protocol')}": "${proto}" should be tcp, udp or sctp`)
  const port = (key: string): number => {
    const value = fields.number(key) ?? 0
    if (value < 1 || value > 65535) throw bad(`invalid "${fields.path(key)}": ${value} should be from 1 to 65535`)
    return value
  }
  const hostIp = fields.text('hostIP') ?? ''
  if (hostIp !== '' && tryParseIp(hostIp) === undefined) throw bad(`invalid "${fields.path('hostIP')}": "${hostIp}" is no IP address`)
  const hostPort = port('hostPort')
  return { proto: proto as Proto, containerPort: port('containerPort'), hostIp, hostPort, hostPortEnd: hostPort }
}

/** The reference plugin refuses a rate without a burst; here a burst of 4 ms, at least 64 KiB, stands in. */
function parseRate(fields: Fields, direction: 'ingress' | 'egress'): Rate | undefined {
  const rate = fields.number(`${direction}Rate`) ?? 0
  if (rate === 0) return undefined
  return { rate, burst: fields.number(`${direction}Burst`) || defaultBurst(rate) }
}

/** The capability spells two keys otherwise than the configuration does. */
function runtimeDns(fields: Fields): CniDns {
  return {
    ...optional('nameservers', fields.texts('servers') ?? fields.texts('nameservers')),
    ...optional('domain', fields.text('domain')),
    ...optional('search', fields.texts('searches') ?? fields.texts('search')),
    ...optional('options', fields.texts('options')),
  }
}

function parseValid(fields: Fields): CniConf['validAttachments'] {
  const key = ['cni.dev/valid-attachments', 'cni.dev/attachments'].find((name) => name in fields.json)
  return (key === undefined ? [] : (fields.objects(key) ?? [])).map((f) => ({
    containerId: f.text('containerID') ?? '',
    ifname: f.text('ifname') ?? '',
  }))
}

/** `--network` in its short and long spelling, and what it becomes in the request. */
import { tryParseMac } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import { splitCsv } from './csv.ts'

export interface NetworkAttachment {
  readonly name: string
  readonly aliases: readonly string[]
  readonly driverOpts: Readonly<Record<string, string>>
  readonly links: readonly string[]
  readonly ip?: string
  readonly ip6?: string
  readonly linkLocalIps: readonly string[]
  readonly macAddress?: string
  readonly gwPriority?: number
}

const bad = (message: string): NetError => new NetError('invalid', message)

/** `mynet`, or `name=mynet,alias=web,ip=10.0.0.5,...`. Keys and driver options are taken in lower case, as Docker does. */
export function parseNetworkOption(text: string): NetworkAttachment {
  const empty = { aliases: [], driverOpts: {}, links: [], linkLocalIps: [] }
  if (!/\w+=\w+/.test(text)) return { name: text, ...empty }
  let found: { -readonly [K in keyof NetworkAttachment]: NetworkAttachment[K] } = { name: '', ...empty }
  for (const field of splitCsv(text)) {
    const eq = field.indexOf('=')
    if (eq <= 0) throw bad(`invalid field ${field}`)
    const key = field.slice(0, eq).trim().toLowerCase()
    const item = field.slice(eq + 1).trim()
    switch (key) {
      case 'name':
        found.name = item
        break
      case 'alias':
        found = { ...found, aliases: [...found.aliases, item] }
        break
      case 'ip':
        found.ip = item
        break
      case 'ip6':
        found.ip6 = item
        break
      case 'mac-address':
        found.macAddress = item
        break
      case 'link-local-ip':
        found = { ...found, linkLocalIps: [...found.linkLocalIps, item] }
        break
      case 'driver-opt': {
        const [option, setting] = driverOption(item)
        found = { ...found, driverOpts: { ...found.driverOpts, [option]: setting } }
        break
      }
      case 'gw-priority':
        if (!/^[+-]?\d+$/.test(item)) throw bad(`invalid gw-priority (${item}): invalid syntax`)
        found.gwPriority = Number(item)
        break
      default:
        throw bad(`invalid field key ${key}`)
    }
  }
  if (found.name === '') throw bad('network name/id is not specified')
  return found
}

function driverOption(item: string): readonly [string, string] {
  const eq = item.indexOf('=')
  if (eq < 0) throw bad('invalid key value pair format in driver options')
  return [
    item.slice(0, eq).trim().toLowerCase(),
    item
      .slice(eq + 1)
      .trim()
      .toLowerCase(),
  ]
}

/** Every mode that is not one of Docker's own words names a network. */
export function isUserDefined(mode: string): boolean {
  return mode !== '' && !['default', 'bridge', 'host', 'none'].includes(mode) && !mode.startsWith('container:')
}

/** Single-network options of `run`, which belong to the first network. */
export interface EndpointFlags {
  readonly ip?: string | undefined
  readonly ip6?: string | undefined
  readonly aliases: readonly string[]
  readonly links: readonly string[]
  readonly linkLocalIps: readonly string[]
  readonly macAddress?: string | undefined
}

/** Body of `EndpointsConfig` and the `NetworkMode`. Throws NetError `invalid` with the texts of Docker's client. */
export function buildEndpoints(
  networks: readonly NetworkAttachment[],
  flags: EndpointFlags,
): { mode: string; endpoints: Record<string, Record<string, unknown>> } {
  const given = networks.length > 0 ? networks : [parseNetworkOption('default')]
  const endpoints: Record<string, Record<string, unknown>> = {}
  given.forEach((network, i) => {
    const attachment = i === 0 ? withFlags(network, flags) : network
    const settings = endpointSettings(attachment)
    if (attachment.name in endpoints) throw bad(`network "${attachment.name}" is specified multiple times`)
    // A single bare `--network` is said by NetworkMode alone: older engines refuse settings for host and container modes.
    if (networks.length === 1 && Object.keys(settings).length === 0) return
    endpoints[attachment.name] = settings
  })
  const kinds = new Set(given.map((network) => isUserDefined(network.name)))
  if (kinds.size > 1) throw bad('conflicting options: cannot attach both user-defined and non-user-defined network-modes')
  return { mode: given[0]?.name ?? 'default', endpoints }
}

function withFlags(network: NetworkAttachment, flags: EndpointFlags): NetworkAttachment {
  const conflict = (flag: string, what: string) => bad(`conflicting options: cannot specify both --${flag} and per-network ${what}`)
  if (flags.aliases.length > 0 && network.aliases.length > 0) throw conflict('network-alias', 'alias')
  if (flags.links.length > 0 && isUserDefined(network.name) && network.links.length > 0) throw conflict('link', 'links')
  if (flags.ip !== undefined && network.ip !== undefined) throw conflict('ip', 'IPv4 address')
  if (flags.ip6 !== undefined && network.ip6 !== undefined) throw conflict('ip6', 'IPv6 address')
  if (flags.macAddress !== undefined && network.macAddress !== undefined) throw conflict('mac-address', 'MAC address')
  if (flags.linkLocalIps.length > 0 && network.linkLocalIps.length > 0) throw conflict('link-local-ip', 'link-local IP addresses')
  return {
    ...network,
    aliases: [...network.aliases, ...flags.aliases],
    links: isUserDefined(network.name) ? [...network.links, ...flags.links] : network.links,
    linkLocalIps: [...network.linkLocalIps, ...flags.linkLocalIps],
    ...(flags.ip === undefined ? {} : { ip: flags.ip }),
    ...(flags.ip6 === undefined ? {} : { ip6: flags.ip6 }),
    ...(flags.macAddress === undefined ? {} : { macAddress: flags.macAddress }),
  }
}

function endpointSettings(network: NetworkAttachment): Record<string, unknown> {
  if (network.name.trim() === '') throw bad('no name set for network')
  if (!isUserDefined(network.name)) {
    if (network.aliases.length > 0) throw bad('network-scoped aliases are only supported for user-defined networks')
    if (network.links.length > 0) throw bad('links are only supported for user-defined networks')
  }
  if (network.macAddress !== undefined && tryParseMac(network.macAddress) === undefined)
    throw bad(`${network.macAddress} is not a valid mac address`)
  const ipam = {
    ...(network.ip === undefined ? {} : { IPv4Address: network.ip }),
    ...(network.ip6 === undefined ? {} : { IPv6Address: network.ip6 }),
    ...(network.linkLocalIps.length === 0 ? {} : { LinkLocalIPs: network.linkLocalIps }),
  }
  return {
    ...(Object.keys(ipam).length === 0 ? {} : { IPAMConfig: ipam }),
    ...(network.links.length === 0 ? {} : { Links: network.links }),
    ...(network.aliases.length === 0 ? {} : { Aliases: network.aliases }),
    ...(Object.keys(network.driverOpts).length === 0 ? {} : { DriverOpts: network.driverOpts }),
    ...(network.macAddress === undefined ? {} : { MacAddress: network.macAddress }),
    ...(network.gwPriority === undefined || network.gwPriority === 0 ? {} : { GwPriority: network.gwPriority }),
  }
}

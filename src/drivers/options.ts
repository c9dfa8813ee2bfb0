/** Driver options as Docker spells them (`com.docker.network.…`) and their parsers with Docker's error texts. */
import type { Ip } from '../base/address.ts'
import { familyOf, tryParseIp } from '../base/address.ts'
import { NetError } from '../base/errors.ts'

const DOCKER = 'com.docker.network.'

/** Names of the options that several drivers know; those of one driver stand beside it. */
export const OPTION = {
  bridgeName: `${DOCKER}bridge.name`,
  enableIcc: `${DOCKER}bridge.enable_icc`,
  enableMasquerade: `${DOCKER}bridge.enable_ip_masquerade`,
  hostBindingIpv4: `${DOCKER}bridge.host_binding_ipv4`,
  hostBindingIpv6: `${DOCKER}bridge.host_binding_ipv6`,
  inhibitIpv4: `${DOCKER}bridge.inhibit_ipv4`,
  gatewayModeIpv4: `${DOCKER}bridge.gateway_mode_ipv4`,
  gatewayModeIpv6: `${DOCKER}bridge.gateway_mode_ipv6`,
  trustedHostInterfaces: `${DOCKER}bridge.trusted_host_interfaces`,
  defaultBridge: `${DOCKER}bridge.default_bridge`,
  mtu: `${DOCKER}driver.mtu`,
  ifacePrefix: `${DOCKER}container_iface_prefix`,
  hostIpv4: `${DOCKER}host_ipv4`,
  hostIpv6: `${DOCKER}host_ipv6`,
  advertiseCount: `${DOCKER}advertise_addr_nmsgs`,
  advertiseIntervalMs: `${DOCKER}advertise_addr_ms`,
  enableIpv4: `${DOCKER}enable_ipv4`,
  enableIpv6: `${DOCKER}enable_ipv6`,
  internal: `${DOCKER}internal`,
  endpointIfname: `${DOCKER}endpoint.ifname`,
  endpointSysctls: `${DOCKER}endpoint.sysctls`,
  /** Ours: `true` says that another engine's IPAM chose the endpoint's address, not a person. */
  addressGiven: 'causeway.address_given',
  /** Ours: `false` lets containers of the network send from any address (routers, VPN gateways, nested bridges). */
  sourceGuard: 'causeway.source_guard',
  /** Ours, of an endpoint: which default routes may lead over it (`true`, `false`, `ipv4`, `ipv6`); it can be the gateway for published ports all the same. */
  defaultRoute: 'causeway.default_route',
  /** Ours, of an endpoint: routes over its interface besides the default one, `10.9.0.0/16 via 10.1.0.9, 10.8.0.0/16` (over the network's gateway). */
  endpointRoutes: 'causeway.routes',
  /** Ours, of an endpoint: most bits per second towards the container and from it, with the bits that may go at once: `8000000/800000`. */
  rateIn: 'causeway.rate_in',
  rateOut: 'causeway.rate_out',
  /** Ours: the host has an interface of its own on a macvlan network's parent. */
  macvlanHost: 'causeway.macvlan.host',
} as const

export type Options = Readonly<Record<string, string>>

/** Refuses a network that has neither address family. Throws Docker's text. */
export function needFamily(draft: { readonly enableIpv4: boolean; readonly enableIpv6: boolean }): void {
  if (!draft.enableIpv4 && !draft.enableIpv6) throw new NetError('invalid', 'IPv4 or IPv6 must be enabled')
}

/** Go's strconv.ParseBool accepts exactly these. */
const TRUE = new Set(['1', 't', 'T', 'TRUE', 'true', 'True'])
const FALSE = new Set(['0', 'f', 'F', 'FALSE', 'false', 'False'])

/** A flag as Go's strconv.ParseBool reads it. Throws Docker's text. */
export function boolOption(options: Options, label: string, fallback: boolean): boolean {
  const value = options[label]
  if (value === undefined) return fallback
  if (TRUE.has(value)) return true
  if (FALSE.has(value)) return false
  throw new NetError('invalid', `failed to parse ${label} value: ${value} (strconv.ParseBool: parsing "${value}": invalid syntax)`)
}

/** A whole number. Throws Docker's text. */
export function intOption(options: Options, label: string, fallback: number): number {
  const value = options[label]
  if (value === undefined) return fallback
  if (!/^[+-]?\d+$/.test(value))
    throw new NetError('invalid', `failed to parse ${label} value: ${value} (strconv.Atoi: parsing "${value}": invalid syntax)`)
  return Number(value)
}

/** Bytes, 0 = the kernel's or the parent's. */
export function mtuOption(options: Options): number {
  const mtu = intOption(options, OPTION.mtu, 0)
  if (mtu < 0 || (mtu > 0 && mtu < 68) || mtu > 65535) throw new NetError('invalid', `invalid MTU number: ${mtu}`)
  return mtu
}

/** An address, of one family when that is said; undefined when the option is absent or empty. Throws Docker's text. */
export function ipOption(options: Options, label: string, family?: 4 | 6): Ip | undefined {
  const value = options[label]
  if (value === undefined || value === '') return undefined
  const ip = tryParseIp(value)
  if (ip === undefined || (family !== undefined && familyOf(ip) !== family))
    throw new NetError('invalid', `failed to parse ${label} value: ${value} (nil ip)`)
  return ip
}

/** How often and how far apart an endpoint's addresses are announced by ARP and ND. Docker answers 500 to bad values. */
export function advertiseOptions(options: Options): { count: number; intervalMs: number } {
  const read = (label: string, fallback: number, low: number, high: number, unit: string) => {
    const value = options[label]
    if (value === undefined) return fallback
    if (!/^[+-]?\d+$/.test(value)) throw new NetError('internal', `value for option ${label} "${value}" must be an integer${unit}`)
    const n = Number(value)
    if (n < low || n > high) throw new NetError('internal', `${label} must be in the range ${low} to ${high}`)
    return n
  }
  return {
    count: read(OPTION.advertiseCount, 3, 0, 3, ''),
    intervalMs: read(OPTION.advertiseIntervalMs, 1000, 100, 2000, ' milliseconds'),
  }
}

/** `net.ipv4.conf.IFNAME.log_martians=1,…` of an endpoint. Throws Docker's text for a key that names no interface. */
export function endpointSysctls(text: string | undefined, ifname: string): { path: string; value: string }[] {
  if (text === undefined || text === '') return []
  return text.split(',').map((entry) => {
    const eq = entry.indexOf('=')
    const key = eq < 0 ? entry : entry.slice(0, eq)
    const parts = key.split('.')
    const family = parts[1] ?? ''
    if (
      eq < 0 ||
      parts.length !== 5 ||
      parts[0] !== 'net' ||
      !['ipv4', 'ipv6', 'mpls'].includes(family) ||
      parts[3]?.toUpperCase() !== 'IFNAME'
    )
      throw new NetError(
        'invalid',
        `unrecognised network interface sysctl '${entry}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'`,
      )
    return { path: `net/${family}/${parts[2]}/${ifname}/${parts[4]}`, value: entry.slice(eq + 1) }
  })
}

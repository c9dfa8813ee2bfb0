/** What may be asked of an attachment (pure): Docker's checks and texts, all problems of one request in one error. */
import { cidrContains, familyOf, type Ip, tryParseIp, tryParseMac } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import { rateOption, routesOption } from '../drivers/endpoint-options.ts'
import { endpointSysctls, OPTION } from '../drivers/options.ts'
import type { EndpointSettings } from '../model/endpoint.ts'
import type { Network } from '../model/network.ts'

/** Names on which --ip and aliases do not work. */
const PREDEFINED: ReadonlySet<string> = new Set(['bridge', 'host', 'none', 'default', ''])

/** A configuration network is a template and has no data plane. Throws `denied`. */
export function refuseConfigOnly(network: Network | undefined): void {
  if (network?.configOnly)
    throw new NetError('denied', `network ${network.name} is a configuration network and cannot be used by containers`)
}

/** Throws `invalid` with every problem of these settings on a network that may be unknown yet. */
export function checkEndpointSettings(networkName: string, network: Network | undefined, settings: EndpointSettings): void {
  const problems: string[] = []
  const predefined = network?.predefined ?? PREDEFINED.has(networkName)
  const ips = [settings.ipv4, settings.ipv6].filter((ip): ip is string => ip !== undefined && ip !== '')
  if (predefined) {
    if (ips.length > 0) problems.push('user-specified IP address is supported on user-defined networks only')
    if ((settings.aliases?.length ?? 0) > 0) problems.push('network-scoped aliases are only supported for user-defined networks')
  }
  const ipv4 = settings.ipv4 ? tryParseIp(settings.ipv4) : undefined
  const ipv6 = settings.ipv6 ? tryParseIp(settings.ipv6) : undefined
  if (settings.ipv4 && (ipv4 === undefined || familyOf(ipv4) !== 4)) problems.push(`invalid IPv4 address: ${settings.ipv4}`)
  if (settings.ipv6 && (ipv6 === undefined || familyOf(ipv6) !== 6 || ipv6.startsWith('::ffff:')))
    problems.push(`invalid IPv6 address: ${settings.ipv6}`)
  for (const text of settings.linkLocalIps ?? [])
    if (tryParseIp(text) === undefined) problems.push(`invalid link-local IP address: ${text}`)
  if (settings.mac && tryParseMac(settings.mac) === undefined) problems.push(`invalid MAC address: ${settings.mac}`)
  const options = settings.driverOpts ?? {}
  for (const read of [
    () => endpointSysctls(options[OPTION.endpointSysctls], 'IFNAME'),
    () => routesOption(options),
    () => [OPTION.rateIn, OPTION.rateOut].map((label) => rateOption(options, label as typeof OPTION.rateIn)),
  ])
    try {
      read()
    } catch (error) {
      problems.push((error as Error).message)
    }
  const ifname = settings.driverOpts?.[OPTION.endpointIfname]
  if (
    ifname !== undefined &&
    (ifname.length === 0 || ifname.length > 15 || /[\s/:%]/.test(ifname) || ifname === '.' || ifname === '..' || ifname === 'lo')
  )
    problems.push(`invalid interface name: ${ifname}`)
  if (network !== undefined && !predefined && problems.length === 0)
    for (const ip of [ipv4, ipv6])
      if (ip !== undefined && !network.pools.some((pool) => cidrContains(pool.subnet, ip)))
        problems.push(`no configured subnet contains IP address ${ip}`)
  if (problems.length === 0) return
  const head = `invalid config for network ${networkName || 'bridge'}: invalid endpoint settings:\n`
  throw new NetError('invalid', head + problems.map((p) => (problems.length > 1 ? `* ${p}` : p)).join('\n'))
}

/** Link-local addresses are only judged at start, as Docker does. */
export function parseLinkLocal(settings: EndpointSettings): Ip[] {
  return (settings.linkLocalIps ?? []).map((text) => {
    const ip = tryParseIp(text)
    const ok = ip !== undefined && (ip.startsWith('169.254.') || /^fe[89ab]/.test(ip))
    if (!ok) throw new NetError('invalid', `invalid link local IP address: ${text}`)
    return ip
  })
}

/** DNS names of an endpoint in order, the first one is used for PTR: container name, aliases, short id, hostname. */
export function dnsNamesOf(containerName: string, aliases: readonly string[], containerId: string, hostname: string): string[] {
  const names = [containerName, ...aliases, containerId.slice(0, 12), hostname].filter((name) => name !== '')
  return [...new Set(names)]
}

/** What a network over a card of the host does not say itself: the LAN's subnet, its router, and the addresses that are the host's own. */
import { cidrContains, cidrOf, type Ip, parseCidr, splitPrefix, tryParseCidr, tryParseIp } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import type { Rtnl } from '../../kernel/types.ts'
import type { IpamPoolRequest, NetworkSpec } from '../../model/network.ts'

/** The card's name, or '' for every network that is none over a card. */
export function cardOf(spec: Pick<NetworkSpec, 'driver' | 'options' | 'configOnly'>): string {
  const driver = spec.driver === '' || spec.driver === 'default' ? 'bridge' : spec.driver
  return driver === 'bridge' && spec.configOnly !== true ? (spec.options?.['parent'] ?? '') : ''
}

/**
 * The request with the LAN's subnet and router filled in from the card, and the host's addresses set aside. Other requests come back as they
 * are. Throws `invalid` when the engine would have to guess which addresses of the LAN are free.
 */
export function completeFromCard(spec: NetworkSpec, rtnl: Rtnl): NetworkSpec {
  const card = cardOf(spec)
  const ipamDriver = spec.ipam?.driver || 'default'
  if (card === '' || ipamDriver !== 'default') return spec
  if (rtnl.link(card) === undefined) throw new NetError('not-found', `parent interface ${card} does not exist`, { subject: card })
  const asked = spec.ipam?.config ?? []
  if (spec.enableIpv6 && !asked.some((c) => c.subnet?.includes(':')))
    throw new NetError(
      'invalid',
      `with parent=${card} and IPv6, say the LAN's IPv6 subnet with --subnet and the free part of it with --ip-range`,
    )
  const only6 = spec.enableIpv4 === false
  const configs = only6 || asked.some((c) => c.subnet && !c.subnet.includes(':')) ? asked : withLearnedSubnet(asked, card, rtnl)
  for (const config of configs)
    if (!config.ipRange && (spec.enableIpv6 || !config.subnet?.includes(':')))
      throw new NetError(
        'invalid',
        `containers on the LAN of ${card} need --ip-range, the part of ${config.subnet ?? 'its subnet'} that nobody else uses there (or --ipam-driver dhcp)`,
      )
  return { ...spec, ipam: { ...spec.ipam, config: configs.map((config) => withNeighbours(config, card, rtnl)) } }
}

/** The first address of the card says which subnet the LAN has. */
function withLearnedSubnet(asked: readonly IpamPoolRequest[], card: string, rtnl: Rtnl): IpamPoolRequest[] {
  const address = rtnl.addresses({ dev: card, family: 4 }).find((a) => a.scope === 'global' || a.scope === undefined)
  if (address === undefined)
    throw new NetError('invalid', `${card} has no IPv4 address that would tell the LAN's subnet: give it with --subnet`)
  const { ip, length } = splitPrefix(address.address)
  const first = asked.find((c) => !c.subnet) ?? {}
  return [{ ...first, subnet: cidrOf(ip, length) }, ...asked.filter((c) => c !== first)]
}

/** The LAN's router as the gateway, unless one is given, and the host's own addresses kept from containers. */
function withNeighbours(config: IpamPoolRequest, card: string, rtnl: Rtnl): IpamPoolRequest {
  const subnet = tryParseCidr(config.subnet ?? '')
  if (subnet === undefined) return config // the engine says what is wrong with it
  const family = subnet.includes(':') ? 6 : 4
  const inside = (ip: Ip | undefined): ip is Ip => ip !== undefined && cidrContains(parseCidr(subnet), ip)
  const gateway =
    tryParseIp(config.gateway ?? '') ??
    rtnl.routes({ family, dev: card }).find((route) => route.dst === 'default' && inside(route.gateway))?.gateway
  const taken = new Set<string>([...(gateway === undefined ? [] : [gateway]), ...Object.values(config.aux ?? {})])
  const own = rtnl
    .addresses({ dev: card, family })
    .map((a) => splitPrefix(a.address).ip)
    .filter((ip) => inside(ip) && !taken.has(ip))
  const aux = { ...Object.fromEntries([...new Set(own)].map((ip, i) => [i === 0 ? 'host' : `host${i + 1}`, ip])), ...config.aux }
  return { ...config, ...(config.gateway || gateway === undefined ? {} : { gateway }), aux }
}

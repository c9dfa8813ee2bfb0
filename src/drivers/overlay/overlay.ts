/**
 * The overlay driver: a network over several hosts. Everything of it lives in a namespace of its own on each host that has an endpoint
 * (`1-<first ten of its id>`), made and kept by `cluster/overlay`; the outside is reached through docker_gwbridge.
 */
import { cidrContains, cidrRange, familyOf, type Ip, ipFromBigInt, ipPrefixOf, splitPrefix } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import type { Address, Route } from '../../model/kernel-state.ts'
import type { Network } from '../../model/network.ts'
import type { FirewallNetwork } from '../../plan/firewall/elements.ts'
import { needFamily } from '../options.ts'
import type { Driver, EndpointFacts, EndpointWanted, NetworkDraft, NetworkWanted } from '../types.ts'
import { insideMtu, parseOverlayConfig, segmentCount, segmentsOf } from './config.ts'
import { hostLinkName } from './routed.ts'
import { bridgeName, overlayMac, portAlias, segmentIndexOf } from './wanted.ts'

/** What `cluster/overlay` says of an endpoint's place on this host, in the endpoint's data. */
export interface OverlayPlace {
  /** File of the network's namespace. */
  readonly place: string
  /** Name of the outer interface there: veth0, veth1, ... */
  readonly link: string
  readonly mtu: number
}

function placeOf(endpoint: EndpointFacts): OverlayPlace {
  const { place, link, mtu } = endpoint.data
  return {
    place: typeof place === 'string' ? place : '',
    link: typeof link === 'string' && link !== '' ? link : endpoint.hostIfname,
    mtu: typeof mtu === 'number' ? mtu : 0,
  }
}

function addressOn(dev: string, network: Network, ip: Ip): Address | undefined {
  const subnet = network.pools.map((pool) => pool.subnet).find((s) => familyOf(s) === familyOf(ip) && cidrContains(s, ip))
  if (subnet === undefined) return undefined
  const { length } = splitPrefix(subnet)
  const broadcast = familyOf(ip) === 4 && length < 31 ? { broadcast: ipFromBigInt(4, cidrRange(subnet).last) } : {}
  return { dev, address: ipPrefixOf(ip, length), noDad: familyOf(ip) === 6, scope: 'global', ...broadcast }
}

/** Other subnets of the network are reached through the gateway of the own one, which routes in the network's namespace. */
function routesToOtherSubnets(network: Network, dev: string, segment: number): Route[] {
  const segments = segmentsOf(network.pools, [])
  const own = segments[segment]?.subnets ?? []
  return segments.flatMap((other, i) =>
    i === segment
      ? []
      : other.subnets.flatMap(({ subnet }): Route[] => {
          const family = familyOf(subnet)
          const gateway = own.find((s) => familyOf(s.subnet) === family && s.gateway !== '')?.gateway
          return gateway === undefined || gateway === '' ? [] : [{ family, dst: subnet, gateway, dev }]
        }),
  )
}

/** `docker network create -d overlay`. */
export const overlayDriver: Driver = {
  name: 'overlay',
  scope: 'global',
  singleton: false,
  withoutIpam: false,
  userDefined: true,

  validate(draft: NetworkDraft): void {
    const config = parseOverlayConfig(draft.options)
    needFamily(draft)
    if (config.mode === 'host-gw' && draft.enableIpv6)
      throw new NetError('invalid', 'overlay mode "host-gw" is for IPv4 only: leave --ipv6 out, or use mode=vxlan')
    if (config.mode === 'host-gw' && draft.internal)
      throw new NetError('invalid', 'overlay mode "host-gw" cannot be internal: its packets are routed by the hosts, use mode=vxlan')
    const subnets = draft.subnets.flatMap(({ subnet }) => (subnet === undefined ? [] : [{ subnet }]))
    const needed = segmentCount(subnets)
    if (config.vnis.length > 0 && config.vnis.length < needed)
      throw new NetError('invalid', `insufficient vnis(${config.vnis.length}) passed to overlay`)
  },

  skipGateway: () => ({ ipv4: false, ipv6: false }),

  networkWanted(network): NetworkWanted {
    if (parseOverlayConfig(network.options).mode !== 'host-gw') return { links: [] }
    const firewall: FirewallNetwork = {
      id: network.id,
      bridge: hostLinkName(network.id),
      mode4: 'routed',
      mode6: 'routed',
      internal: false,
      icc: true,
      masquerade: false,
      trusted: [],
      isRoutedBetweenHosts: true,
    }
    return { links: [], firewall }
  },

  endpointWanted(network, endpoint: EndpointFacts): EndpointWanted {
    const { place, link, mtu: given } = placeOf(endpoint)
    const mtu = given || insideMtu(parseOverlayConfig(network.options), 0, '')
    const segment = segmentIndexOf(segmentsOf(network.pools, []), endpoint.ipv4, endpoint.ipv6)
    const { ifname } = endpoint
    const addresses = [endpoint.ipv4, endpoint.ipv6].flatMap((ip) => (ip === '' ? [] : (addressOn(ifname, network, ip) ?? [])))
    for (const ip of endpoint.linkLocalIps)
      addresses.push({ dev: ifname, address: ipPrefixOf(ip, familyOf(ip) === 6 ? 64 : 16), scope: 'link', noDad: familyOf(ip) === 6 })
    return {
      plug: {
        kind: 'pair',
        place,
        link: {
          spec: {
            name: link,
            kind: 'veth',
            peer: { name: ifname, netnsFd: endpoint.netnsFd, mtu, ...(endpoint.mac === '' ? {} : { mac: endpoint.mac }) },
            master: bridgeName(segment),
            up: true,
            alias: portAlias(endpoint.id),
            mtu,
            addrGenMode: 'none',
          },
          addresses: [],
          sysctls: [],
        },
      },
      inside: {
        ifname,
        addresses,
        sysctls: [
          { path: `net/ipv6/conf/${ifname}/disable_ipv6`, value: endpoint.ipv6 === '' ? '1' : '0', optional: endpoint.ipv6 === '' },
          ...endpoint.sysctls,
        ],
        routes: routesToOtherSubnets(network, ifname, segment),
      },
    }
  },

  gatewayOf: () => ({ ipv4: '', ipv6: '' }),

  usesGatewayBridge: (network) => !network.internal,

  macFor: (ipv4) => (ipv4 === '' ? '' : overlayMac(ipv4)),
}

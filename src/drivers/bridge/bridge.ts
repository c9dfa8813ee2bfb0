/**
 * The bridge driver: one Linux bridge per network, one veth pair per endpoint whose container end is born in the sandbox.
 * Isolation, NAT and published ports are elements of the firewall's sets; `icc=false` is bridge-port isolation.
 */
import { cidrOverlaps, type Ip, type Mac, splitPrefix } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import type { Address } from '../../model/kernel-state.ts'
import type { Network } from '../../model/network.ts'
import type { WantedLink, WantedSysctl } from '../../plan/wanted.ts'
import { addressOn, insideOf } from '../inside.ts'
import { needFamily } from '../options.ts'
import { type Driver, type EndpointFacts, type EndpointWanted, type NetworkDraft, type NetworkWanted, poolOf } from '../types.ts'
import { type BridgeConfig, parseBridgeConfig } from './config.ts'

/** Alias of everything we create: who owns it, what it is, which object. */
export const ALIAS_PREFIX = 'causeway:'

function gatewayOf(network: Network): { ipv4: Ip | ''; ipv6: Ip | '' } {
  if (network.internal) return { ipv4: '', ipv6: '' }
  return { ipv4: poolOf(network, 4)?.gateway ?? '', ipv6: poolOf(network, 6)?.gateway ?? '' }
}

/** The same bridge keeps its MAC over restarts: made from the network's id, unicast and locally administered. */
export function bridgeMac(networkId: string): Mac {
  const first = (Number.parseInt(networkId.slice(0, 2), 16) & 0xfc) | 0x02
  const rest = networkId.slice(2, 12).match(/../g) as string[]
  return [first.toString(16).padStart(2, '0'), ...rest].join(':') as Mac
}

function bridgeSysctls(config: BridgeConfig, network: Network): WantedSysctl[] {
  const dev = config.bridge
  const out: WantedSysctl[] = []
  const isolated6 = network.internal && config.mode6 === 'isolated'
  const has6 = network.enableIpv6 && !isolated6
  if (has6) out.push({ path: `net/ipv6/conf/${dev}/accept_ra`, value: '0', optional: true })
  // while duplicate address detection runs (up to 2 s) the host asks for no neighbour and IPv6 into the network waits
  // (net/ipv6/ndisc.c ndisc_solicit); the bridge's link-local address is made from a MAC that nobody else has
  if (has6) out.push({ path: `net/ipv6/conf/${dev}/accept_dad`, value: '0', optional: true })
  out.push({ path: `net/ipv6/conf/${dev}/disable_ipv6`, value: has6 ? '0' : '1', optional: true })
  if (network.enableIpv4) {
    // 127.0.0.1:PORT of the host is answered by DNAT, so replies to 127/8 must be let through; the firewall drops such packets from the wire
    out.push({ path: `net/ipv4/conf/${dev}/route_localnet`, value: network.internal ? '0' : '1' })
    if (!config.icc) {
      // ports of the bridge are isolated: the host answers ARP for neighbours and routes what the firewall lets through (RFC 3069)
      out.push({ path: `net/ipv4/conf/${dev}/proxy_arp_pvlan`, value: '1' })
      out.push({ path: `net/ipv4/conf/${dev}/send_redirects`, value: '0' })
    }
  }
  return out
}

/** Part of a network that is there without us: behind a card of the host, or with a DHCP server. */
function isLan(network: Network): boolean {
  return parseBridgeConfig(network).parent !== '' || network.ipamDriver === 'dhcp'
}

/** The host's addresses on it are the host's own matter, and its traffic is none of the firewall's: it was not before. */
function lanWanted(network: Network, config: BridgeConfig): NetworkWanted {
  const { bridge, mode4, mode6, icc, trusted } = config
  return {
    links: [{ spec: { name: bridge, kind: 'bridge', up: true }, addresses: [], sysctls: [], adopted: true }],
    firewall: { id: network.id, bridge, mode4, mode6, icc, trusted, internal: network.internal, masquerade: false, isLan: true },
  }
}

/** `docker network create`, which is `-d bridge` unless something else is said. */
export const bridgeDriver: Driver = {
  name: 'bridge',
  scope: 'local',
  singleton: false,
  withoutIpam: false,
  userDefined: true,

  validate(draft: NetworkDraft): void {
    parseBridgeConfig(draft)
    needFamily(draft)
    for (const family of [4, 6] as const) {
      const of = draft.subnets.filter((s) => s.subnet !== undefined && s.subnet.includes(':') === (family === 6))
      if (of.length > 1 && (family === 4 || draft.enableIpv6))
        throw new NetError('denied', `bridge driver doesn't support multiple subnets`)
    }
  },

  skipGateway(draft) {
    const config = parseBridgeConfig(draft)
    if (config.parent !== '') return { ipv4: true, ipv6: true } // the LAN has its own router
    return {
      ipv4: draft.internal && (config.mode4 === 'isolated' || config.inhibitIpv4),
      ipv6: draft.internal && config.mode6 === 'isolated',
    }
  },

  networkWanted(network): NetworkWanted {
    const config = parseBridgeConfig(network)
    if (isLan(network)) return lanWanted(network, config)
    const addresses: Address[] = []
    const pool4 = poolOf(network, 4)
    const pool6 = poolOf(network, 6)
    if (pool4?.gateway !== undefined && !config.inhibitIpv4 && !(network.internal && config.mode4 === 'isolated'))
      addresses.push(addressOn(config.bridge, pool4.subnet, pool4.gateway))
    if (pool6?.gateway !== undefined && !(network.internal && config.mode6 === 'isolated'))
      addresses.push(addressOn(config.bridge, pool6.subnet, pool6.gateway))
    const link: WantedLink = {
      spec: {
        name: config.bridge,
        kind: 'bridge',
        // set once: a bridge without a MAC of its own takes the lowest of its ports' and changes it as they come and go
        // (net/bridge/br_stp_if.c br_stp_recalculate_bridge_id), which empties the neighbours' ARP caches
        mac: bridgeMac(network.id),
        up: true,
        alias: `${ALIAS_PREFIX}network:${network.id}`,
        ...(config.mtu > 0 ? { mtu: config.mtu } : {}),
      },
      addresses,
      sysctls: bridgeSysctls(config, network),
    }
    return {
      links: [link],
      firewall: {
        id: network.id,
        bridge: config.bridge,
        mode4: config.mode4,
        mode6: config.mode6,
        internal: network.internal,
        icc: config.icc,
        masquerade: config.masquerade,
        trusted: config.trusted,
        gateways: addresses.map(({ address }) => splitPrefix(address).ip),
        ...(config.snat4 ? { snat4: config.snat4 } : {}),
        ...(config.snat6 ? { snat6: config.snat6 } : {}),
      },
    }
  },

  endpointWanted(network, endpoint: EndpointFacts): EndpointWanted {
    const config = parseBridgeConfig(network)
    const mtu = config.mtu > 0 ? { mtu: config.mtu } : {}
    const alias = `${ALIAS_PREFIX}endpoint:${endpoint.id}`
    const mac = endpoint.mac === '' ? {} : { mac: endpoint.mac }
    const ips = [endpoint.ipv4, endpoint.ipv6, ...endpoint.linkLocalIps].filter((ip): ip is Ip => ip !== '')
    return {
      plug: {
        kind: 'pair',
        link: {
          spec: {
            name: endpoint.hostIfname,
            kind: 'veth',
            peer: { name: endpoint.ifname, netnsFd: endpoint.netnsFd, ...mac, ...mtu },
            master: config.bridge,
            up: true,
            alias,
            ...mtu,
            // with br_netfilter a container's call of its own published port never leaves the bridge: it must go back out of the same port
            ...(config.icc ? (endpoint.bridgeNetfilter ? { port: { hairpin: true } } : {}) : { port: { isolated: true } }),
            addrGenMode: 'none',
          },
          addresses: [],
          sysctls: [],
        },
      },
      inside: insideOf(network, endpoint),
      firewall: { hostIf: endpoint.hostIfname, bridge: config.bridge, mac: endpoint.mac as Mac, ips, guard: config.sourceGuard },
    }
  },

  gatewayOf(network, data) {
    const { ipv4, ipv6 } = gatewayOf(network)
    const { gateway4 } = data // what a DHCP server said
    return { ipv4: ipv4 === '' && typeof gateway4 === 'string' ? (gateway4 as Ip) : ipv4, ipv6 }
  },

  deviceOf(network) {
    return parseBridgeConfig(network).bridge
  },

  publishing: parseBridgeConfig,

  conflict(network, other) {
    const a = parseBridgeConfig(network)
    const b = parseBridgeConfig(other)
    const clash =
      a.bridge === b.bridge
        ? 'networks have same bridge name'
        : ([4, 6] as const)
            .map((family) => {
              const pa = poolOf(network, family)
              const pb = poolOf(other, family)
              return pa && pb && cidrOverlaps(pa.subnet, pb.subnet) ? `networks have overlapping IPv${family}` : undefined
            })
            .find((text) => text !== undefined)
    if (clash === undefined) return undefined
    return `cannot create network ${network.id} (${a.bridge}): conflicts with network ${other.id} (${b.bridge}): ${clash}`
  },
}

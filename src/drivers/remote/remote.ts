/**
 * The driver of networks that a plugin makes. It plans nothing on the host: the plugin has made the interface there, and what it said
 * of it (the endpoint's data) is all that is known. The plugin itself is asked in `src/remote`.
 */
import { type Ip, ipPrefixOf, splitPrefix, trySplitPrefix } from '../../base/address.ts'
import type { Address, Route } from '../../model/kernel-state.ts'
import type { Network } from '../../model/network.ts'
import { type Driver, type EndpointFacts, type EndpointWanted, type NetworkDraft, poolOf } from '../types.ts'
import { endpointData } from './data.ts'

/** What a plugin says of itself, as far as it was asked already. */
export interface RemoteDriverFacts {
  readonly scope: 'local' | 'global'
  /** Families for which the plugin wants no gateway address on the network that is being made. */
  skipGateway(draft: NetworkDraft): { ipv4: boolean; ipv6: boolean }
}

const NO_FACTS: RemoteDriverFacts = { scope: 'local', skipGateway: () => ({ ipv4: false, ipv6: false }) }

function addressesOf(network: Network, endpoint: EndpointFacts): Address[] {
  const own = endpointData(endpoint.data)
  const out: Address[] = []
  for (const [family, ip, chosen] of [
    [4, endpoint.ipv4, own.address4],
    [6, endpoint.ipv6, own.address6],
  ] as const) {
    const noDad = family === 6
    const pool = poolOf(network, family)
    const given = trySplitPrefix(chosen)
    if (ip !== '') {
      const length = given?.ip === ip ? given.length : pool ? splitPrefix(pool.subnet).length : family === 4 ? 32 : 128
      out.push({ dev: endpoint.ifname, address: ipPrefixOf(ip, length), noDad, scope: 'global' })
    } else if (given) out.push({ dev: endpoint.ifname, address: ipPrefixOf(given.ip, given.length), noDad, scope: 'global' })
  }
  for (const ip of endpoint.linkLocalIps)
    out.push({ dev: endpoint.ifname, address: ipPrefixOf(ip, ip.includes(':') ? 64 : 16), scope: 'link', noDad: ip.includes(':') })
  return out
}

/** A driver by the name of its plugin. It works without the plugin, so that a network stays listed and removable when that is gone. */
export function remoteDriver(name: string, facts: RemoteDriverFacts = NO_FACTS): Driver {
  return {
    name,
    get scope() {
      return facts.scope
    },
    singleton: false,
    withoutIpam: false,
    userDefined: true,
    // two plugins, or two networks of one, may well use the same subnet: nobody but the plugin can tell
    sharesSubnets: true,

    validate() {},
    skipGateway: (draft) => facts.skipGateway(draft),
    networkWanted: () => ({ links: [] }),

    endpointWanted(network, endpoint): EndpointWanted {
      const { srcName, isWithoutInterface, routes, mac: chosen } = endpointData(endpoint.data)
      const mac = endpoint.mac || chosen
      const addresses = addressesOf(network, endpoint)
      const has6 = addresses.some(({ address }) => address.includes(':'))
      return {
        plug: isWithoutInterface ? { kind: 'none' } : { kind: 'taken', hostIfname: srcName, ...(mac === '' ? {} : { mac }) },
        inside: {
          ifname: endpoint.ifname,
          addresses,
          sysctls: [
            { path: `net/ipv6/conf/${endpoint.ifname}/disable_ipv6`, value: has6 ? '0' : '1', optional: !has6 },
            ...endpoint.sysctls,
          ],
          routes: routes.map(
            ({ dst, via }): Route => ({
              family: dst.includes(':') ? 6 : 4,
              dst,
              dev: endpoint.ifname,
              ...(via === '' ? { scope: 'link' as const } : { gateway: via }),
            }),
          ),
        },
      }
    },

    /** Only the plugin knows: the pool's gateway may be nobody's address. */
    gatewayOf(network, data): { ipv4: Ip | ''; ipv6: Ip | '' } {
      if (network.internal) return { ipv4: '', ipv6: '' }
      const { gateway4, gateway6 } = endpointData(data)
      return { ipv4: gateway4, ipv6: gateway6 }
    },

    usesGatewayBridge(network, data) {
      const own = endpointData(data)
      return !network.internal && own.gateway4 === '' && own.gateway6 === '' && !own.disableGatewayService
    },

    ifacePrefix: (_network, data) => endpointData(data).dstPrefix,
    prefixLength(data, ip) {
      const { address4, address6 } = endpointData(data)
      const own = trySplitPrefix(ip.includes(':') ? address6 : address4)
      return own?.ip === ip ? own.length : undefined
    },

    /** The interface keeps the MAC that the plugin gave it. */
    macFor: () => '',
  }
}

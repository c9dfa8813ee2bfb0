/** The container's end of an attachment, as it is for every driver whose endpoints have addresses of the network's pools. */
import { type Cidr, cidrRange, familyOf, type Ip, ipFromBigInt, ipPrefixOf, splitPrefix } from '../base/address.ts'
import type { Address } from '../model/kernel-state.ts'
import type { Network } from '../model/network.ts'
import type { WantedInside } from '../plan/wanted.ts'
import { type EndpointFacts, poolOf } from './types.ts'

/** Addresses with the length of their own subnet, link-local ones, and IPv6 switched off where the endpoint has none. */
export function insideOf(network: Network, endpoint: EndpointFacts): WantedInside {
  const { ifname } = endpoint
  const addresses: Address[] = []
  for (const [family, ip] of [
    [4, endpoint.ipv4],
    [6, endpoint.ipv6],
  ] as const) {
    const pool = ip === '' ? undefined : poolOf(network, family, ip)
    if (ip !== '' && pool !== undefined) addresses.push(addressOn(ifname, pool.subnet, ip))
  }
  for (const ip of endpoint.linkLocalIps)
    addresses.push({ dev: ifname, address: ipPrefixOf(ip, ip.includes(':') ? 64 : 16), scope: 'link', noDad: ip.includes(':') })
  const without6 = endpoint.ipv6 === ''
  const disable6 = { path: `net/ipv6/conf/${ifname}/disable_ipv6`, value: without6 ? '1' : '0', optional: without6 }
  return { ifname, addresses, sysctls: [disable6, ...endpoint.sysctls], routes: [] }
}

/** An address of a subnet on a device, with the subnet's length and broadcast address. */
export function addressOn(dev: string, subnet: Cidr, ip: Ip): Address {
  const { length } = splitPrefix(subnet)
  // programs that ask an interface for its broadcast address (SIOCGIFBRDADDR) get it only when it is set here
  const broadcast = familyOf(ip) === 4 && length < 31 ? { broadcast: ipFromBigInt(4, cidrRange(subnet).last) } : {}
  return { dev, address: ipPrefixOf(ip, length), noDad: ip.includes(':'), scope: 'global', ...broadcast }
}

/**
 * Host and containers of one macvlan network: the kernel delivers nothing between a parent and the macvlan interfaces on it, so the host
 * gets one too, with a route to each container over it. The host is known to the containers by its own address on the parent, or by the
 * network's auxiliary address called `host` (IPv4) or `host6`.
 */
import { type Cidr, cidrContains, type Ip, ipPrefixOf, splitPrefix } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import type { Address, Neighbour, Route } from '../../model/kernel-state.ts'
import type { Network } from '../../model/network.ts'
import type { WantedLink } from '../../plan/wanted.ts'
import { OPTION } from '../options.ts'
import type { HostFacts, MemberFacts } from '../types.ts'
import type { Parent } from './parent.ts'

const AUX_NAMES: readonly string[] = ['host', 'host6']

function shimName(network: Network): string {
  return `mh-${network.id.slice(0, 12)}`
}

/** Addresses that the user set aside for the host, one of a family at most. */
function reservedFor(network: Network, family: 4 | 6): Ip | undefined {
  for (const { subnet, aux } of network.pools)
    if (subnet.includes(':') === (family === 6)) for (const name of AUX_NAMES) if (aux[name] !== undefined) return aux[name]
  return undefined
}

/**
 * The address by which containers of `subnet` know the host. In IPv6 only a reserved one will do: neighbours are asked for an address
 * on the interface that has it (net/ipv6/ndisc.c), and with the same address on two links the LAN would get two answers.
 */
function hostAddress(network: Network, subnet: Cidr, parent: Parent, host: HostFacts): Ip | undefined {
  const family = subnet.includes(':') ? 6 : 4
  const reserved = reservedFor(network, family)
  if (reserved !== undefined || family === 6) return reserved
  const own = host.addressesOf(parent.name).map((addr) => splitPrefix(addr.address).ip)
  return own.find((ip) => !ip.includes(':') && cidrContains(subnet, ip))
}

/** Throws `invalid` when the host has no address that containers could answer to. */
export function checkShim(network: Network, parent: Parent, host: HostFacts): void {
  const subnets = network.pools.map((pool) => pool.subnet)
  if (subnets.some((subnet) => hostAddress(network, subnet, parent, host) !== undefined)) return
  const where = subnets.join(', ')
  throw new NetError(
    'invalid',
    `${OPTION.macvlanHost}=true needs an address of the host in ${where}: ${parent.name} has none, reserve one with --aux-address host=ADDRESS`,
  )
}

/** The host's interface on the parent, without routes. */
export function shimLink(network: Network, parent: Parent): WantedLink {
  const name = shimName(network)
  const addresses: Address[] = []
  for (const family of [4, 6] as const) {
    const ip = reservedFor(network, family)
    if (ip !== undefined)
      addresses.push({ dev: name, address: ipPrefixOf(ip, family === 4 ? 32 : 128), scope: 'global', noDad: family === 6 })
  }
  const has6 = reservedFor(network, 6) !== undefined
  return {
    spec: {
      name,
      kind: 'macvlan',
      parent: parent.name,
      mode: 'bridge',
      up: true,
      alias: `causeway:network:${network.id}`,
    },
    addresses,
    sysctls: [
      // answers containers, to which the host's routes lead over this interface, and leaves the LAN's questions to the parent
      { path: `net/ipv4/conf/${name}/arp_filter`, value: '1' },
      { path: `net/ipv4/conf/${name}/rp_filter`, value: '2' },
      { path: `net/ipv6/conf/${name}/accept_ra`, value: '0', optional: true },
      { path: `net/ipv6/conf/${name}/disable_ipv6`, value: has6 ? '0' : '1', optional: true },
    ],
  }
}

/**
 * The same with a route and a neighbour entry for each container. The entries keep the host from asking on the LAN, which would teach
 * its machines this interface's MAC for the host's address.
 */
export function shimWithMembers(network: Network, parent: Parent, members: readonly MemberFacts[], host: HostFacts): WantedLink {
  const link = shimLink(network, parent)
  const dev = link.spec.name
  const routes: Route[] = []
  const neighbours: Neighbour[] = []
  for (const { ipv4, ipv6, mac } of members)
    for (const ip of [ipv4, ipv6]) {
      const subnet = network.pools.map((pool) => pool.subnet).find((cidr) => ip !== '' && cidrContains(cidr, ip))
      const src = subnet === undefined ? undefined : hostAddress(network, subnet, parent, host)
      if (ip === '' || src === undefined) continue
      const family = ip.includes(':') ? 6 : 4
      const dst = `${ip}/${family === 4 ? 32 : 128}` as Cidr
      routes.push({ family, dst, dev, src, protocol: 'static', ...(family === 4 ? { scope: 'link' } : { metric: 1024 }) })
      if (mac !== '') neighbours.push({ dev, ip, mac, state: 'permanent' })
    }
  return { ...link, routes, neighbours }
}

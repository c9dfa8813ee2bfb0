/**
 * The ovs driver: endpoints are ports of an Open vSwitch bridge, in the network's VLAN. The pair is made here as everywhere; that the
 * switch has its outer end, and a device for the gateway's address, is the authority's work (`lan/ovs`). What passes between ports is the
 * switch's matter (its flows, an SDN controller's); the firewall sees what goes through the gateway's device.
 */
import { cidrOverlaps } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import type { Address } from '../../model/kernel-state.ts'
import type { Network } from '../../model/network.ts'
import type { WantedSysctl } from '../../plan/wanted.ts'
import { ALIAS_PREFIX } from '../bridge/bridge.ts'
import { addressOn, insideOf } from '../inside.ts'
import { needFamily } from '../options.ts'
import { type Driver, type EndpointFacts, type EndpointWanted, gatewaysOf, type HostFacts, type NetworkWanted } from '../types.ts'
import { hasGatewayDevice, parseOvsConfig } from './config.ts'

/** `docker network create -d ovs`. */
export const ovsDriver: Driver = {
  name: 'ovs',
  scope: 'local',
  singleton: false,
  withoutIpam: false,
  userDefined: true,
  // hosts on one VLAN have one subnet, each its own --ip-range of it; and VLANs keep equal subnets apart
  sharesSubnets: true,

  validate(draft) {
    parseOvsConfig(draft)
    needFamily(draft)
  },

  skipGateway(draft) {
    const skip = !hasGatewayDevice(draft)
    return { ipv4: skip, ipv6: skip }
  },

  checkHost(network, host, others) {
    checkParent(network, host, others)
    if (!hasGatewayDevice(network)) return
    for (const other of others) {
      const clash = hasGatewayDevice(other) && network.pools.find((a) => other.pools.some((b) => cidrOverlaps(a.subnet, b.subnet)))
      if (clash)
        throw new NetError(
          'denied',
          `subnet ${clash.subnet} is network ${other.name}'s too, and this host cannot be the gateway of both: give one of them ovs.gateway=lan or ovs.gateway=none`,
        )
    }
  },

  networkWanted(network): NetworkWanted {
    if (!hasGatewayDevice(network)) return { links: [] }
    const { device, masquerade } = parseOvsConfig(network)
    const addresses = network.pools.flatMap(({ subnet, gateway }): Address[] => (gateway ? [addressOn(device, subnet, gateway)] : []))
    return {
      // the switch makes and deletes this device (a tap, or a port of the kernel's datapath): ours are its addresses and that it is up
      links: [{ spec: { name: device, kind: 'dummy', up: true }, addresses, sysctls: deviceSysctls(device, network), adopted: true }],
      firewall: {
        id: network.id,
        bridge: device,
        mode4: 'nat',
        mode6: 'nat',
        internal: false,
        icc: true,
        masquerade,
        trusted: [],
        gateways: network.pools.flatMap(({ gateway }) => gateway ?? []),
      },
    }
  },

  endpointWanted(network, endpoint: EndpointFacts): EndpointWanted {
    const { mtu: asked } = parseOvsConfig(network)
    const mtu = asked > 0 ? { mtu: asked } : {}
    const mac = endpoint.mac === '' ? {} : { mac: endpoint.mac }
    return {
      plug: {
        kind: 'pair',
        link: {
          spec: {
            name: endpoint.hostIfname,
            kind: 'veth',
            peer: { name: endpoint.ifname, netnsFd: endpoint.netnsFd, ...mac, ...mtu },
            up: true,
            alias: `${ALIAS_PREFIX}endpoint:${endpoint.id}`,
            ...mtu,
            addrGenMode: 'none',
          },
          addresses: [],
          sysctls: deafSysctls(endpoint.hostIfname),
        },
      },
      inside: insideOf(network, endpoint),
    }
  },

  gatewayOf(network, _data, ips) {
    if (network.internal || parseOvsConfig(network).gateway === 'none') return { ipv4: '', ipv6: '' }
    return gatewaysOf(network, ips)
  },

  usesGatewayBridge: (network) => !network.internal && parseOvsConfig(network).gateway === 'none',

  deviceOf: (network) => parseOvsConfig(network).device,

  publishing(network) {
    if (!hasGatewayDevice(network)) return undefined
    const { device, hostBindingIpv4 } = parseOvsConfig(network)
    return { bridge: device, mode4: 'nat', mode6: 'nat', hostBindingIpv4 }
  },
}

/** An uplink is a port of one bridge, and addresses that are on it would no longer be reached. */
function checkParent(network: Network, host: HostFacts, others: readonly Network[]): void {
  const { parent, bridge } = parseOvsConfig(network)
  if (parent === '') return
  const link = host.link(parent)
  if (link === undefined) throw new NetError('not-found', `parent interface ${parent} does not exist`, { subject: parent })
  if (link.loopback) throw new NetError('invalid', `parent interface ${parent} is the loopback interface`)
  const sharing = others.map((other) => ({ other, config: parseOvsConfig(other) })).filter(({ config }) => config.parent === parent)
  const elsewhere = sharing.find(({ config }) => config.bridge !== bridge)
  if (elsewhere)
    throw new NetError(
      'conflict',
      `parent interface ${parent} is a port of ${elsewhere.config.bridge}, network ${elsewhere.other.name}'s bridge: give both networks the same -o ovs.bridge`,
    )
  const own = host.addressesOf(parent).find((address) => address.scope !== 'link')
  if (own !== undefined && sharing.length === 0)
    throw new NetError(
      'invalid',
      `parent interface ${parent} has the host's address ${own.address}, which would be cut off: use another interface, or move the address to a port of ${bridge} first`,
    )
}

function deviceSysctls(device: string, network: Network): WantedSysctl[] {
  return [
    { path: `net/ipv6/conf/${device}/accept_ra`, value: '0', optional: true },
    { path: `net/ipv6/conf/${device}/disable_ipv6`, value: network.enableIpv6 ? '0' : '1', optional: true },
    // 127.0.0.1:PORT of the host is answered by DNAT; the firewall drops 127/8 from the wire
    ...(network.enableIpv4 ? [{ path: `net/ipv4/conf/${device}/route_localnet`, value: '1' }] : []),
  ]
}

/**
 * The user space datapath reads copies: the host's own stack gets every frame too, and would answer ARP for all of the host's addresses on
 * the outer end, and forward past the firewall's networks. No route leads over it, so a strict source check takes nothing from there.
 */
function deafSysctls(hostIfname: string): WantedSysctl[] {
  return [
    { path: `net/ipv4/conf/${hostIfname}/arp_ignore`, value: '8' },
    { path: `net/ipv4/conf/${hostIfname}/rp_filter`, value: '1' },
    { path: `net/ipv4/conf/${hostIfname}/forwarding`, value: '0' },
    { path: `net/ipv6/conf/${hostIfname}/disable_ipv6`, value: '1', optional: true },
  ]
}

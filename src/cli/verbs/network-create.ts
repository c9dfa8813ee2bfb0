/** `network create`. */
import type { NetworkCreateRequest } from '../../client/types.ts'
import { checkLabel, pairsToRecord } from '../args/environment.ts'
import { buildPools } from '../args/ipam-option.ts'
import { defineCommand } from '../command.ts'
import { flag, list, map, strings, text, triState } from '../options.ts'

export const create = defineCommand({
  path: 'network create',
  summary: 'Create a network',
  usage: '[OPTIONS] NETWORK',
  args: [1, 1],
  options: {
    attachable: flag('', 'Let containers be attached by hand'),
    'aux-address': map('', 'Address used by something else on the network (name=ip)'),
    'config-from': text('', 'Take the configuration from this configuration network'),
    'config-only': flag('', 'Make a configuration network, which only holds settings'),
    driver: text('d', 'Driver of the network (default "bridge")'),
    gateway: strings('', 'Gateway of the subnet, IPv4 or IPv6'),
    ingress: flag('', 'Make the routing-mesh network of a swarm'),
    internal: flag('', 'No way to the outside'),
    'ip-range': strings('', 'Give containers addresses of this part of the subnet only'),
    'ipam-driver': text('', 'Driver of address management (default "default")'),
    'ipam-opt': map('', 'Option of that driver'),
    ipv4: triState('', 'Give containers IPv4 addresses (default true)'),
    ipv6: triState('', 'Give containers IPv6 addresses'),
    label: list('', 'Set a label', checkLabel),
    opt: map('o', 'Option of the driver'),
    scope: text('', 'Scope of the network'),
    subnet: strings('', 'Subnet in CIDR format'),
  },
  examples: [
    { line: 'causeway network create front' },
    { line: 'causeway network create --subnet 10.5.0.0/16 --ip-range 10.5.1.0/24 --gateway 10.5.0.1 front' },
    { line: 'causeway network create --ipv6 --subnet fd00:5::/64 dual', why: 'IPv4 of the default pools and an IPv6 subnet of your own' },
    {
      line: 'causeway network create -o parent=eth0 --ip-range 192.168.1.192/26 lan',
      why: 'containers in the LAN of eth0, which becomes a port of the bridge and keeps its connections',
    },
    {
      line: 'causeway network create -d macvlan -o parent=eth0 --ipam-driver dhcp lan2',
      why: "addresses from the LAN's DHCP server",
    },
    { line: 'causeway network create --internal -o com.docker.network.driver.mtu=9000 back' },
  ],
  run: async (context, [name = ''], o) => {
    const body: NetworkCreateRequest = {
      Name: name,
      Driver: o.driver ?? 'bridge',
      Scope: o.scope ?? '',
      ...(o.ipv4 === undefined ? {} : { EnableIPv4: o.ipv4 }),
      ...(o.ipv6 === undefined ? {} : { EnableIPv6: o.ipv6 }),
      IPAM: {
        Driver: o['ipam-driver'] ?? 'default',
        Options: { ...o['ipam-opt'] },
        Config: buildPools({
          subnets: o.subnet,
          ranges: o['ip-range'],
          gateways: o.gateway,
          aux: o['aux-address'],
          learnsSubnet: (o.opt['parent'] ?? '') !== '',
        }),
      },
      Internal: o.internal,
      Attachable: o.attachable,
      Ingress: o.ingress,
      ConfigOnly: o['config-only'],
      ...(o['config-from'] === undefined ? {} : { ConfigFrom: { Network: o['config-from'] } }),
      Options: { ...o.opt },
      Labels: pairsToRecord(o.label),
    }
    const { Id, Warning } = await context.client.networks.create(body)
    if (Warning !== undefined && Warning !== '') context.warn(`WARNING: ${Warning}`)
    context.print(Id)
    return 0
  },
})

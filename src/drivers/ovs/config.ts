/** The ovs driver's options, parsed and checked. */

import type { Ip } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import { advertiseOptions, boolOption, intOption, ipOption, mtuOption, OPTION, type Options } from '../options.ts'

export const OVS_OPTION = {
  bridge: 'ovs.bridge',
  gateway: 'ovs.gateway',
  datapath: 'ovs.datapath',
  vlan: 'vlan',
  parent: 'parent',
  /** Of an endpoint: the name under which an SDN controller (OVN) knows its port. */
  ifaceId: 'ovs.iface-id',
} as const

/** Whose the network's gateway address is: this host's, a router's behind the switch, or there is none and docker_gwbridge leads out. */
export type OvsGateway = 'host' | 'lan' | 'none'
const GATEWAYS: readonly string[] = ['host', 'lan', 'none']

export interface OvsConfig {
  /** Name of the Open vSwitch bridge. */
  readonly bridge: string
  /** 0 = untagged. */
  readonly vlan: number
  /** Interface of the host that becomes a port of the bridge; '' = none. */
  readonly parent: string
  readonly gateway: OvsGateway
  /** Device with the gateway's address; used when `gateway` is `host` and the network is not internal. */
  readonly device: string
  /** '' = as the kernel can. */
  readonly datapath: '' | 'system' | 'netdev'
  /** 0 = 1500. */
  readonly mtu: number
  readonly masquerade: boolean
  readonly hostBindingIpv4: Ip | undefined
}

/** Parses the options of an ovs network. Throws NetError `invalid` with what would be right. */
export function parseOvsConfig(network: { readonly id: string; readonly internal: boolean; readonly options: Options }): OvsConfig {
  const { id, options } = network
  const vlan = intOption(options, OVS_OPTION.vlan, 0)
  if (options[OVS_OPTION.vlan] !== undefined && (vlan < 1 || vlan > 4094))
    throw new NetError('invalid', `vlan id must be between 1-4094, received: ${options[OVS_OPTION.vlan]}`)
  const bridge = linkName(options, OVS_OPTION.bridge, `ovs-${id.slice(0, 10)}`)
  const parent = linkName(options, OVS_OPTION.parent, '')
  if (parent === bridge) throw new NetError('invalid', `parent interface ${parent} cannot be the bridge itself`)
  const gateway = options[OVS_OPTION.gateway] || 'host'
  if (!GATEWAYS.includes(gateway)) throw new NetError('invalid', `unknown ${OVS_OPTION.gateway} "${gateway}": expected host, lan or none`)
  const datapath = options[OVS_OPTION.datapath] ?? ''
  if (datapath !== '' && datapath !== 'system' && datapath !== 'netdev')
    throw new NetError('invalid', `unknown ${OVS_OPTION.datapath} "${datapath}": expected system (the kernel's) or netdev (in user space)`)
  const mtu = mtuOption(options)
  advertiseOptions(options)
  return {
    bridge,
    vlan,
    parent,
    gateway: gateway as OvsGateway,
    device: `og-${id.slice(0, 12)}`,
    datapath,
    mtu,
    masquerade: boolOption(options, OPTION.enableMasquerade, true),
    hostBindingIpv4: ipOption(options, OPTION.hostBindingIpv4, 4),
  }
}

/** The network's gateway address is on a device of this host. */
export function hasGatewayDevice(network: { readonly id: string; readonly internal: boolean; readonly options: Options }): boolean {
  return !network.internal && parseOvsConfig(network).gateway === 'host'
}

function linkName(options: Options, label: string, fallback: string): string {
  const name = options[label] || fallback
  if (name !== '' && (name.length > 15 || !/^[^\s/:]+$/.test(name) || name === '.' || name === '..'))
    throw new NetError('invalid', `invalid ${label} "${name}": it must have 1 to 15 characters without blanks, "/" or ":"`)
  return name
}

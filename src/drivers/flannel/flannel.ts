/**
 * The flannel driver: a bridge network whose subnet is this host's lease in a Flannel network. Packets to other hosts go the way that
 * flanneld has made (its routes, its VXLAN device); the firewall lets the whole Flannel network in and shows it the containers' own
 * addresses. Everything else is the bridge driver's.
 */
import { NetError } from '../../base/errors.ts'
import type { Network } from '../../model/network.ts'
import { bridgeDriver } from '../bridge/bridge.ts'
import { parseBridgeConfig } from '../bridge/config.ts'
import { OPTION, type Options } from '../options.ts'
import type { Driver } from '../types.ts'
import type { FlannelLease } from './lease.ts'

/** Names of the options of flannel networks. */
export const FLANNEL_OPTION = { subnetEnv: 'flannel.subnet_env', etcd: 'flannel.etcd' } as const
/** Where flanneld writes this host's lease unless it is told otherwise. */
const DEFAULT_SUBNET_ENV = '/run/flannel/subnet.env'

/** Options of the bridge driver that the lease decides on, or that a routed network cannot have. */
const REFUSED = ['parent', OPTION.gatewayModeIpv4, OPTION.gatewayModeIpv6, OPTION.hostIpv4, OPTION.hostIpv6, OPTION.inhibitIpv4]

/** Where a network's lease is read: a file of flanneld's, or its etcd. Throws `invalid`. */
export function leaseSource(
  options: Options,
): { readonly kind: 'file'; readonly path: string } | { readonly kind: 'etcd'; readonly url: string } {
  const path = options[FLANNEL_OPTION.subnetEnv] ?? ''
  const url = options[FLANNEL_OPTION.etcd] ?? ''
  if (path !== '' && url !== '')
    throw new NetError('invalid', `${FLANNEL_OPTION.subnetEnv} and ${FLANNEL_OPTION.etcd} are both given: expected one of them`)
  if (url !== '') {
    if (!/^etcd:\/\/[^/]+\/.+/.test(url))
      throw new NetError('invalid', `invalid ${FLANNEL_OPTION.etcd} "${url}": expected etcd://HOST:2379/coreos.com/network`)
    return { kind: 'etcd', url }
  }
  if (path !== '' && !path.startsWith('/'))
    throw new NetError('invalid', `invalid ${FLANNEL_OPTION.subnetEnv} "${path}": expected an absolute path`)
  return { kind: 'file', path: path || DEFAULT_SUBNET_ENV }
}

/** The lease with which the network was made. */
export function leaseOf(network: Network): FlannelLease {
  return (network.data?.['lease'] ?? { mtu: 0, ipMasq: false }) as FlannelLease
}

const derived = new WeakMap<Network, Network>()

/** The network as the bridge driver should see it. */
function asBridge(network: Network): Network {
  const known = derived.get(network)
  if (known !== undefined) return known
  const { mtu, ipMasq } = leaseOf(network)
  const options = {
    ...network.options,
    ...(mtu > 0 && network.options[OPTION.mtu] === undefined ? { [OPTION.mtu]: String(mtu) } : {}),
    // flanneld does it
    ...(ipMasq ? { [OPTION.enableMasquerade]: 'false' } : {}),
  }
  const bridge = { ...network, options }
  derived.set(network, bridge)
  return bridge
}

/** `docker network create -d flannel`. */
export const flannelDriver: Driver = {
  ...bridgeDriver,
  name: 'flannel',

  validate(draft) {
    leaseSource(draft.options)
    bridgeDriver.validate(draft)
    const refused = REFUSED.find((label) => (draft.options[label] ?? '') !== '')
    if (refused !== undefined) throw new NetError('invalid', `option ${refused} is not for flannel networks: Flannel's lease decides`)
    if (draft.internal) throw new NetError('invalid', 'a flannel network cannot be internal: its packets are routed by the hosts')
    if (draft.subnets.some(({ subnet }) => subnet))
      throw new NetError('invalid', `a flannel network takes no --subnet: this host's lease is its subnet`)
  },

  networkWanted(network) {
    const wanted = bridgeDriver.networkWanted(asBridge(network))
    const { ipv4, ipv6 } = leaseOf(network)
    const peers = [ipv4, ipv6].flatMap((part) => (part ? [part.network] : []))
    return wanted.firewall === undefined ? wanted : { ...wanted, firewall: { ...wanted.firewall, peers } }
  },

  endpointWanted: (network, endpoint) => bridgeDriver.endpointWanted(asBridge(network), endpoint),

  deviceOf: (network) => parseBridgeConfig(asBridge(network)).bridge,

  publishing: (network) => parseBridgeConfig(asBridge(network)),
}

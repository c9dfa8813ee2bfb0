/**
 * The ipvlan driver: endpoints share their parent's MAC and have addresses of their own. In mode l2 they are on the parent's LAN, in l3
 * and l3s the host routes between them and the LAN must know the way; broadcasts stay outside. One network has a parent for itself.
 */
import { NetError } from '../../base/errors.ts'
import type { LinkSpec } from '../../model/kernel-state.ts'
import type { Network } from '../../model/network.ts'
import { insideOf } from '../inside.ts'
import { checkParent, ON_A_PARENT, type Parent, parentOf, parentWanted } from '../macvlan/parent.ts'
import { advertiseOptions, mtuOption, needFamily, type Options } from '../options.ts'
import { type Driver, type EndpointFacts, gatewaysOf } from '../types.ts'

const MODES = ['l2', 'l3', 'l3s'] as const
const FLAGS = ['bridge', 'private', 'vepa'] as const

/** An ipvlan network's options, checked. */
export interface IpvlanConfig {
  readonly parent: Parent
  readonly mode: (typeof MODES)[number]
  readonly flag: (typeof FLAGS)[number]
  /** 0 = the parent's. */
  readonly mtu: number
}

/** Parses the options of an ipvlan network. Throws NetError with Docker's texts. */
function parseIpvlanConfig(network: { id: string; options: Options }): IpvlanConfig {
  const { options } = network
  const askedMode = options['ipvlan_mode'] || 'l2'
  const mode = MODES.find((m) => m === askedMode)
  if (mode === undefined)
    throw new NetError('internal', `requested ipvlan mode '${askedMode}' is not valid, 'l2' mode is the ipvlan driver default`)
  const askedFlag = options['ipvlan_flag'] || 'bridge'
  const flag = FLAGS.find((f) => f === askedFlag)
  if (flag === undefined)
    throw new NetError('internal', `requested ipvlan flag '${askedFlag}' is not valid, 'bridge' is the ipvlan driver default`)
  advertiseOptions(options)
  const mtu = mtuOption(options)
  return { parent: parentOf(network, 'ipvlan', 'di'), mode, flag, mtu }
}

/** The container can be routed to the outside at all. */
const isOpen = (network: Network, config: IpvlanConfig): boolean => !network.internal && !config.parent.isDummy

/** `docker network create -d ipvlan`. */
export const ipvlanDriver: Driver = {
  ...ON_A_PARENT,
  name: 'ipvlan',

  validate(draft) {
    parseIpvlanConfig(draft)
    needFamily(draft)
  },

  checkHost(network, host, others) {
    const { parent } = parseIpvlanConfig(network)
    const holder = others.find((other) => parseIpvlanConfig(other).parent.name === parent.name)
    if (holder !== undefined)
      throw new NetError('internal', `network di-${holder.id.slice(0, 12)} is already using parent interface ${parent.name}`)
    checkParent(parent, host)
  },

  networkWanted: (network) => ({ links: parentWanted(parseIpvlanConfig(network).parent, network) }),

  endpointWanted(network: Network, endpoint: EndpointFacts) {
    if (endpoint.mac !== '') throw new NetError('invalid', 'ipvlan interfaces do not support custom mac address assignment')
    const { parent, mode, flag, mtu } = parseIpvlanConfig(network)
    const link: LinkSpec = {
      name: endpoint.ifname,
      netnsFd: endpoint.netnsFd,
      kind: 'ipvlan',
      parent: parent.name,
      mode,
      flag,
      ...(mtu > 0 ? { mtu } : {}),
    }
    return { plug: { kind: 'born', link }, inside: insideOf(network, endpoint) }
  },

  gatewayOf(network, _data, ips) {
    const config = parseIpvlanConfig(network)
    return isOpen(network, config) && config.mode === 'l2' ? gatewaysOf(network, ips) : { ipv4: '', ipv6: '' }
  },

  /** Layer 3 has no next hop: the interface itself is the way out. */
  deviceRoute(network) {
    const config = parseIpvlanConfig(network)
    const isRouted = isOpen(network, config) && config.mode !== 'l2'
    return { ipv4: isRouted, ipv6: isRouted }
  },

  reachesOutside: (network) => isOpen(network, parseIpvlanConfig(network)),

  macFor: () => '',
}

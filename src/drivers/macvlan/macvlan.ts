/**
 * The macvlan driver: every endpoint is an interface with a MAC of its own on a link of the host, and so a machine on that link's LAN.
 * Nothing of ours is in the way of its packets: no bridge, no firewall, no published ports. The kernel keeps containers and their own
 * host apart; `causeway.macvlan.host=true` gives the host an interface on the same parent (`host-shim.ts`).
 */
import { NetError } from '../../base/errors.ts'
import type { LinkSpec } from '../../model/kernel-state.ts'
import type { Network } from '../../model/network.ts'
import { insideOf } from '../inside.ts'
import { advertiseOptions, boolOption, mtuOption, needFamily, OPTION, type Options } from '../options.ts'
import { type Driver, type EndpointFacts, gatewaysOf } from '../types.ts'
import { checkShim, shimLink, shimWithMembers } from './host-shim.ts'
import { checkParent, ON_A_PARENT, type Parent, parentOf, parentWanted } from './parent.ts'

const MODES = ['bridge', 'vepa', 'private', 'passthru'] as const
export type MacvlanMode = (typeof MODES)[number]

/** A macvlan network's options, checked. */
export interface MacvlanConfig {
  readonly parent: Parent
  readonly mode: MacvlanMode
  /** 0 = the parent's. */
  readonly mtu: number
  /** The host has an interface of its own on the parent. */
  readonly hostAccess: boolean
}

/** Parses the options of a macvlan network. Throws NetError with Docker's texts. */
function parseMacvlanConfig(network: { id: string; options: Options }): MacvlanConfig {
  const { options } = network
  const asked = options['macvlan_mode'] || 'bridge'
  const mode = MODES.find((m) => m === asked)
  if (mode === undefined)
    throw new NetError('internal', `requested macvlan mode '${asked}' is not valid, 'bridge' mode is the macvlan driver default`)
  const parent = parentOf(network, 'macvlan', 'dm')
  const hostAccess = boolOption(options, OPTION.macvlanHost, false)
  if (hostAccess && mode !== 'bridge')
    throw new NetError('invalid', `${OPTION.macvlanHost}=true needs macvlan_mode bridge: in mode ${mode} the kernel keeps interfaces apart`)
  advertiseOptions(options)
  const mtu = mtuOption(options)
  return { parent, mode, mtu, hostAccess }
}

/** `docker network create -d macvlan`. */
export const macvlanDriver: Driver = {
  ...ON_A_PARENT,
  name: 'macvlan',

  validate(draft) {
    parseMacvlanConfig(draft)
    needFamily(draft)
  },

  checkHost(network, host, others) {
    const config = parseMacvlanConfig(network)
    for (const other of others) {
      const theirs = parseMacvlanConfig(other)
      if (theirs.parent.name !== config.parent.name) continue
      if (config.mode === 'passthru')
        throw new NetError(
          'internal',
          `cannot use mode passthru, macvlan network ${other.id} is already using parent interface ${config.parent.name}`,
        )
      if (theirs.mode === 'passthru')
        throw new NetError(
          'internal',
          `macvlan network ${other.id} is already using parent interface ${config.parent.name} in mode passthru`,
        )
    }
    checkParent(config.parent, host)
    if (config.hostAccess) checkShim(network, config.parent, host)
  },

  networkWanted(network) {
    const { parent, hostAccess } = parseMacvlanConfig(network)
    return { links: [...parentWanted(parent, network), ...(hostAccess ? [shimLink(network, parent)] : [])] }
  },

  membersWanted(network, members, host) {
    const { parent, hostAccess } = parseMacvlanConfig(network)
    return hostAccess ? [shimWithMembers(network, parent, members, host)] : []
  },

  endpointWanted(network: Network, endpoint: EndpointFacts) {
    const { parent, mode, mtu } = parseMacvlanConfig(network)
    const link: LinkSpec = {
      name: endpoint.ifname,
      netnsFd: endpoint.netnsFd,
      kind: 'macvlan',
      parent: parent.name,
      mode,
      ...(endpoint.mac === '' ? {} : { mac: endpoint.mac }),
      ...(mtu > 0 ? { mtu } : {}),
    }
    return { plug: { kind: 'born', link }, inside: insideOf(network, endpoint) }
  },

  gatewayOf: (network, _data, ips) =>
    network.internal || parseMacvlanConfig(network).parent.isDummy ? { ipv4: '', ipv6: '' } : gatewaysOf(network, ips),

  reachesOutside: (network) => !network.internal && !parseMacvlanConfig(network).parent.isDummy,

  /** In passthru mode the interface has the parent's MAC; another one would be set on the parent too. */
  macFor: (_ipv4, network) => (parseMacvlanConfig(network).mode === 'passthru' ? '' : undefined),
}

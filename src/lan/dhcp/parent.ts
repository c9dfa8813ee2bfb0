/** Over which interface of the host a network reaches the LAN's DHCP server. */
import { NetError } from '../../base/errors.ts'
import { parseBridgeConfig } from '../../drivers/bridge/config.ts'
import type { Options } from '../../drivers/options.ts'
import type { Rtnl } from '../../kernel/types.ts'

interface AskingNetwork {
  readonly id: string
  readonly internal: boolean
  readonly options: Options
}

/** The IPAM driver that this folder is. */
export const DHCP_IPAM = 'dhcp'

const NEEDS_PARENT =
  'IPAM driver dhcp needs an interface of the LAN: -o parent=NIC, or for a bridge that is there already -o com.docker.network.bridge.name=BRIDGE'

/** The interface on which a member of the network is asked for. `driver` may be missing in a draft: a parent then decides. Throws `invalid`. */
export function lanInterface(network: AskingNetwork, driver: string): string {
  const parent = network.options['parent'] ?? ''
  if (driver === 'bridge') return parseBridgeConfig(network).bridge
  if (parent === '') throw new NetError('invalid', NEEDS_PARENT)
  return parent
}

/**
 * The same for a network that is only being asked for: its bridge may not be there yet, or its NIC already be the port of another
 * network's bridge, where frames come in then. Throws `invalid` or `not-found`.
 */
export function lanInterfaceOfDraft(draft: AskingNetwork, rtnl: Rtnl): string {
  const parent = draft.options['parent'] ?? ''
  const dev = parent === '' ? (draft.options['com.docker.network.bridge.name'] ?? '') : parent
  if (dev === '') throw new NetError('invalid', NEEDS_PARENT)
  const link = rtnl.link(dev)
  if (link === undefined)
    throw new NetError(
      'not-found',
      `there is no interface ${dev} to ask a DHCP server on; with --subnet the network can be made before it`,
      { subject: dev },
    )
  return link.master === 0 ? dev : rtnl.nameOf(link.master)
}

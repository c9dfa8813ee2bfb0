/** The network below the tunnels. */
import { type Ip, splitPrefix } from '../../base/address.ts'
import type { Rtnl } from '../../kernel/types.ts'

/** MTU of the interface that has the advertised address, in bytes; 0 when no interface has it (address translation in between). */
export function underlayMtu(rtnl: Rtnl, vtep: Ip): number {
  const address = rtnl.addresses({ family: vtep.includes(':') ? 6 : 4 }).find((a) => splitPrefix(a.address).ip === vtep)
  return address === undefined ? 0 : (rtnl.link(address.dev)?.mtu ?? 0)
}

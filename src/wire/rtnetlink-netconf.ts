/**
 * RTM_NEWNETCONF: the notices about an interface's IP settings. Only forwarding matters here; most other sysctls send none.
 * Source: include/uapi/linux/netconf.h
 */
import { AttrReader, needHeader } from './netlink.ts'
import { PF_INET6 } from './rtnetlink.ts'

/** A family byte, padded to the alignment of attributes. */
const NETCONFMSG_BYTES = 4
const NETCONFA_IFINDEX = 1
const NETCONFA_FORWARDING = 2
/** Since Linux 6.17. */
const NETCONFA_FORCE_FORWARDING = 9

/** `conf/all` and `conf/default` have no interface. */
export const NETCONFA_IFINDEX_ALL = -1
export const NETCONFA_IFINDEX_DEFAULT = -2

export interface NetconfMessage {
  readonly family: 4 | 6
  /** Index of the interface, or one of the two numbers above. */
  readonly ifindex: number
  /** Undefined when the notice is about something else. For IPv6, `force_forwarding` where the notice has it. */
  readonly forwarding: boolean | undefined
}

/** Reads one notice. Throws NetError on a message that is too short. */
export function decodeNetconf(payload: Uint8Array): NetconfMessage {
  const view = needHeader(payload, NETCONFMSG_BYTES, 'netconfmsg')
  const family = view.getUint8(0) === PF_INET6 ? 6 : 4
  const r = new AttrReader(payload, NETCONFMSG_BYTES, payload.length, view)
  let ifindex = 0
  let forwarding: boolean | undefined
  let forced: boolean | undefined
  while (r.next()) {
    if (r.type === NETCONFA_IFINDEX) ifindex = r.u32() | 0
    else if (r.type === NETCONFA_FORWARDING) forwarding = r.u32() !== 0
    else if (r.type === NETCONFA_FORCE_FORWARDING) forced = r.u32() !== 0
  }
  return { family, ifindex, forwarding: forced ?? forwarding }
}

/** Socket diagnosis as bytes: which sockets are bound where. Source: include/uapi/linux/inet_diag.h, net/ipv4/inet_diag.c. */
import { type Ip, ipFromBytes } from '../base/address.ts'
import { AttrReader, type MessageWriter, type NetlinkMessage, needHeader } from './netlink.ts'

export const SOCK_DIAG_BY_FAMILY = 20

const AF_INET = 2
const AF_INET6 = 10
const TCP_CLOSE = 7
const TCP_LISTEN = 10
const INET_DIAG_SKV6ONLY = 11
const INET_DIAG_MSG_BYTES = 72
const PROTO_NUMBER = { tcp: 6, udp: 17, sctp: 132 } as const

export type DiagProto = keyof typeof PROTO_NUMBER

/** A socket that holds a port: a listening one, or for UDP any that is bound. */
export interface BoundSocket {
  readonly proto: DiagProto
  readonly ip: Ip
  readonly port: number
  /** A `::` socket that does not take IPv4 calls as well. */
  readonly v6Only: boolean
  /** Index of the interface it is bound to, 0 = any. */
  readonly ifindex: number
  readonly uid: number
  /** Number in `socket:[…]` links of /proc/<pid>/fd. */
  readonly inode: number
}

/** Body of a dump request for one family and protocol; `port` 0 = all. UDP sockets that are connected are included: they hold their port. */
export function writeSocketQuery(w: MessageWriter, family: 4 | 6, proto: DiagProto, port = 0): void {
  w.u8(family === 4 ? AF_INET : AF_INET6)
  w.u8(PROTO_NUMBER[proto])
  w.u8(0)
  w.u8(0)
  w.u32(proto === 'udp' ? (1 << TCP_CLOSE) | (1 << 1) : 1 << TCP_LISTEN)
  w.u16(((port & 255) << 8) | (port >> 8))
  for (let i = 0; i < 23; i++) w.u16(0) // the rest of inet_diag_sockid: anything
}

/** Reads one socket of a dump; undefined for one that holds no port. */
export function readSocket(message: NetlinkMessage, proto: DiagProto): BoundSocket | undefined {
  const { payload } = message
  const view = needHeader(payload, INET_DIAG_MSG_BYTES, 'inet_diag_msg')
  const family = view.getUint8(0)
  const port = view.getUint16(4, false)
  if (port === 0) return undefined
  const ip = ipFromBytes(payload.slice(8, family === AF_INET6 ? 24 : 12))
  let v6Only = false
  const r = new AttrReader(payload, INET_DIAG_MSG_BYTES)
  while (r.next()) if (r.type === INET_DIAG_SKV6ONLY) v6Only = r.u8() !== 0
  return { proto, ip, port, v6Only, ifindex: view.getUint32(40, true), uid: view.getUint32(64, true), inode: view.getUint32(68, true) }
}

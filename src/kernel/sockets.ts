/** Who holds a port on the host: asked of the kernel when a range is published without binding each port, and to name the holder in errors. */
import { familyOf, type Ip, parseIp } from '../base/address.ts'
import { isErrno } from '../base/errors.ts'
import type { Proto } from '../model/endpoint.ts'
import { NetlinkSocket } from '../sys/netlink-socket.ts'
import type { Netns } from '../sys/netns.ts'
import { findSocketOwners, type SocketOwner } from '../sys/socket-owner.ts'
import { type BoundSocket, readSocket, SOCK_DIAG_BY_FAMILY, writeSocketQuery } from '../wire/sockdiag.ts'

export type { BoundSocket } from '../wire/sockdiag.ts'

const NETLINK_SOCK_DIAG = 4
const ANY4 = parseIp('0.0.0.0')
const ANY6 = parseIp('::')
const MAPPED = '::ffff:'

/** Sockets of both families that hold a port: TCP and SCTP listeners, bound UDP sockets. `port` 0 = all. */
export function listBoundSockets(proto: Proto, port = 0, ns?: Netns): BoundSocket[] {
  const socket = NetlinkSocket.open(NETLINK_SOCK_DIAG, ns)
  try {
    return ([4, 6] as const).flatMap((family) =>
      socket.dump(
        `${proto} sockets`,
        SOCK_DIAG_BY_FAMILY,
        (w) => writeSocketQuery(w, family, proto, port),
        (message) => readSocket(message, proto),
      ),
    )
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [] // the kernel does not know this protocol (SCTP's module is not loaded)
    throw error
  } finally {
    socket.close()
  }
}

/** True when `socket` would refuse a bind of `ip` on its port. A bind of `::` is for IPv6 only, as ours are. */
export function overlaps(socket: BoundSocket, ip: Ip): boolean {
  if (socket.ip === ip) return true
  if (familyOf(ip) === 6) return familyOf(socket.ip) === 6 && !socket.ip.startsWith(MAPPED) && (ip === ANY6 || socket.ip === ANY6)
  if (socket.ip === ANY6) return !socket.v6Only
  const held = socket.ip.startsWith(MAPPED) ? socket.ip.slice(MAPPED.length) : socket.ip
  return familyOf(held as Ip) === 4 && (held === ip || held === ANY4 || ip === ANY4)
}

/**
 * Lowest port in [first, last] that is held on an address which overlaps `ip`, and by whom; undefined when all are free. `program` is
 * '' and `pid` 0 when no process owns the socket (the kernel's own, or it ended just now).
 */
export function findSocketUse(
  proto: Proto,
  ip: Ip,
  first: number,
  last: number,
  ns?: Netns,
): { port: number; program: string; pid: number } | undefined {
  let lowest: BoundSocket | undefined
  for (const socket of listBoundSockets(proto, first === last ? first : 0, ns))
    if (socket.port >= first && socket.port <= last && overlaps(socket, ip) && (lowest === undefined || socket.port < lowest.port))
      lowest = socket
  if (lowest === undefined) return undefined
  const owner: SocketOwner | undefined = findSocketOwners(new Set([lowest.inode])).get(lowest.inode)
  return { port: lowest.port, program: owner?.program ?? '', pid: owner?.pid ?? 0 }
}

/** {@link findSocketUse} bound to a namespace, in the form that the port mapper asks for. */
export function socketTable(ns?: Netns): { findUse: typeof findSocketUse } {
  return { findUse: (proto, ip, first, last) => findSocketUse(proto, ip, first, last, ns) }
}

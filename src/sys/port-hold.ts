/**
 * Holds host ports: a published port is really bound, so that a second user of it gets EADDRINUSE, and so do we when
 * somebody was first. The kernel's DNAT takes the traffic before it reaches the socket; what still arrives (while rules
 * are missing) is dropped by a socket filter instead of being answered by nobody.
 */
import { familyOf, type Ip, ipToBytes } from '../base/address.ts'
import {
  AF_INET,
  AF_INET6,
  addressOf,
  check,
  close,
  errno,
  kernelError,
  raw,
  SO_REUSEADDR,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
} from './libc.ts'

const SO_ATTACH_FILTER = 26
const IPPROTO_SCTP = 132
const IPPROTO_IPV6 = 41
const IPV6_V6ONLY = 26

/** A descriptor that holds one (protocol, address, port). */
export interface HeldPort {
  readonly fd: number
}

function sockaddr(ip: Ip, port: number): Uint8Array {
  const v6 = familyOf(ip) === 6
  const out = new Uint8Array(v6 ? 28 : 16)
  const view = new DataView(out.buffer)
  view.setUint16(0, v6 ? AF_INET6 : AF_INET, true)
  view.setUint16(2, port)
  out.set(ipToBytes(ip), v6 ? 8 : 4)
  return out
}

const int32 = (n: number) => {
  const out = new Uint8Array(4)
  new DataView(out.buffer).setInt32(0, n, true)
  return out
}

/** One BPF instruction, "return 0": every packet for this socket is dropped. */
function attachDropFilter(fd: number): void {
  const program = Uint8Array.from([0x06, 0, 0, 0, 0, 0, 0, 0])
  const fprog = new Uint8Array(16)
  const view = new DataView(fprog.buffer)
  view.setUint16(0, 1, true)
  view.setBigUint64(8, addressOf(program), true)
  check(raw.setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, fprog, 16), 'attach drop filter to', `fd ${fd}`)
}

/**
 * Binds (and for tcp and sctp listens on) a port of the engine's own namespace.
 * `accepting` sockets are left open for a relay; others drop whatever reaches them.
 * Throws `conflict` with errno EADDRINUSE when it is taken, EADDRNOTAVAIL when the address is not on this host.
 */
export function holdPort(proto: 'tcp' | 'udp' | 'sctp', ip: Ip, port: number, accepting = false): HeldPort {
  const family = familyOf(ip) === 6 ? AF_INET6 : AF_INET
  const type = (proto === 'udp' ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK
  const subject = `${ip.includes(':') ? `[${ip}]` : ip}:${port}/${proto}`
  const fd = raw.socket(family, type, proto === 'sctp' ? IPPROTO_SCTP : 0)
  if (fd < 0) {
    // a kernel without sctp sockets can still translate sctp: nobody else can bind it either
    if (proto === 'sctp') return { fd: -1 }
    throw kernelError('open socket for', subject, errno())
  }
  try {
    if (family === AF_INET6) check(raw.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, int32(1), 4), 'set IPV6_V6ONLY on', subject)
    // TIME_WAIT of relayed connections must not block a rebind; for udp it would allow two owners
    if (proto === 'tcp') check(raw.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, int32(1), 4), 'set SO_REUSEADDR on', subject)
    if (!accepting) attachDropFilter(fd)
    if (raw.bind(fd, sockaddr(ip, port), family === AF_INET6 ? 28 : 16) < 0) throw kernelError('bind', subject, errno())
    if (proto !== 'udp' && raw.listen(fd, accepting ? 512 : 1) < 0) throw kernelError('listen on', subject, errno())
    return { fd }
  } catch (error) {
    close(fd)
    throw error
  }
}

/** Frees the port for others. */
export function releasePort(held: HeldPort): void {
  if (held.fd >= 0) close(held.fd)
}

/**
 * Sockets of the DNS service as raw, non-blocking descriptors, and batched UDP.
 *
 * Nothing here waits: a call that would block reports "not now". IPv4 and IPv6 peers; listening is IPv4 loopback only,
 * because the resolver address of a container is 127.0.0.11.
 */
import { familyOf, type Ip, ipToBytes } from '../base/address.ts'
import {
  AF_INET,
  AF_INET6,
  addressOf,
  check,
  close,
  EAGAIN,
  EINTR,
  errno,
  kernelError,
  MSG_DONTWAIT,
  MSG_TRUNC,
  raw,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_REUSEADDR,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
} from './libc.ts'

const SOL_IP = 0
const SOL_TCP = 6
const IP_FREEBIND = 15
const TCP_NODELAY = 1
const SO_ERROR = 4
const MSG_NOSIGNAL = 0x4000
const EINPROGRESS = 115
/** The kernel doubles it and charges about 768 bytes for a small datagram: room for 20,000 waiting questions. */
const RECEIVE_BUFFER_BYTES = 8 << 20

/** Bytes outside the JavaScript heap: their address never changes, so the kernel may be given it. */
export function pinned(bytes: number): Buffer {
  return Buffer.from(new ArrayBuffer(bytes))
}

/** struct sockaddr_in or sockaddr_in6. */
export function sockaddr(ip: Ip, port: number): Buffer {
  const is6 = familyOf(ip) === 6
  const out = pinned(is6 ? 28 : 16)
  out.writeUInt16LE(is6 ? AF_INET6 : AF_INET, 0)
  out.writeUInt16BE(port, 2)
  out.set(ipToBytes(ip), is6 ? 8 : 4)
  return out
}

function setInt(fd: number, level: number, name: number, value: number): number {
  const bytes = pinned(4)
  bytes.writeInt32LE(value)
  return raw.setsockopt(fd, level, name, bytes, 4)
}

function growReceiveBuffer(fd: number): void {
  // FORCE needs CAP_NET_ADMIN in the namespace's user namespace; without it net.core.rmem_max caps the plain one
  if (setInt(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES) < 0) setInt(fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER_BYTES)
}

/** The local port of a bound socket. */
function localPort(fd: number): number {
  const address = pinned(28)
  check(raw.getsockname(fd, address, [28]), 'read address of', `fd ${fd}`)
  return address.readUInt16BE(2)
}

export interface BoundSocket {
  readonly fd: number
  readonly port: number
}

/**
 * Binds `ip:port` (0 = the kernel chooses) in the calling thread's namespace. Works before `lo` is up: the address need not exist yet.
 * Throws `conflict` when the port is taken.
 */
export function openDnsListener(proto: 'udp' | 'tcp', ip: Ip, port: number): BoundSocket {
  const type = proto === 'udp' ? SOCK_DGRAM : SOCK_STREAM
  const subject = `${proto} ${ip}:${port}`
  const fd = check(raw.socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), 'open', subject)
  try {
    check(setInt(fd, SOL_IP, IP_FREEBIND, 1), 'bind', subject)
    if (proto === 'tcp') setInt(fd, SOL_SOCKET, SO_REUSEADDR, 1)
    else growReceiveBuffer(fd)
    check(raw.bind(fd, sockaddr(ip, port), 16), 'bind', subject)
    if (proto === 'tcp') check(raw.listen(fd, 512), 'listen on', subject)
    return { fd, port: localPort(fd) }
  } catch (error) {
    close(fd)
    throw error
  }
}

/** A UDP socket that talks to one peer only, on a port that the kernel picks at random. Throws when there is no route. */
export function connectUdp(peer: Buffer): number {
  const fd = check(raw.socket(peer.readUInt16LE(0), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), 'open', 'UDP socket')
  growReceiveBuffer(fd)
  if (raw.connect(fd, peer, peer.length) === 0) return fd
  const error = errno()
  close(fd)
  throw kernelError('connect', 'UDP socket', error)
}

/** Begins a TCP connection; it is made when the descriptor becomes writable and {@link socketError} is 0. */
export function connectTcp(peer: Buffer): number {
  const fd = check(raw.socket(peer.readUInt16LE(0), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), 'open', 'TCP socket')
  setInt(fd, SOL_TCP, TCP_NODELAY, 1)
  if (raw.connect(fd, peer, peer.length) === 0) return fd
  const error = errno()
  if (error === EINPROGRESS) return fd
  close(fd)
  throw kernelError('connect', 'TCP socket', error)
}

/** The pending error of a socket (SO_ERROR), 0 for none. Reading clears it. */
export function socketError(fd: number): number {
  const value = pinned(4)
  return raw.getsockopt(fd, SOL_SOCKET, SO_ERROR, value, [4]) < 0 ? errno() : value.readInt32LE(0)
}

/** Next waiting connection, -1 when there is none, or a negative errno below -1. */
export function acceptTcp(fd: number): number {
  const conn = raw.accept4(fd, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC)
  if (conn >= 0) {
    setInt(conn, SOL_TCP, TCP_NODELAY, 1)
    return conn
  }
  const error = errno()
  return error === EAGAIN || error === EINTR ? -1 : -error
}

/** Bytes read; 0 = the peer has finished; -1 = nothing now; below -1: negative errno. */
export function receive(fd: number, into: Buffer): number {
  const n = Number(raw.recv(fd, into, into.length, MSG_DONTWAIT))
  if (n >= 0) return n
  const error = errno()
  return error === EAGAIN || error === EINTR ? -1 : -error
}

/** Bytes taken by the kernel; -1 = no room now; below -1: negative errno. */
export function transmit(fd: number, bytes: Uint8Array, length: number): number {
  const n = Number(raw.send(fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL))
  if (n >= 0) return n
  const error = errno()
  return error === EAGAIN || error === EINTR ? -1 : -error
}

/** One datagram to `peer` (IPv4 sockaddr). False when the kernel refused it. */
export function transmitTo(fd: number, bytes: Uint8Array, length: number, peer: Uint8Array): boolean {
  return Number(raw.sendto(fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL, peer, 16)) === length
}

const MMSG_BYTES = 64 // struct mmsghdr on 64-bit: msghdr 56 + msg_len 4 + padding 4
const IOV_BYTES = 16
const NAME_BYTES = 16
const MSG_LEN_AT = 56
const NAMELEN_AT = 8
const FLAGS_AT = 48

/**
 * Receives up to `size` datagrams with one system call and sends answers, written in place over the questions, with another.
 * One instance serves any number of sockets, one after the other: its contents are valid until the next {@link receive}.
 */
export class UdpBatch {
  readonly size: number
  /** Slot `i` holds datagram `i`, then the answer to it. */
  readonly slots: readonly Buffer[]
  /** sockaddr_in of the sender of datagram `i`. */
  readonly peers: readonly Buffer[]
  readonly #slotBytes: number
  readonly #headers: Buffer
  readonly #headerWords: Uint32Array
  readonly #iovWords: Uint32Array
  readonly #from: readonly Buffer[]
  #used: number

  constructor(size: number, slotBytes: number) {
    this.size = size
    this.#slotBytes = slotBytes
    const data = pinned(size * slotBytes)
    const names = pinned(size * NAME_BYTES)
    const iovs = pinned(size * IOV_BYTES)
    const headers = pinned(size * MMSG_BYTES)
    // the kernel follows these pointers: the views below keep what they point to
    for (let i = 0; i < size; i++) {
      const at = i * MMSG_BYTES
      headers.writeBigUInt64LE(addressOf(names) + BigInt(i * NAME_BYTES), at)
      headers.writeBigUInt64LE(addressOf(iovs) + BigInt(i * IOV_BYTES), at + 16)
      headers.writeBigUInt64LE(1n, at + 24)
      iovs.writeBigUInt64LE(addressOf(data) + BigInt(i * slotBytes), i * IOV_BYTES)
    }
    this.slots = Array.from({ length: size }, (_, i) => data.subarray(i * slotBytes, (i + 1) * slotBytes))
    this.peers = Array.from({ length: size }, (_, i) => names.subarray(i * NAME_BYTES, (i + 1) * NAME_BYTES))
    this.#from = Array.from({ length: size }, (_, i) => headers.subarray(i * MMSG_BYTES))
    this.#headers = headers
    this.#headerWords = new Uint32Array(headers.buffer)
    this.#iovWords = new Uint32Array(iovs.buffer)
    this.#used = size
  }

  /** Number of datagrams taken, 0 when none wait. An ICMP error that the socket carried counts as none. */
  receive(fd: number): number {
    for (let i = 0; i < this.#used; i++) {
      this.#headerWords[(i * MMSG_BYTES + NAMELEN_AT) >> 2] = NAME_BYTES
      this.#iovWords[(i * IOV_BYTES + 8) >> 2] = this.#slotBytes
    }
    const n = raw.recvmmsg(fd, this.#headers, this.size, MSG_DONTWAIT, null)
    this.#used = Math.max(n, 0)
    return this.#used
  }

  /** Length of datagram `i`; 0 when it was longer than a slot and therefore cut. */
  length(i: number): number {
    const at = i * MMSG_BYTES
    if (((this.#headerWords[(at + FLAGS_AT) >> 2] as number) & MSG_TRUNC) !== 0) return 0
    return this.#headerWords[(at + MSG_LEN_AT) >> 2] as number
  }

  /** Sets the length of the answer in slot `i`; 0 = do not answer. */
  setAnswer(i: number, length: number): void {
    this.#iovWords[(i * IOV_BYTES + 8) >> 2] = length
  }

  /** Sends the answers among the first `count` slots. Returns how many the kernel refused. */
  send(fd: number, count: number): number {
    let refused = 0
    for (let i = 0; i < count; ) {
      if (this.#answerLength(i) === 0) {
        i++
        continue
      }
      let end = i + 1
      while (end < count && this.#answerLength(end) !== 0) end++
      const sent = raw.sendmmsg(fd, this.#from[i] as Buffer, end - i, MSG_DONTWAIT | MSG_NOSIGNAL)
      if (sent > 0) i += sent
      else {
        // one message of the run cannot be sent (a filter in the sandbox, no buffer): leave it, go on with the next
        refused++
        i++
      }
    }
    return refused
  }

  #answerLength(i: number): number {
    return this.#iovWords[(i * IOV_BYTES + 8) >> 2] as number
  }
}

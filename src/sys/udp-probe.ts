/**
 * UDP datagrams in and out below the sockets of a port: a raw socket beside whoever owns the port. It sends with the don't-fragment bit, and
 * receives behind the host's own packet filter, where the owner of the port would (net/ipv4/ip_input.c ip_protocol_deliver_rcu): what a
 * firewall here drops does not arrive. The VXLAN devices of the kernel own UDP 4789 and cannot be asked what they have received.
 */
import { familyOf, type Ip, ipToBytes } from '../base/address.ts'
import { AF_INET, AF_INET6, closeSoon, errno, errnoName, kernelError, raw, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_RAW } from './libc.ts'
import { inNetns, type Netns } from './netns.ts'
import { attachFilter, type BpfInstruction } from './packet-tap.ts'

const IPPROTO_IP = 0
const IPPROTO_UDP = 17
const IPPROTO_IPV6 = 41
const IP_MTU_DISCOVER = 10
const IPV6_MTU_DISCOVER = 23
const IPV6_DONTFRAG = 62
/** Don't-fragment bit set, what the kernel believes of the path not asked (ip(7), IP_PMTUDISC_PROBE). */
const PMTUDISC_PROBE = 3

export interface UdpProbeSocket {
  /** Non-blocking; each recv is one packet: for IPv4 with its IP header, for IPv6 from the UDP header on. */
  readonly fd: number
  /** The datagram out of what recv gave. */
  datagram(packet: Uint8Array): Uint8Array
  /** Sends a datagram, header included. False when it is longer than the interface's MTU, or the kernel refuses it for another reason. */
  send(to: Ip, datagram: Uint8Array): boolean
  close(): void
}

/**
 * Opens a socket at a local address that receives datagrams to `port` whose second VXLAN word is `word`. Throws `denied`, and `not-found`
 * when the address is not this host's. `ns`: another namespace than the process's own.
 */
export function openUdpProbe(local: Ip, port: number, word: number, ns?: Netns): UdpProbeSocket {
  const is4 = familyOf(local) === 4
  const open = () => raw.socket(is4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP) as number
  const fd = ns === undefined ? open() : inNetns(ns, open)
  if (fd < 0) throw kernelError('open raw UDP socket at', local, errno())
  try {
    attachFilter(fd, is4 ? filter4(port, word) : filter6(port, word))
    const own = sockaddr(local)
    if (raw.bind(fd, own, own.length) < 0) throw kernelError('bind raw UDP socket to', local, errno())
    set(fd, is4 ? IPPROTO_IP : IPPROTO_IPV6, is4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
    if (!is4) set(fd, IPPROTO_IPV6, IPV6_DONTFRAG, 1)
  } catch (error) {
    closeSoon(fd)
    throw error
  }
  return {
    fd,
    datagram: (packet) => (is4 ? packet.subarray(((packet[0] ?? 0x45) & 0xf) * 4) : packet),
    send(to, datagram) {
      const peer = sockaddr(to)
      return familyOf(to) === familyOf(local) && Number(raw.sendto(fd, datagram, datagram.length, 0, peer, peer.length)) >= 0
    },
    close() {
      closeSoon(fd)
    },
  }
}

function set(fd: number, level: number, name: number, value: number): void {
  if (raw.setsockopt(fd, level, name, Uint8Array.of(value, 0, 0, 0), 4) < 0)
    throw kernelError('set option of', `raw UDP socket: ${errnoName(errno())}`, errno())
}

/** struct sockaddr_in or sockaddr_in6, without a port: raw sockets have none. */
function sockaddr(ip: Ip): Uint8Array {
  const is4 = familyOf(ip) === 4
  const out = new Uint8Array(is4 ? 16 : 28)
  new DataView(out.buffer).setUint16(0, is4 ? AF_INET : AF_INET6, true)
  out.set(ipToBytes(ip), is4 ? 4 : 8)
  return out
}

function filter4(port: number, word: number): BpfInstruction[] {
  return [
    [0xb1, 0, 0, 0], // ldxb 4*([0]&0xf)
    [0x48, 0, 0, 2], // ldh  [x + 2]
    [0x15, 0, 3, port], // jeq  #port
    [0x40, 0, 0, 12], // ld   [x + 12]
    [0x15, 0, 1, word], // jeq  #word
    [0x06, 0, 0, 0x40000], // ret  whole packet
    [0x06, 0, 0, 0], // ret  nothing
  ]
}

function filter6(port: number, word: number): BpfInstruction[] {
  return [
    [0x28, 0, 0, 2], // ldh  [2]
    [0x15, 0, 3, port], // jeq  #port
    [0x20, 0, 0, 12], // ld   [12]
    [0x15, 0, 1, word], // jeq  #word
    [0x06, 0, 0, 0x40000], // ret  whole packet
    [0x06, 0, 0, 0], // ret  nothing
  ]
}

/**
 * Raw Ethernet frames in and out of one interface (AF_PACKET), for protocols that are spoken on behalf of a MAC whose interface does
 * not exist yet. Before bridges and macvlans take a frame away, every tap sees it (net/core/dev.c __netif_receive_skb_core).
 */
import { AF_PACKET, addressOf, closeSoon, errno, kernelError, raw, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_RAW, SOL_SOCKET } from './libc.ts'
import { inNetns, type Netns } from './netns.ts'

const ETH_P_ALL = 3
const SO_ATTACH_FILTER = 26
const SOL_PACKET = 263
const PACKET_ADD_MEMBERSHIP = 1
const PACKET_IGNORE_OUTGOING = 23
const PACKET_MR_PROMISC = 1

/** One instruction of a classic BPF program: code, jump when true, jump when false, operand. */
export type BpfInstruction = readonly [code: number, jt: number, jf: number, k: number]

/** IPv4, UDP, not a later fragment, destination port `port`. */
export function udpPortFilter(port: number): BpfInstruction[] {
  return [
    [0x28, 0, 0, 12], // ldh  [12]
    [0x15, 0, 8, 0x0800], // jeq  #0x800
    [0x30, 0, 0, 23], // ldb  [23]
    [0x15, 0, 6, 17], // jeq  #17
    [0x28, 0, 0, 20], // ldh  [20]
    [0x45, 4, 0, 0x1fff], // jset #0x1fff
    [0xb1, 0, 0, 14], // ldxb 4*([14]&0xf)
    [0x48, 0, 0, 16], // ldh  [x + 16]
    [0x15, 0, 1, port], // jeq  #port
    [0x06, 0, 0, 0x40000], // ret  whole frame
    [0x06, 0, 0, 0], // ret  nothing
  ]
}

/** ARP. */
export function arpFilter(): BpfInstruction[] {
  return [
    [0x28, 0, 0, 12], // ldh  [12]
    [0x15, 0, 1, 0x0806], // jeq  #0x806
    [0x06, 0, 0, 0x40000], // ret  whole frame
    [0x06, 0, 0, 0], // ret  nothing
  ]
}

export interface PacketTap {
  /** Non-blocking; give it to the reactor. Each recv is one frame. */
  readonly fd: number
  /** Sends a whole frame, Ethernet header included. Throws what the kernel answers (ENETDOWN, ENXIO...). */
  send(frame: Uint8Array): void
  close(): void
}

/**
 * Opens a tap on an interface of `ns` that receives what `filter` lets through and nothing that this machine sends there. The
 * interface is promiscuous for as long as the tap is open. Throws `not-found` when it has gone.
 */
export function openPacketTap(ns: Netns, ifindex: number, filter: readonly BpfInstruction[]): PacketTap {
  // protocol 0 until the filter is there: no unfiltered frame is ever queued
  const fd = inNetns(ns, () => raw.socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) as number)
  if (fd < 0) throw kernelError('open packet socket in', ns.path, errno())
  const subject = `interface ${ifindex}`
  const address = new Uint8Array(20)
  const link = new DataView(address.buffer)
  link.setUint16(0, AF_PACKET, true)
  link.setInt32(4, ifindex, true)
  try {
    attachFilter(fd, filter)
    setOption(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, Uint8Array.of(1, 0, 0, 0)) // before 4.20 the receiver sorts them out
    link.setUint16(2, ETH_P_ALL) // network order
    if (raw.bind(fd, address, address.length) < 0) throw kernelError('bind packet socket to', subject, errno())
    const membership = new DataView(new ArrayBuffer(16))
    membership.setInt32(0, ifindex, true)
    membership.setUint16(4, PACKET_MR_PROMISC, true)
    setOption(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, new Uint8Array(membership.buffer))
  } catch (error) {
    closeSoon(fd)
    throw error
  }
  link.setUint16(2, 0)
  return {
    fd,
    send(frame) {
      if (Number(raw.sendto(fd, frame, frame.length, 0, address, address.length)) < 0) throw kernelError('send frame on', subject, errno())
    },
    close() {
      closeSoon(fd) // packet_release() waits for an RCU grace period
    },
  }
}

/** An option that the kernel does not know or take is passed over: the tap works without it. */
function setOption(fd: number, level: number, name: number, value: Uint8Array): void {
  raw.setsockopt(fd, level, name, value, value.length)
}

/** struct sock_fprog with its program behind it, in one buffer, so that both live through the call. */
export function attachFilter(fd: number, filter: readonly BpfInstruction[]): void {
  const bytes = new Uint8Array(16 + filter.length * 8)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, filter.length, true)
  view.setBigUint64(8, addressOf(bytes) + 16n, true)
  filter.forEach(([code, jt, jf, k], i) => {
    const at = 16 + i * 8
    view.setUint16(at, code, true)
    view.setUint8(at + 2, jt)
    view.setUint8(at + 3, jf)
    view.setUint32(at + 4, k, true)
  })
  if ((raw.setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, bytes, 16) as number) < 0)
    throw kernelError('attach filter of', `${filter.length} instructions`, errno())
}

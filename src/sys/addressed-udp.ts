/**
 * A UDP socket on IPv6 that says at which of the host's addresses a datagram arrived, and answers from that same address
 * (IPV6_PKTINFO, RFC 3542 section 6). Node's dgram can do neither: on a socket bound to `::` the kernel picks the source by
 * route, and a client that asked another address of the host takes the answer for a stranger's.
 */
import { addressOf, check, MSG_DONTWAIT, raw } from './libc.ts'

const IPPROTO_IPV6 = 41
const IPV6_RECVPKTINFO = 49
const IPV6_PKTINFO = 50

const LONGEST_DATAGRAM = 65_535
/** struct sockaddr_in6. */
const PEER_BYTES = 28
/** struct cmsghdr on 64-bit: length 8, level 4, type 4; then struct in6_pktinfo: address 16, interface index 4; padding 4. */
const CONTROL_BYTES = 40
const CONTROL_LENGTH = 36
const PKTINFO_AT = 16
const ADDRESS_BYTES = 16
/** struct mmsghdr on 64-bit: msghdr 56, msg_len 4, padding 4. */
const MESSAGE_BYTES = 64
const CONTROL_LENGTH_AT = 40
const MESSAGE_LENGTH_AT = 56

export interface AddressedDatagram {
  readonly data: Uint8Array
  /** struct sockaddr_in6 of the sender, scope included. */
  readonly peer: Uint8Array
  /** struct in6_pktinfo: the host's address it was sent to, and the interface it came in by. */
  readonly at: Uint8Array
}

/** One message header with its buffers, outside the JavaScript heap: the kernel follows the pointers. */
class Message {
  readonly data: Buffer
  readonly peer = Buffer.from(new ArrayBuffer(PEER_BYTES))
  readonly control = Buffer.from(new ArrayBuffer(CONTROL_BYTES))
  readonly header = Buffer.from(new ArrayBuffer(MESSAGE_BYTES))
  readonly #vector = Buffer.from(new ArrayBuffer(16))

  constructor(room: number) {
    this.data = Buffer.from(new ArrayBuffer(room))
    this.header.writeBigUInt64LE(addressOf(this.peer), 0)
    this.header.writeBigUInt64LE(addressOf(this.#vector), 16)
    this.header.writeBigUInt64LE(1n, 24)
    this.header.writeBigUInt64LE(addressOf(this.control), 32)
    this.#vector.writeBigUInt64LE(addressOf(this.data), 0)
    this.reset(room)
  }

  /** Before each call: the kernel writes the lengths that it used. */
  reset(length: number): void {
    this.header.writeUInt32LE(PEER_BYTES, 8)
    this.header.writeBigUInt64LE(BigInt(CONTROL_BYTES), CONTROL_LENGTH_AT)
    this.#vector.writeBigUInt64LE(BigInt(length), 8)
  }
}

export class AddressedUdp {
  readonly #fd: number
  readonly #message = new Message(LONGEST_DATAGRAM)

  /** `fd`: a bound, non-blocking AF_INET6 datagram socket, which stays the caller's. */
  constructor(fd: number) {
    this.#fd = fd
    const on = new Uint8Array([1, 0, 0, 0])
    check(raw.setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, on, on.length), 'set IPV6_RECVPKTINFO on', `fd ${fd}`)
  }

  /** The next waiting datagram, copied out; undefined when none waits. */
  receive(): AddressedDatagram | undefined {
    const { data, peer, control, header } = this.#message
    this.#message.reset(LONGEST_DATAGRAM)
    if (raw.recvmmsg(this.#fd, header, 1, MSG_DONTWAIT, null) !== 1) return undefined
    return {
      data: Buffer.from(data.subarray(0, header.readUInt32LE(MESSAGE_LENGTH_AT))),
      peer: Buffer.from(peer),
      at: Buffer.from(control.subarray(PKTINFO_AT, PKTINFO_AT + ADDRESS_BYTES + 4)),
    }
  }

  /** Answers the sender of `to` from the address that it asked. False when the kernel refused: as good as lost on the way. */
  answer(to: Pick<AddressedDatagram, 'peer' | 'at'>, bytes: Uint8Array): boolean {
    const { data, peer, control, header } = this.#message
    this.#message.reset(Math.min(bytes.length, LONGEST_DATAGRAM))
    data.set(bytes.subarray(0, LONGEST_DATAGRAM))
    peer.set(to.peer)
    control.writeBigUInt64LE(BigInt(CONTROL_LENGTH), 0)
    control.writeInt32LE(IPPROTO_IPV6, 8)
    control.writeInt32LE(IPV6_PKTINFO, 12)
    control.set(to.at, PKTINFO_AT)
    // only a link-local address needs its interface; for others the route decides, which need not be the way that the question took
    if (!isLinkLocal(to.at)) control.writeInt32LE(0, PKTINFO_AT + ADDRESS_BYTES)
    return raw.sendmmsg(this.#fd, header, 1, MSG_DONTWAIT) === 1
  }
}

/** fe80::/10 */
const isLinkLocal = (address: Uint8Array): boolean => address[0] === 0xfe && ((address[1] as number) & 0xc0) === 0x80

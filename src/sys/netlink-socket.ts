/**
 * A netlink socket for requests: every method sends, waits for the kernel's answer and returns, all on this thread.
 * The kernel answers while `send` runs, so nothing here waits longer than the kernel works; SO_RCVTIMEO bounds the rest.
 * A socket belongs for life to the namespace in which it was opened. Notifications are read by the reactor instead.
 */
import { endianness } from 'node:os'
import { NetError } from '../base/errors.ts'
import {
  decodeAck,
  MessageWriter,
  type NetlinkAck,
  type NetlinkMessage,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_OVERRUN,
  splitMessages,
} from '../wire/netlink.ts'
import {
  AF_NETLINK,
  check,
  close,
  closeSoon,
  EINTR,
  ENOBUFS,
  errno,
  errnoName,
  kernelError,
  MSG_TRUNC,
  raw,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_RCVTIMEO,
  SOCK_CLOEXEC,
  SOCK_RAW,
  SOL_SOCKET,
} from './libc.ts'
import { inNetns, type Netns } from './netns.ts'

export const NETLINK_ROUTE = 0
export const NETLINK_NETFILTER = 12

const SOL_NETLINK = 270
const NETLINK_ADD_MEMBERSHIP = 1
const NETLINK_CAP_ACK = 10
const NETLINK_EXT_ACK = 11
const NETLINK_GET_STRICT_CHK = 12

const SIOCGSKNS = 0x894c

const RECEIVE_TIMEOUT_SECONDS = 10
const RECEIVE_BUFFER_BYTES = 1 << 20
/** A dump fills at most 32 KiB per receive (net/netlink/af_netlink.c netlink_dump); one answer can be longer. */
const FIRST_BUFFER_BYTES = 64 * 1024
const LARGEST_ANSWER_BYTES = 16 << 20
/** Receive buffers of closed sockets, for the next ones: most sockets live for one attachment. */
const spare: Uint8Array[] = []
const SPARE_BUFFERS = 4
const NOTHING = new Uint8Array(0)
/** Refusals in one batch each take receive buffer until they are read. */
const BATCH_MESSAGES = 128
const DUMP_TRIES = 20

/** One request of a batch: `write` puts the fixed header and the attributes. */
export interface NetlinkRequest {
  readonly type: number
  /** Besides NLM_F_REQUEST, which is always set. */
  readonly flags: number
  write(w: MessageWriter): void
}

/** Thrown inside to start an exchange again: a longer buffer is ready, or a dump was torn. */
const AGAIN = Symbol('again')

function setU32(fd: number, level: number, name: number, value: number): boolean {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value, true)
  return raw.setsockopt(fd, level, name, bytes, 4) === 0
}

/**
 * Opens and binds a netlink descriptor in `ns` (the calling thread's namespace when absent), with extended
 * acknowledgements, strict dump filters and a receive buffer of `receiveBytes`. The caller closes it.
 */
export function openNetlinkFd(protocol: number, ns?: Netns, groups: readonly number[] = [], receiveBytes = RECEIVE_BUFFER_BYTES): number {
  if (endianness() !== 'LE') throw new NetError('not-implemented', 'netlink messages are written for little-endian machines only')
  const make = () => check(raw.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol), 'open netlink socket', String(protocol))
  const fd = ns === undefined ? make() : inNetns(ns, make)
  try {
    const address = new Uint8Array(12)
    address[0] = AF_NETLINK
    // Also without groups: a socket without a port id is skipped by multicasts that the kernel itself sends.
    check(raw.bind(fd, address, address.length), 'bind netlink socket', String(protocol))
    setU32(fd, SOL_NETLINK, NETLINK_CAP_ACK, 1)
    setU32(fd, SOL_NETLINK, NETLINK_EXT_ACK, 1)
    setU32(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
    // FORCE needs CAP_NET_ADMIN in the first user namespace; without it net.core.rmem_max is the limit.
    if (!setU32(fd, SOL_SOCKET, SO_RCVBUFFORCE, receiveBytes)) setU32(fd, SOL_SOCKET, SO_RCVBUF, receiveBytes)
    for (const group of groups)
      if (!setU32(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)) throw kernelError('join netlink group', String(group), errno())
    return fd
  } catch (error) {
    close(fd)
    throw error
  }
}

export class NetlinkSocket {
  readonly fd: number
  #open = true
  #seq = 1
  #buffer: Uint8Array = spare.pop() ?? uncleared(FIRST_BUFFER_BYTES)
  readonly #writer = new MessageWriter(1024)

  readonly #protocol: number

  private constructor(fd: number, protocol: number) {
    this.fd = fd
    this.#protocol = protocol
  }

  /** Opens a socket in `ns`, or in this process's own namespace. Close it with {@link close}. */
  static open(protocol: number, ns?: Netns): NetlinkSocket {
    const fd = openNetlinkFd(protocol, ns)
    const timeout = new Uint8Array(16)
    new DataView(timeout.buffer).setUint32(0, RECEIVE_TIMEOUT_SECONDS, true)
    raw.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeout, timeout.length)
    return new NetlinkSocket(fd, protocol)
  }

  /** Another socket of the same protocol and namespace, whatever has become of the namespace's file since. */
  sibling(): NetlinkSocket {
    const fd = check(raw.ioctl(this.fd, SIOCGSKNS, new Uint8Array(4)), 'find network namespace of', 'netlink socket')
    try {
      return NetlinkSocket.open(this.#protocol, { fd, inode: 0, path: 'of a socket' })
    } finally {
      close(fd)
    }
  }

  /** Idempotent. */
  close(): void {
    if (!this.#open) return
    this.#open = false
    // only a netfilter socket makes its closer wait; a thread of the pool costs more than the close itself
    if (this.#protocol === NETLINK_NETFILTER) closeSoon(this.fd)
    else close(this.fd)
    if (this.#buffer.length === FIRST_BUFFER_BYTES && spare.length < SPARE_BUFFERS) spare.push(this.#buffer)
    this.#buffer = NOTHING
  }

  /** Sends one request and returns its acknowledgement; a refusal is a value with `errno`, not an exception. */
  request(type: number, flags: number, write: (w: MessageWriter) => void): NetlinkAck {
    const w = this.#writer
    w.reset()
    const seq = this.#nextSeq()
    w.begin(type, NLM_F_REQUEST | NLM_F_ACK | flags, seq)
    write(w)
    w.end()
    this.#send()
    for (;;) for (const message of this.#receive()) if (message.seq === seq && message.type === NLMSG_ERROR) return decodeAck(message)
  }

  /**
   * Like {@link request}, but the kernel's work is done on a thread of the FFI's pool: for requests that wait long, such as
   * the deletion of links. The socket must not be used for anything else until the promise settles.
   */
  async requestInBackground(type: number, flags: number, write: (w: MessageWriter) => void): Promise<NetlinkAck> {
    return this.requestsInBackground([{ type, flags, write }])
  }

  /**
   * Several requests in one system call on that thread. The kernel runs every one of them, also behind a refused one; only the
   * last one's acknowledgement is returned.
   */
  async requestsInBackground(requests: readonly NetlinkRequest[]): Promise<NetlinkAck> {
    const w = new MessageWriter(256)
    let seq = 0
    for (const request of requests) {
      seq = this.#nextSeq()
      const ack = request === requests.at(-1) ? NLM_F_ACK : 0
      w.begin(request.type, NLM_F_REQUEST | ack | request.flags, seq)
      request.write(w)
      w.end()
    }
    const bytes = w.bytes()
    const sent = await new Promise<number>((resolve, reject) => {
      raw.send.async(this.fd, bytes, bytes.length, 0, (error: unknown, result: number | bigint) => {
        if (error) reject(error)
        else resolve(Number(result))
      })
    })
    if (sent < 0) throw new NetError('internal', 'Cannot send to netlink socket', { op: 'send to netlink socket' })
    // The answer was queued while send ran: this does not wait.
    for (;;) for (const message of this.#receive()) if (message.seq === seq && message.type === NLMSG_ERROR) return decodeAck(message)
  }

  /**
   * Sends the requests with as few system calls as possible and returns their acknowledgements in order. The kernel
   * runs every one of them, also those behind a refused one: for independent requests only.
   */
  batch(requests: readonly NetlinkRequest[]): NetlinkAck[] {
    const acks: NetlinkAck[] = []
    for (let from = 0; from < requests.length; from += BATCH_MESSAGES)
      acks.push(...this.#batch(requests.slice(from, from + BATCH_MESSAGES)))
    return acks
  }

  #batch(requests: readonly NetlinkRequest[]): NetlinkAck[] {
    const w = this.#writer
    w.reset()
    const first = this.#seq + 1
    requests.forEach((request, i) => {
      // Refusals are always reported. Only the last success is: it says that all before it were run.
      const ack = i === requests.length - 1 ? NLM_F_ACK : 0
      w.begin(request.type, NLM_F_REQUEST | ack | request.flags, this.#nextSeq())
      request.write(w)
      w.end()
    })
    this.#send()
    const acks: NetlinkAck[] = requests.map(() => ({ errno: 0, text: '' }))
    for (;;) {
      for (const message of this.#receive()) {
        const at = message.seq - first
        if (message.type !== NLMSG_ERROR || at < 0 || at >= acks.length) continue
        acks[at] = decodeAck(message)
        if (at === acks.length - 1) return acks
      }
    }
  }

  /** Sends one question that has one answer. Returns what `decode` makes of it, or the kernel's refusal. */
  query<T>(type: number, flags: number, write: (w: MessageWriter) => void, decode: (message: NetlinkMessage) => T): T | NetlinkAck {
    return this.#again(`message type ${type}`, () => {
      const w = this.#writer
      w.reset()
      const seq = this.#nextSeq()
      w.begin(type, NLM_F_REQUEST | flags, seq)
      write(w)
      w.end()
      this.#send()
      for (;;)
        for (const message of this.#receive())
          if (message.seq === seq) return message.type === NLMSG_ERROR ? decodeAck(message) : decode(message)
    })
  }

  /**
   * Lists: `decode` sees every object and returns undefined to leave one out. A dump that a concurrent change has torn
   * (NLM_F_DUMP_INTR) is read again, up to 20 times, then `busy`. `what` is for the error's text.
   */
  dump<T>(what: string, type: number, write: (w: MessageWriter) => void, decode: (message: NetlinkMessage) => T | undefined): T[] {
    return this.#again(what, () => {
      const w = this.#writer
      w.reset()
      const seq = this.#nextSeq()
      w.begin(type, NLM_F_REQUEST | NLM_F_DUMP, seq)
      write(w)
      w.end()
      this.#send()
      const out: T[] = []
      let torn = false
      for (;;) {
        for (const message of this.#receive()) {
          if (message.seq !== seq) continue
          torn ||= (message.flags & NLM_F_DUMP_INTR) !== 0
          if (message.type === NLMSG_DONE || message.type === NLMSG_ERROR) {
            const ack = message.payload.length >= 4 ? decodeAck(message) : { errno: 0, text: '' }
            if (errnoName(ack.errno) === 'EINTR') torn = true
            else if (ack.errno !== 0) throw kernelError('list', what, ack.errno, ack.text)
            if (torn) throw AGAIN
            return out
          }
          const item = decode(message)
          if (item !== undefined) out.push(item)
        }
      }
    })
  }

  #nextSeq(): number {
    this.#seq = this.#seq >= 0x7fffffff ? 1 : this.#seq + 1
    return this.#seq
  }

  #again<T>(what: string, exchange: () => T): T {
    for (let attempt = 1; ; attempt++) {
      try {
        return exchange()
      } catch (error) {
        if (error !== AGAIN) throw error
        if (attempt >= DUMP_TRIES)
          throw new NetError('busy', `Cannot list "${what}": it changed during each of ${attempt} readings`, { op: 'list', subject: what })
      }
    }
  }

  #send(): void {
    if (!this.#open) throw new NetError('internal', 'Cannot use netlink socket: it is closed')
    const bytes = this.#writer.bytes()
    while (raw.send(this.fd, bytes, bytes.length, 0) < 0) {
      const error = errno()
      if (error !== EINTR) throw kernelError('send to netlink socket', `${bytes.length} bytes`, error)
    }
  }

  /** One receive. The messages are views into the buffer. */
  #receive(): NetlinkMessage[] {
    for (;;) {
      const got = Number(raw.recv(this.fd, this.#buffer, this.#buffer.length, MSG_TRUNC))
      if (got > this.#buffer.length) {
        if (got > LARGEST_ANSWER_BYTES) throw new NetError('internal', `Cannot read netlink answer: it has ${got} bytes`)
        this.#buffer = uncleared(2 ** Math.ceil(Math.log2(got)))
        throw AGAIN
      }
      if (got >= 0) {
        const messages = splitMessages(this.#buffer.subarray(0, got))
        for (const message of messages) if (message.type === NLMSG_OVERRUN) throw overrun()
        return messages
      }
      const error = errno()
      if (error === EINTR) continue
      if (error === ENOBUFS) throw overrun()
      throw kernelError('receive from netlink socket', String(this.fd), error)
    }
  }
}

/** A plain Uint8Array: Buffer's slice() would hand out views where copies are expected. */
function uncleared(bytes: number): Uint8Array {
  const buffer = Buffer.allocUnsafeSlow(bytes)
  return new Uint8Array(buffer.buffer, buffer.byteOffset, bytes)
}

function overrun(): NetError {
  return new NetError('unavailable', 'Cannot read netlink answers: the receive buffer overran, some were lost', { errno: 'ENOBUFS' })
}

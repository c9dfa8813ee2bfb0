/**
 * One upstream server: its health and its sockets.
 *
 * Questions go out through a few connected UDP sockets on random ports, chosen at random per question and replaced after some use, each
 * with a random id: a forger must guess both (RFC 5452). A connected socket also takes answers from that server only, and reports at once
 * when nobody listens there.
 */
import type { Ip } from '../base/address.ts'
import { connectTcp, connectUdp, pinned, receive, sockaddr, socketError, transmit } from '../sys/dns-sockets.ts'
import type { Epoll } from '../sys/epoll.ts'
import { close, EPOLLIN, EPOLLOUT } from '../sys/libc.ts'
import { inNetns, type Netns } from '../sys/netns.ts'
import { HEADER_BYTES, putU16, sameQuestion, u16 } from '../wire/dns-scan.ts'
import { UpstreamHealth } from './health.ts'

const SLOTS = 16
const USES_PER_SOCKET = 256
const IDLE_SOCKET_MS = 5000
const ANSWERS_PER_TURN = 64
/** A question is forgotten after this long; a later answer is not looked at. */
export const EXCHANGE_TIMEOUT_MS = 4000

/** What came back: the message, or undefined when the server cannot be reached. */
export type ExchangeEnd = (message: Uint8Array | undefined, nowMs: number) => void

interface Exchange {
  readonly query: Uint8Array
  readonly sentMs: number
  readonly end: ExchangeEnd
}

interface UdpSocket {
  readonly fd: number
  readonly pending: Map<number, Exchange>
  uses: number
  usedMs: number
}

interface TcpExchange extends Exchange {
  readonly fd: number
  readonly out: Buffer
  written: number
  input: Buffer
}

export interface UpstreamContext {
  readonly epoll: Epoll
  readonly now: () => number
  readonly random: () => number
  /** Scratch for one message of any size; holds nothing between calls. */
  readonly scratch: Buffer
}

export class Upstream {
  readonly health = new UpstreamHealth()
  readonly ip: Ip
  readonly port: number
  readonly from: 'host' | 'sandbox'
  readonly #ns: Netns | undefined
  readonly #peer: Buffer
  readonly #context: UpstreamContext
  readonly #slots: (UdpSocket | undefined)[] = new Array(SLOTS).fill(undefined)
  readonly #sockets = new Set<UdpSocket>()
  readonly #streams = new Set<TcpExchange>()

  /** `ns` = the namespace to ask from; undefined = the thread's own. */
  constructor(ip: Ip, port: number, ns: Netns | undefined, context: UpstreamContext) {
    this.ip = ip
    this.port = port
    this.from = ns === undefined ? 'host' : 'sandbox'
    this.#ns = ns
    this.#peer = sockaddr(ip, port)
    this.#context = context
  }

  /** True while it holds descriptors; {@link sweep} must then be called about once a second. */
  get isActive(): boolean {
    return this.#sockets.size + this.#streams.size > 0
  }

  /** Sends a question (its id is replaced by a random one). False when it cannot be sent; `end` is then not called. */
  askUdp(query: Uint8Array, end: ExchangeEnd): boolean {
    const now = this.#context.now()
    try {
      const socket = this.#pickSocket()
      let id = this.#context.random() & 0xffff
      while (socket.pending.has(id)) id = this.#context.random() & 0xffff
      putU16(query, 0, id)
      const n = transmit(socket.fd, query, query.length)
      if (n !== query.length) {
        if (n < -1) this.#drop(socket, now)
        return false
      }
      socket.pending.set(id, { query, sentMs: now, end })
      socket.uses++
      socket.usedMs = now
      this.health.noteSent(now)
      return true
    } catch {
      // no route, no descriptor left, namespace gone: for this question it is all the same
      this.health.noteUnreachable(now)
      return false
    }
  }

  /** The same over TCP, one connection per question. */
  askTcp(query: Uint8Array, end: ExchangeEnd): boolean {
    const now = this.#context.now()
    try {
      putU16(query, 0, this.#context.random() & 0xffff)
      const fd = this.#inside(() => connectTcp(this.#peer))
      const out = pinned(query.length + 2)
      out.writeUInt16BE(query.length)
      out.set(query, 2)
      const exchange: TcpExchange = { query, sentMs: now, end, fd, out, written: 0, input: Buffer.alloc(0) }
      this.#streams.add(exchange)
      this.#context.epoll.add(fd, EPOLLOUT, () => this.#onStream(exchange))
      this.health.noteSent(now)
      return true
    } catch {
      this.health.noteUnreachable(now)
      return false
    }
  }

  /** Forgets questions that were never answered and closes idle sockets. */
  sweep(nowMs: number): void {
    for (const socket of [...this.#sockets]) {
      for (const [id, exchange] of socket.pending) {
        if (nowMs - exchange.sentMs < EXCHANGE_TIMEOUT_MS) break // oldest first
        socket.pending.delete(id)
        this.health.noteTimeout()
      }
      if (socket.pending.size === 0 && (nowMs - socket.usedMs > IDLE_SOCKET_MS || !this.#slots.includes(socket)))
        this.#drop(socket, undefined)
    }
    for (const stream of [...this.#streams]) {
      if (nowMs - stream.sentMs < EXCHANGE_TIMEOUT_MS) continue
      this.health.noteTimeout()
      this.#endStream(stream, undefined)
    }
  }

  /** Closes everything; questions on their way get no answer. */
  close(): void {
    for (const socket of [...this.#sockets]) this.#drop(socket, undefined)
    for (const stream of [...this.#streams]) this.#closeStream(stream)
  }

  #inside(open: () => number): number {
    return this.#ns === undefined ? open() : inNetns(this.#ns, open)
  }

  #pickSocket(): UdpSocket {
    const slot = this.#context.random() % SLOTS
    const present = this.#slots[slot]
    if (present !== undefined && present.uses < USES_PER_SOCKET) return present
    const fd = this.#inside(() => connectUdp(this.#peer))
    const socket: UdpSocket = { fd, pending: new Map(), uses: 0, usedMs: this.#context.now() }
    this.#context.epoll.add(fd, EPOLLIN, () => this.#onDatagrams(socket))
    this.#sockets.add(socket)
    this.#slots[slot] = socket
    if (present?.pending.size === 0) this.#drop(present, undefined)
    return socket
  }

  #onDatagrams(socket: UdpSocket): void {
    const { scratch, now } = this.#context
    for (let i = 0; i < ANSWERS_PER_TURN; i++) {
      const n = receive(socket.fd, scratch)
      if (n === -1) return
      if (n < -1) {
        this.#drop(socket, now())
        return
      }
      if (n < HEADER_BYTES) continue
      const id = u16(scratch, 0)
      const exchange = socket.pending.get(id)
      if (exchange === undefined || !answers(scratch, n, exchange.query)) continue // late, or not meant for this question
      socket.pending.delete(id)
      this.#answered(exchange, scratch.subarray(0, n))
      if (!this.#sockets.has(socket)) return // what came of the answer closed this server
    }
  }

  /** `failedMs` set: the server refused; what waits on this socket is told so. */
  #drop(socket: UdpSocket, failedMs: number | undefined): void {
    if (!this.#sockets.delete(socket)) return
    const slot = this.#slots.indexOf(socket)
    if (slot >= 0) this.#slots[slot] = undefined
    this.#context.epoll.remove(socket.fd)
    close(socket.fd)
    if (failedMs === undefined) return
    this.health.noteUnreachable(failedMs)
    for (const exchange of socket.pending.values()) exchange.end(undefined, failedMs)
  }

  #answered(exchange: Exchange, message: Uint8Array): void {
    const now = this.#context.now()
    this.health.noteAnswer(now, now - exchange.sentMs)
    exchange.end(Uint8Array.from(message), now)
  }

  #onStream(stream: TcpExchange): void {
    if (stream.written < stream.out.length) {
      const failed = stream.written === 0 && socketError(stream.fd) !== 0
      const n = failed ? -2 : transmit(stream.fd, stream.out.subarray(stream.written), stream.out.length - stream.written)
      if (n < -1) {
        this.#streamFailed(stream)
        return
      }
      if (n > 0) stream.written += n
      if (stream.written === stream.out.length) this.#context.epoll.modify(stream.fd, EPOLLIN)
      return
    }
    const n = receive(stream.fd, this.#context.scratch)
    if (n === -1) return
    if (n <= 0) {
      this.#streamFailed(stream)
      return
    }
    stream.input = Buffer.concat([stream.input, this.#context.scratch.subarray(0, n)])
    if (stream.input.length < 2) return
    const length = stream.input.readUInt16BE(0)
    if (stream.input.length < length + 2) return
    const message = stream.input.subarray(2, length + 2)
    if (u16(message, 0) !== u16(stream.query, 0) || !answers(message, length, stream.query)) {
      this.#streamFailed(stream)
      return
    }
    this.#closeStream(stream)
    this.#answered(stream, message)
  }

  #streamFailed(stream: TcpExchange): void {
    // refusing TCP says nothing about UDP: the server's health stays what it is
    this.health.failed++
    this.#endStream(stream, undefined)
  }

  #endStream(stream: TcpExchange, message: Uint8Array | undefined): void {
    this.#closeStream(stream)
    stream.end(message, this.#context.now())
  }

  #closeStream(stream: TcpExchange): void {
    if (!this.#streams.delete(stream)) return
    this.#context.epoll.remove(stream.fd)
    close(stream.fd)
  }
}

/** True when `message` is a response to `query`. One that only reports an error may leave the question out. */
function answers(message: Uint8Array, length: number, query: Uint8Array): boolean {
  if (length < HEADER_BYTES || ((message[2] as number) & 0x80) === 0) return false
  const end = questionLength(query)
  if (u16(message, 4) === 0) return ((message[3] as number) & 15) !== 0
  return length >= end && u16(message, 4) === 1 && sameQuestion(message, query, end)
}

/** Our own queries hold one question without compression. */
function questionLength(query: Uint8Array): number {
  let at = HEADER_BYTES
  while (query[at] !== 0) at += (query[at] as number) + 1
  return at + 5
}

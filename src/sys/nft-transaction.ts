/**
 * One nfnetlink batch, sent whole: the kernel runs it while `send` runs and either commits all of it or none. What it has to say lies in
 * the socket afterwards, so nothing here waits. (`NetlinkSocket.batch` may cut a batch into pieces, which a transaction must not be.)
 */
import { NetError } from '../base/errors.ts'
import { decodeAck, type NetlinkAck, type NetlinkMessage, NLMSG_ERROR, splitMessages, viewOf } from '../wire/netlink.ts'
import { closeSoon, EAGAIN, EINTR, ENOBUFS, errno, kernelError, MSG_DONTWAIT, raw, SO_SNDBUF, SOL_SOCKET } from './libc.ts'
import { NETLINK_NETFILTER, openNetlinkFd } from './netlink-socket.ts'
import type { Netns } from './netns.ts'

const SO_SNDBUFFORCE = 32
/** net.core.wmem_default: a batch above it needs a larger buffer. */
const FIRST_SEND_BYTES = 128 * 1024

export class NftTransactions {
  readonly fd: number
  #sendBytes = FIRST_SEND_BYTES
  readonly #buffer = new Uint8Array(8 * 1024) // one acknowledgement at a time, without the request (NETLINK_CAP_ACK)
  #open = true

  private constructor(fd: number) {
    this.fd = fd
  }

  static open(ns?: Netns): NftTransactions {
    return new NftTransactions(openNetlinkFd(NETLINK_NETFILTER, ns))
  }

  /**
   * Sends a batch and returns the refusals by sequence number; empty = committed. Throws NetError when the batch could not be
   * delivered or answers were lost: then the caller does not know what the kernel did and must look.
   */
  commit(batch: Uint8Array): Map<number, NetlinkAck> {
    const refusals = new Map<number, NetlinkAck>()
    this.#exchange(batch, (message) => {
      if (message.type !== NLMSG_ERROR) return
      const ack = decodeAck(message)
      // The first refusal of a message counts: a failed commit answers once more for the batch as a whole.
      if (ack.errno !== 0 && !refusals.has(message.seq)) refusals.set(message.seq, ack)
    })
    return refusals
  }

  /** Sends one question outside a batch. Returns what `decode` makes of the answer, or undefined when the kernel refused. */
  ask<T>(request: Uint8Array, decode: (message: NetlinkMessage) => T): T | undefined {
    let answer: T | undefined
    this.#exchange(request, (message) => {
      if (message.type !== NLMSG_ERROR) answer = decode(message)
    })
    return answer
  }

  #exchange(bytes: Uint8Array, onMessage: (message: NetlinkMessage) => void): void {
    if (!this.#open) throw new NetError('internal', 'Cannot use nftables socket: it is closed')
    this.#makeRoom(bytes.length)
    while (raw.send(this.fd, bytes, bytes.length, 0) < 0) {
      const error = errno()
      if (error !== EINTR) throw kernelError('send nftables transaction of', `${bytes.length} bytes`, error)
    }
    for (;;) {
      const got = Number(raw.recv(this.fd, this.#buffer, this.#buffer.length, MSG_DONTWAIT))
      if (got >= 0) {
        splitMessages(this.#buffer.subarray(0, got)).forEach(onMessage)
        continue
      }
      const error = errno()
      if (error === EAGAIN) return
      if (error === ENOBUFS) throw new NetError('unavailable', 'Cannot read all answers to an nftables transaction', { errno: 'ENOBUFS' })
      if (error !== EINTR) throw kernelError('receive from nftables socket', String(this.fd), error)
    }
  }

  #makeRoom(bytes: number): void {
    if (bytes <= this.#sendBytes) return
    const value = new Uint8Array(4)
    viewOf(value).setUint32(0, bytes + 64 * 1024, true)
    if (raw.setsockopt(this.fd, SOL_SOCKET, SO_SNDBUFFORCE, value, 4) !== 0) raw.setsockopt(this.fd, SOL_SOCKET, SO_SNDBUF, value, 4)
    this.#sendBytes = bytes
  }

  /** Idempotent. */
  close(): void {
    if (!this.#open) return
    this.#open = false
    closeSoon(this.fd)
  }
}

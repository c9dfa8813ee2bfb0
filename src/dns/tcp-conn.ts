/** One TCP client of the resolver: frames (RFC 7766: several questions at once, answers in any order), flow control, orderly end. */
import { pinned, receive, transmit } from '../sys/dns-sockets.ts'
import type { Epoll } from '../sys/epoll.ts'
import { close, EPOLLIN, EPOLLOUT } from '../sys/libc.ts'

const MAX_UNSENT_BYTES = 256 << 10
const FIRST_INPUT_BYTES = 1024
const FRAME_BYTES = 65_535

export class TcpConnection {
  readonly #fd: number
  readonly #epoll: Epoll
  readonly #onQuestion: (frame: Buffer) => void
  readonly #onClosed: () => void
  #input = pinned(FIRST_INPUT_BYTES)
  #filled = 0
  #unsent: Buffer[] = []
  #unsentBytes = 0
  #interest = EPOLLIN
  #isFinished = false
  isClosed = false
  /** Answers that are still to come; the caller counts them. */
  pending = 0
  usedMs: number

  /** Takes over `fd`. `onQuestion` gets one message at a time, valid during the call only. */
  constructor(fd: number, epoll: Epoll, nowMs: number, onQuestion: (frame: Buffer) => void, onClosed: () => void) {
    this.#fd = fd
    this.#epoll = epoll
    this.usedMs = nowMs
    this.#onQuestion = onQuestion
    this.#onClosed = onClosed
    epoll.add(fd, EPOLLIN, (events) => this.#onReady(events))
  }

  /** Sends one message; copies it. Nothing happens when the client has gone. */
  write(message: Uint8Array): void {
    if (this.isClosed) return
    const frame = pinned(message.length + 2)
    frame.writeUInt16BE(message.length)
    frame.set(message, 2)
    this.#unsent.push(frame)
    this.#unsentBytes += frame.length
    this.#flush()
  }

  /** One of the awaited answers was written or will never be. */
  settleOne(): void {
    this.pending--
    this.#closeIfDone()
  }

  close(): void {
    if (this.isClosed) return
    this.isClosed = true
    this.#epoll.remove(this.#fd)
    close(this.#fd)
    this.#unsent = []
    this.#onClosed()
  }

  #onReady(events: number): void {
    if ((events & EPOLLOUT) !== 0) this.#flush()
    if (!this.isClosed && (this.#interest & EPOLLIN) !== 0 && (events & ~EPOLLOUT) !== 0) this.#read()
    // hang-up while we do not read: nobody will take the answers
    else if (!this.isClosed && (this.#interest & EPOLLIN) === 0 && (events & ~(EPOLLIN | EPOLLOUT)) !== 0) this.close()
  }

  #read(): void {
    if (this.#filled === this.#input.length) {
      const bigger = pinned(Math.min(this.#input.length * 4, FRAME_BYTES + 2))
      bigger.set(this.#input)
      this.#input = bigger
    }
    const n = receive(this.#fd, this.#input.subarray(this.#filled))
    if (n === -1) return
    if (n < -1) {
      this.close()
      return
    }
    if (n === 0) {
      this.#isFinished = true
      this.#setInterest()
      this.#closeIfDone()
      return
    }
    this.#filled += n
    let at = 0
    while (!this.isClosed && this.#filled - at >= 2) {
      const length = this.#input.readUInt16BE(at)
      if (this.#filled - at < length + 2) break
      this.#onQuestion(this.#input.subarray(at + 2, at + 2 + length))
      at += length + 2
    }
    this.#input.copyWithin(0, at, this.#filled)
    this.#filled -= at
  }

  #flush(): void {
    while (this.#unsent.length > 0) {
      const frame = this.#unsent[0] as Buffer
      const n = transmit(this.#fd, frame, frame.length)
      if (n < -1) {
        this.close()
        return
      }
      if (n === -1) break
      this.#unsentBytes -= n
      if (n < frame.length) {
        this.#unsent[0] = frame.subarray(n)
        break
      }
      this.#unsent.shift()
    }
    this.#setInterest()
    this.#closeIfDone()
  }

  #setInterest(): void {
    // who does not take answers may not ask more
    const wanted = (this.#isFinished || this.#unsentBytes > MAX_UNSENT_BYTES ? 0 : EPOLLIN) | (this.#unsent.length > 0 ? EPOLLOUT : 0)
    if (wanted === this.#interest || this.isClosed) return
    this.#interest = wanted
    this.#epoll.modify(this.#fd, wanted)
  }

  #closeIfDone(): void {
    if (this.#isFinished && this.pending <= 0 && this.#unsent.length === 0) this.close()
  }
}

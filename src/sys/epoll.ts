/**
 * One epoll instance with a handler per descriptor, for the threads that run their own loop instead of libuv's.
 *
 * Level-triggered, so a handler may take one batch and return: the kernel rotates its ready list, which is what keeps
 * many busy descriptors fair to each other. Refuses nothing and blocks at most as long as the caller says.
 */
import {
  check,
  close,
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  EINTR,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  EPOLLIN,
  errno,
  kernelError,
  raw,
} from './libc.ts'

/** Called with the EPOLL* bits that are set. */
export type ReadyHandler = (events: number) => void

// struct epoll_event is packed on x86-64 only: include/uapi/linux/eventpoll.h
const EVENT_BYTES = process.arch === 'x64' ? 12 : 16
const DATA_AT = process.arch === 'x64' ? 4 : 8
const MAX_EVENTS = 128

interface Registration {
  readonly generation: number
  readonly handler: ReadyHandler
}

export class Epoll {
  readonly #fd = check(raw.epollCreate(EFD_CLOEXEC), 'create', 'epoll instance')
  readonly #events = Buffer.from(new ArrayBuffer(EVENT_BYTES * MAX_EVENTS))
  readonly #one = Buffer.from(new ArrayBuffer(EVENT_BYTES))
  readonly #handlers: (Registration | undefined)[] = []
  readonly #onError: (error: unknown) => void
  #generation = 1

  /** `onError` gets what a handler throws: one bad packet must not stop the loop. */
  constructor(onError: (error: unknown) => void) {
    this.#onError = onError
  }

  /** Watches `fd`. Errors and hang-ups are always reported. */
  add(fd: number, events: number, handler: ReadyHandler): void {
    const generation = this.#generation++ & 0x7fffffff
    this.#control(EPOLL_CTL_ADD, fd, events, generation)
    this.#handlers[fd] = { generation, handler }
  }

  /** Changes the watched bits of a descriptor that was added. */
  modify(fd: number, events: number): void {
    const entry = this.#handlers[fd]
    if (entry !== undefined) this.#control(EPOLL_CTL_MOD, fd, events, entry.generation)
  }

  /** Stops watching; must come before the descriptor is closed. Idempotent. */
  remove(fd: number): void {
    if (this.#handlers[fd] === undefined) return
    this.#handlers[fd] = undefined
    raw.epollCtl(this.#fd, EPOLL_CTL_DEL, fd, this.#one)
  }

  /** Waits up to `timeoutMs` (whole milliseconds), then calls `onWake` and the handlers of what is ready. Returns how many were. */
  wait(timeoutMs: number, onWake?: () => void): number {
    const events = this.#events
    const n = raw.epollWait(this.#fd, events, MAX_EVENTS, timeoutMs)
    if (n < 0) {
      const error = errno()
      if (error === EINTR) return 0
      throw kernelError('wait for', 'epoll instance', error)
    }
    onWake?.()
    for (let i = 0; i < n; i++) {
      const at = i * EVENT_BYTES
      const entry = this.#handlers[events.readUInt32LE(at + DATA_AT)]
      // An earlier handler of this batch may have closed the descriptor, and a new one may carry its number already.
      if (entry === undefined || entry.generation !== events.readUInt32LE(at + DATA_AT + 4)) continue
      try {
        entry.handler(events.readUInt32LE(at))
      } catch (error) {
        this.#onError(error)
      }
    }
    return n
  }

  close(): void {
    close(this.#fd)
  }

  #control(op: number, fd: number, events: number, generation: number): void {
    this.#one.writeUInt32LE(events, 0)
    this.#one.writeUInt32LE(fd, DATA_AT)
    this.#one.writeUInt32LE(generation, DATA_AT + 4)
    check(raw.epollCtl(this.#fd, op, fd, this.#one), 'watch', `fd ${fd}`)
  }
}

/** Wakes an {@link Epoll} of another thread: an eventfd that may be rung from anywhere in the process. */
export class Doorbell {
  readonly fd: number
  readonly #eight = Buffer.from(new ArrayBuffer(8))

  /** Without `fd` a new eventfd is made; with it, the existing one is used (for the other thread). */
  constructor(fd?: number) {
    this.fd = fd ?? check(raw.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), 'create', 'eventfd')
  }

  ring(): void {
    this.#eight.writeBigUInt64LE(1n)
    raw.write(this.fd, this.#eight, 8)
  }

  /** Takes back all rings. */
  silence(): void {
    raw.read(this.fd, this.#eight, 8)
  }

  /** Calls `handler` whenever it was rung. */
  watch(epoll: Epoll, handler: () => void): void {
    epoll.add(this.fd, EPOLLIN, () => {
      this.silence()
      handler()
    })
  }

  close(): void {
    close(this.fd)
  }
}

/** Milliseconds that only ever go forward, with fractions; the zero point is the start of the thread. */
export function monotonicMs(): number {
  return performance.now()
}

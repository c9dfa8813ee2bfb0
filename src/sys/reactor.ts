/**
 * Watches descriptors that Node's own loop refuses: netlink groups, SEQPACKET sockets, pidfds, inherited listeners. One
 * thread sits in a bounded epoll_wait for all of them; its results arrive here as messages, so callbacks run on the
 * main thread and never at the same time.
 *
 * The reactor watches a duplicate: the caller keeps its descriptor and may close it whenever it likes, before or after
 * `Subscription.close()`. It does not keep the process alive.
 */
import { MessageChannel, type MessagePort, type Worker } from 'node:worker_threads'
import { NetError } from '../base/errors.ts'
import { type Logger, silentLogger } from '../base/ports.ts'
import { Doorbell } from './epoll.ts'
import { check, F_DUPFD_CLOEXEC, raw } from './libc.ts'
import { type Command, Credits, MAX_SUBSCRIPTIONS, type ReactorData, type Report, type WatchMode } from './reactor-protocol.ts'
import { startWorker } from './worker.ts'

/** A descriptor being watched. After `close` no callback of it runs any more. */
export interface Subscription {
  /** Stops deliveries; after at most four more batches the descriptor is left unread, so that the sender feels it. Idempotent. */
  pause(): void
  resume(): void
  /** Idempotent. The thread lets go of the descriptor within a millisecond or so. */
  close(): void
}

export interface PacketOptions {
  /** The kernel dropped packets because nobody read in time. Without it they are lost silently. */
  readonly onOverrun?: () => void
}

export interface ReactorOptions {
  readonly logger?: Logger
  /** The thread's program, where a bundle keeps it elsewhere. */
  readonly program?: URL
}

interface Watch {
  readonly slot: number
  readonly subscription: PausableSubscription
  onReport(report: Report): void
}

export class Reactor {
  readonly #worker: Worker
  readonly #port: MessagePort
  readonly #doorbell: Doorbell
  readonly #credits: Credits
  readonly #logger: Logger
  readonly #watches = new Map<number, Watch>()
  readonly #freeSlots: number[] = []
  readonly #exited: Promise<void>
  readonly #atExit = () => this.#command({ op: 'close' })
  #slots = 0
  #ids = 0
  #isClosed = false

  /** Starts the thread (about 100 ms). Throws NetError `unavailable` when it cannot run. */
  static start(options: ReactorOptions = {}): Promise<Reactor> {
    const { port1, port2 } = new MessageChannel()
    const doorbell = new Doorbell()
    const credits = Credits.allocate()
    const program =
      options.program ?? new URL(import.meta.url.endsWith('.ts') ? './reactor-worker.ts' : './reactor-worker.js', import.meta.url)
    const workerData: ReactorData = { port: port2, doorbellFd: doorbell.fd, credits }
    const worker = startWorker(program, { workerData, transferList: [port2], name: 'reactor' })
    return new Promise((resolve, reject) => {
      const onError = (cause: unknown) => {
        port1.close()
        doorbell.close()
        reject(new NetError('unavailable', 'Cannot start the reactor thread', {}, cause))
      }
      worker.once('error', onError)
      port1.once('message', () => {
        worker.off('error', onError)
        resolve(new Reactor(worker, port1, doorbell, new Credits(credits), options.logger ?? silentLogger))
      })
    })
  }

  private constructor(worker: Worker, port: MessagePort, doorbell: Doorbell, credits: Credits, logger: Logger) {
    this.#worker = worker
    this.#port = port
    this.#doorbell = doorbell
    this.#credits = credits
    this.#logger = logger
    worker.on('error', (error) => logger.error('reactor thread failed', { error: String(error) }))
    this.#exited = new Promise((resolve) => {
      worker.once('exit', () => {
        this.#onExit()
        resolve()
      })
    })
    port.on('message', (report: Report) => this.#dispatch(report))
    port.unref() // after on('message'), which takes a reference
    worker.unref()
    // Node waits for the thread when it exits: without this for up to a whole epoll_wait.
    process.on('exit', this.#atExit)
  }

  /**
   * Reads `fd` until its end: recv() one packet at a time from sockets, read() from anything else, which is made
   * non-blocking. `onPackets` gets what one wake-up found (up to 256 packets or 256 KiB and one packet). `onEnd` comes once, after the last
   * packet, with `eof` or the symbolic errno; the subscription is closed then.
   */
  onPackets(
    fd: number,
    onPackets: (packets: Uint8Array[]) => void,
    onEnd: (why: string) => void,
    options: PacketOptions = {},
  ): Subscription {
    return this.#watch(fd, 'packets', (subscription, slot) => (report) => {
      if (report.op === 'packets')
        subscription.deliver(() => {
          try {
            onPackets(cut(report.data, report.lengths))
          } finally {
            if (this.#credits.take(slot)) this.#doorbell.ring()
          }
        })
      else if (report.op === 'overrun') subscription.deliver(() => options.onOverrun?.())
      else if (report.op === 'end') subscription.end(() => onEnd(report.why))
    })
  }

  /**
   * Calls `onReadable` when `fd` is readable or hung up, and again after each call for as long as it stays so: take
   * everything, or close the subscription in the callback. For pidfds and listening sockets.
   */
  onReadable(fd: number, onReadable: () => void): Subscription {
    return this.#watch(fd, 'readable', (subscription, _slot, id) => (report) => {
      if (report.op === 'ready')
        subscription.deliver(() => {
          onReadable()
          if (subscription.isOpen) this.#command({ op: 'arm', id })
        })
      else if (report.op === 'end') subscription.end(onReadable) // epoll does not take it: looking tells why
    })
  }

  /** Calls `onWritable` once, when `fd` takes data again (or has failed: the write will tell), and then forgets it. */
  onWritableOnce(fd: number, onWritable: () => void): Subscription {
    return this.#watch(fd, 'writable', (subscription) => (report) => {
      if (report.op === 'ready' || report.op === 'end')
        subscription.deliver(() => {
          subscription.close()
          onWritable()
        })
    })
  }

  /** Ends the thread, within 300 ms; subscriptions end without a further call. Idempotent. */
  async close(): Promise<void> {
    if (!this.#isClosed) {
      this.#isClosed = true
      for (const { subscription } of this.#watches.values()) subscription.silence()
      this.#command({ op: 'close' })
      this.#worker.ref() // whoever waits for the end wants it to come
    }
    await this.#exited
  }

  #watch(
    fd: number,
    mode: WatchMode,
    handle: (subscription: PausableSubscription, slot: number, id: number) => (report: Report) => void,
  ): Subscription {
    if (this.#isClosed) throw new NetError('unavailable', 'Cannot watch a descriptor: the reactor is closed')
    if (this.#freeSlots.length === 0 && this.#slots >= MAX_SUBSCRIPTIONS)
      throw new NetError('unavailable', `Cannot watch more than ${MAX_SUBSCRIPTIONS} descriptors`)
    const own = check(raw.fcntl(fd, F_DUPFD_CLOEXEC, 3), 'watch', `fd ${fd}`)
    const slot = this.#freeSlots.pop() ?? this.#slots++
    const id = ++this.#ids
    this.#credits.reset(slot)
    const subscription = new PausableSubscription(() => {
      if (this.#watches.has(id)) this.#command({ op: 'remove', id })
    })
    this.#watches.set(id, { slot, subscription, onReport: handle(subscription, slot, id) })
    this.#command({ op: 'add', id, slot, fd: own, mode })
    return subscription
  }

  #command(command: Command): void {
    this.#port.postMessage(command)
    this.#doorbell.ring()
  }

  #dispatch(report: Report): void {
    if (report.op === 'failed') this.#logger.error('reactor', { error: report.message })
    if (!('id' in report)) return
    const watch = this.#watches.get(report.id)
    if (watch === undefined) return
    if (report.op === 'end' || report.op === 'removed') {
      this.#watches.delete(report.id)
      this.#freeSlots.push(watch.slot) // the thread has let go: nobody else looks at the slot now
    }
    watch.onReport(report)
  }

  #onExit(): void {
    process.off('exit', this.#atExit)
    this.#port.close()
    this.#doorbell.close()
    if (this.#isClosed) return
    this.#isClosed = true
    for (const [id, watch] of [...this.#watches]) watch.onReport({ op: 'end', id, why: 'reactor stopped' })
    this.#watches.clear()
  }
}

/** Holds back what arrives while paused; the unreturned credit stops the thread. */
class PausableSubscription implements Subscription {
  readonly #onClose: () => void
  readonly #held: (() => void)[] = []
  #isPaused = false
  #state: 'open' | 'ending' | 'closed' = 'open'

  constructor(onClose: () => void) {
    this.#onClose = onClose
  }

  get isOpen(): boolean {
    return this.#state === 'open'
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    while (!this.#isPaused) {
      const next = this.#held.shift()
      if (next === undefined) break
      next()
    }
  }

  close(): void {
    const wasOpen = this.#state === 'open'
    this.silence()
    if (wasOpen) this.#onClose()
  }

  silence(): void {
    this.#state = 'closed'
    this.#held.length = 0
  }

  deliver(call: () => void): void {
    if (this.#state !== 'open') return
    if (this.#isPaused || this.#held.length > 0) this.#held.push(call)
    else call()
  }

  /** The last delivery: also to a paused consumer, unless packets wait before it. */
  end(call: () => void): void {
    if (this.#state !== 'open') return
    this.#state = 'ending'
    const last = () => {
      if (this.#state === 'closed') return
      this.#state = 'closed'
      call()
    }
    if (this.#held.length > 0) this.#held.push(last)
    else last()
  }
}

function cut(data: Uint8Array, lengths: readonly number[]): Uint8Array[] {
  let at = 0
  return lengths.map((length) => {
    at += length
    return data.subarray(at - length, at)
  })
}

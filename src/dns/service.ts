/**
 * Names for containers: the main thread's face of the DNS service.
 *
 * One thread owns all sockets of all sandboxes. Calls here only post a command; the DNS thread applies every command posted before a
 * question arrived, before it answers that question. Sockets are opened here, synchronously, so that the ports are known at once.
 */
import type { Worker } from 'node:worker_threads'
import { parseIp } from '../base/address.ts'
import { isErrno, NetError } from '../base/errors.ts'
import { type Logger, silentLogger } from '../base/ports.ts'
import { type BoundSocket, openDnsListener } from '../sys/dns-sockets.ts'
import { Doorbell } from '../sys/epoll.ts'
import { check, close, raw } from '../sys/libc.ts'
import { inNetns, type Netns } from '../sys/netns.ts'
import { startWorker } from '../sys/worker.ts'
import { DnsState } from './state.ts'
import type { DnsCommand, DnsQueryLogEntry, DnsRecordSet, DnsReport, DnsStats, DnsView, HostUpstream } from './types.ts'
import type { DnsWorkerData } from './worker.ts'

/** Where the resolver of a sandbox listens; port 53 is redirected to the ports that {@link DnsService.addSandbox} returns. */
const RESOLVER_ADDRESS = parseIp('127.0.0.11')

const F_DUPFD_CLOEXEC = 1030
/** Room for what forwarding makes and drops, so that it dies young instead of in a long collection. Used under load only. */
const YOUNG_GENERATION_MB = 32
/** A thread that ends this often will end again. */
const MAX_DEATHS = 20

export interface DnsServiceOptions {
  readonly logger?: Logger
  /** Gets one entry per question, in batches. Costs about a tenth of the speed. */
  readonly onQueries?: (entries: readonly DnsQueryLogEntry[]) => void
  /** The DNS thread's program when it is not where this module expects it. */
  readonly program?: URL
}

/** The ports of one sandbox's resolver on 127.0.0.11. */
export interface DnsPorts {
  readonly udpPort: number
  readonly tcpPort: number
}

export class DnsService {
  readonly #options: DnsServiceOptions
  readonly #logger: Logger
  readonly #doorbell = new Doorbell()
  readonly #state = new DnsState()
  readonly #waiting = new Map<number, { resolve: (stats: DnsStats) => void; reject: (error: Error) => void }>()
  #worker: Worker | undefined
  #isRinging = false
  #posted: Int32Array = new Int32Array(0)
  #exited: Promise<void> = Promise.resolve()
  #tokens = 0
  #deaths = 0
  #isClosed = false
  /** The thread has ended and the doorbell is closed. */
  #isEnded = false

  /** Starts the DNS thread; resolves when it answers. Throws when it cannot run. */
  static async start(options: DnsServiceOptions = {}): Promise<DnsService> {
    const service = new DnsService(options)
    try {
      await service.#startThread()
    } catch (error) {
      service.#isClosed = true
      service.#isEnded = true
      service.#doorbell.close()
      throw error
    }
    return service
  }

  private constructor(options: DnsServiceOptions) {
    this.#options = options
    this.#logger = options.logger ?? silentLogger
  }

  /** Starts a thread and tells it all that is known. Resolves when it answers, rejects when it ends before. */
  #startThread(): Promise<void> {
    const { onQueries, program } = this.#options
    const posted = new SharedArrayBuffer(4)
    const workerData: DnsWorkerData = { doorbellFd: this.#doorbell.fd, posted, queryLog: onQueries !== undefined }
    // bundled, the program is a file of its own beside the bundle
    const module = program ?? new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './dns-worker.js', import.meta.url)
    const worker = startWorker(module, { workerData, name: 'dns', resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB } })
    this.#worker = worker
    this.#posted = new Int32Array(posted)
    for (const command of this.#state.replay()) this.#send(command)
    const ready = new Promise<void>((resolve, reject) => {
      worker.on('message', (report: DnsReport) => {
        if (report.op === 'ready') {
          worker.unref() // does not keep the process alive by itself
          resolve()
        } else if (report.op === 'log') onQueries?.(report.entries)
        else if (report.op === 'error') this.#logger.error('DNS thread', { error: report.message })
        else {
          this.#waiting.get(report.token)?.resolve(report.stats)
          this.#waiting.delete(report.token)
        }
      })
      worker.on('error', (error) => {
        this.#logger.error('DNS thread failed', { error: error.message })
        reject(error)
      })
      worker.once('exit', (code) => reject(new NetError('unavailable', `Cannot serve names: the DNS thread ended with ${code}`)))
    })
    this.#exited = new Promise((resolve) => {
      worker.once('exit', () => resolve())
    })
    void this.#exited.then(() =>
      ready.then(
        () => this.#onThreadEnd(),
        () => {},
      ),
    )
    return ready
  }

  /** Sockets belong to the process and are still open: a new thread goes on with them. */
  #onThreadEnd(): void {
    const error = new NetError('unavailable', 'Cannot read DNS statistics: the DNS thread ended')
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
    if (this.#isClosed) return
    this.#deaths++
    this.#logger.error('DNS thread ended and is started again', { times: this.#deaths })
    if (this.#deaths <= MAX_DEATHS)
      this.#startThread().catch((cause: Error) => this.#logger.error('DNS thread cannot be started', { error: cause.message }))
  }

  /**
   * Opens the resolver of a sandbox inside `ns` on random ports. Works before `lo` is up there.
   * `ns` may be closed afterwards; the namespace stays until {@link removeSandbox}.
   */
  addSandbox(id: string, ns: Netns, view: DnsView): DnsPorts {
    return this.restoreSandbox(id, ns, view)
  }

  /** Like {@link addSandbox}, on the given ports when they are free, so that redirect rules of an earlier run stay true. */
  restoreSandbox(id: string, ns: Netns, view: DnsView, ports?: DnsPorts): DnsPorts {
    const [udp, tcp] = inNetns(ns, () => {
      const udp = openPreferred('udp', ports?.udpPort ?? 0)
      try {
        return [udp, openPreferred('tcp', ports?.tcpPort ?? 0)] as const
      } catch (error) {
        close(udp.fd)
        throw error
      }
    })
    const nsFd = check(raw.fcntl(ns.fd, F_DUPFD_CLOEXEC, 3), 'keep network namespace', ns.path)
    this.#post({ op: 'addSandbox', id, udpFd: udp.fd, tcpFd: tcp.fd, nsFd, view })
    return { udpPort: udp.port, tcpPort: tcp.port }
  }

  /** Replaces what a sandbox sees. Sockets stay open; questions on their way are still answered. */
  setView(id: string, view: DnsView): void {
    this.#post({ op: 'setView', id, view })
  }

  /** Closes the sandbox's resolver and lets go of its namespace. Unknown ids are fine. */
  removeSandbox(id: string): void {
    this.#post({ op: 'removeSandbox', id })
  }

  /** Adds or replaces the names of an endpoint. */
  setEndpoint(networkId: string, record: DnsRecordSet): void {
    this.#post({ op: 'setEndpoint', networkId, record })
  }

  removeEndpoint(networkId: string, endpointId: string): void {
    this.#post({ op: 'removeEndpoint', networkId, endpointId })
  }

  removeNetwork(networkId: string): void {
    this.#post({ op: 'removeNetwork', networkId })
  }

  /** The servers of the host, for sandboxes whose view names none. Forgets what the servers of before answered. */
  setHostUpstreams(list: readonly HostUpstream[]): void {
    this.#post({ op: 'hostUpstreams', list })
  }

  async stats(): Promise<DnsStats> {
    const token = ++this.#tokens
    const answer = new Promise<DnsStats>((resolve, reject) => {
      this.#waiting.set(token, { resolve, reject })
    })
    this.#worker?.ref() // a caller that has nothing else to do must still get it
    this.#post({ op: 'stats', token })
    try {
      return await answer
    } finally {
      this.#worker?.unref()
    }
  }

  /** Closes all sockets and ends the thread. Idempotent. */
  async close(): Promise<void> {
    this.#worker?.ref()
    if (this.#isClosed) return this.#exited
    this.#post({ op: 'close' })
    this.#isClosed = true
    await this.#exited
    this.#isEnded = true
    this.#doorbell.close()
  }

  #post(command: DnsCommand): void {
    if (this.#isClosed) throw new NetError('unavailable', 'Cannot change names: the DNS service is closed')
    this.#state.note(command)
    this.#send(command)
  }

  #send(command: DnsCommand): void {
    this.#worker?.postMessage(command)
    Atomics.add(this.#posted, 0, 1)
    if (this.#isRinging) return
    this.#isRinging = true
    // waking the other thread costs more than the message: one ring for all that one change has to say, after whoever asked for it has his
    // answer. A question that comes before it is answered as if it had rung: the thread looks at the counter first.
    setImmediate(() => {
      this.#isRinging = false
      if (!this.#isEnded) this.#doorbell.ring()
    })
  }
}

function openPreferred(proto: 'udp' | 'tcp', port: number): BoundSocket {
  try {
    return openDnsListener(proto, RESOLVER_ADDRESS, port)
  } catch (error) {
    if (port === 0 || !isErrno(error, 'EADDRINUSE')) throw error
    return openDnsListener(proto, RESOLVER_ADDRESS, 0)
  }
}

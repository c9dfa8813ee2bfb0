/** What the DNS thread keeps for one sandbox: its sockets, what it sees, who waits. */
import type { Netns } from '../sys/netns.ts'
import type { PreparedAnswer } from './answers.ts'
import type { ForwardDomain, Waiter } from './forwarder.ts'
import type { TcpConnection } from './tcp-conn.ts'
import type { DnsView } from './types.ts'
import type { Upstream } from './upstream.ts'
import type { ZoneView } from './zone.ts'

/** Spellings of local names remembered per sandbox; beyond that (a client that varies the case on purpose) it starts afresh. */
const MAX_PREPARED = 8192
/** Questions of one sandbox that wait for upstreams at one time. The next one costs the oldest its wait: it gets SERVFAIL. */
const MAX_PENDING = 16_384
/** TCP clients of one sandbox at one time; the one that was idle longest goes first. */
export const MAX_CONNECTIONS = 512

export class DnsSandbox {
  readonly id: string
  readonly udpFd: number
  readonly tcpFd: number
  readonly ns: Netns
  readonly connections = new Set<TcpConnection>()
  /** Servers that are asked from this sandbox's namespace, by `ip#port`. */
  readonly upstreams = new Map<string, Upstream>()
  readonly pending = new Set<Waiter>()
  queries = 0
  isClosed = false
  isListening = true
  view: DnsView
  zone: ZoneView
  domain: ForwardDomain
  readonly #prepared = new Map<string, PreparedAnswer>()
  #generation = -1

  constructor(parts: Pick<DnsSandbox, 'id' | 'udpFd' | 'tcpFd' | 'ns' | 'view' | 'zone' | 'domain'>) {
    this.id = parts.id
    this.udpFd = parts.udpFd
    this.tcpFd = parts.tcpFd
    this.ns = parts.ns
    this.view = parts.view
    this.zone = parts.zone
    this.domain = parts.domain
  }

  /** Forgets prepared answers if any network changed since; call once before a batch of questions. */
  refresh(): void {
    const generation = this.zone.generation()
    if (generation === this.#generation) return
    this.#generation = generation
    this.#prepared.clear()
  }

  setZone(view: DnsView, zone: ZoneView): void {
    this.view = view
    this.zone = zone
    this.#generation = -1
  }

  /** The answer to a question's exact bytes. */
  prepared(question: string): PreparedAnswer | undefined {
    return this.#prepared.get(question)
  }

  remember(question: string, answer: PreparedAnswer): void {
    if (this.#prepared.size >= MAX_PREPARED) this.#prepared.clear()
    this.#prepared.set(question, answer)
  }

  /** Adds somebody who waits for an upstream; returns who must give up for it. */
  enqueue(waiter: Waiter): Waiter | undefined {
    let oldest: Waiter | undefined
    if (this.pending.size >= MAX_PENDING) for (oldest of this.pending) break
    this.pending.add(waiter)
    return oldest
  }
}

/**
 * The DNS thread's work: questions of all sandboxes in, answers out.
 *
 * Local names are answered in the batch in which they came. Everything else goes to the forwarder, and comes back through a waiter.
 * Refuses: zones of its own, recursion from the roots, DNSSEC validation (it passes the upstream's word on).
 */
import { ipFromBytes } from '../base/address.ts'
import { acceptTcp, pinned, transmitTo, UdpBatch } from '../sys/dns-sockets.ts'
import type { Epoll } from '../sys/epoll.ts'
import { close, EPOLLIN } from '../sys/libc.ts'
import { CLASS_IN, RCODE, TYPE } from '../wire/dns.ts'
import { findOpt, HEADER_BYTES, type OptInfo, questionEnd, u16 } from '../wire/dns-scan.ts'
import { answerLimit, MAX_UDP_ANSWER, prepareAnswer, writeError, writeFormatError, writeForwarded, writeLocal } from './answers.ts'
import { DnsCache } from './cache.ts'
import { type ForwardDomain, Forwarder, type UpstreamAnswer, type Waiter } from './forwarder.ts'
import { DnsSandbox, MAX_CONNECTIONS } from './sandbox.ts'
import { TcpConnection } from './tcp-conn.ts'
import { LoopTimers } from './timers.ts'
import {
  ANSWER_KINDS,
  type AnswerKind,
  type DnsCommand,
  type DnsQueryLogEntry,
  type DnsStats,
  type DnsView,
  type HostUpstream,
} from './types.ts'
import { Upstream, type UpstreamContext } from './upstream.ts'
import { lowerKey, NetworkZone, ZoneView } from './zone.ts'

/** Small on purpose: answers go out while the client's next questions come in. 8 gives 1.7 times the rate of 64 at 20 outstanding questions. */
const BATCH = 8
/** Batches per turn of one busy socket, before the others have theirs. */
const BATCHES_PER_TURN = 8
const CACHE_BYTES = 32 << 20
const SWEEP_MS = 1000
const TCP_IDLE_MS = 10_000
const ACCEPT_PAUSE_MS = 100
// Buffer's own method: half the cost of toString('latin1'), which first looks the encoding up
declare global {
  interface Buffer {
    latin1Slice(start: number, end: number): string
  }
}

const FORWARD = -1
const DROP = 0
/** Docker's resolver address: asking it from inside the sandbox would be asking ourselves. */
const OWN_ADDRESS = '127.0.0.11'

export interface DnsServerOptions {
  readonly epoll: Epoll
  /** Milliseconds that only go forward. */
  readonly now: () => number
  readonly random: () => number
  /** Applies commands that were given before now; called after questions were taken from a socket, before they are answered. */
  readonly applyCommands: () => void
  /** Gets what should never have been thrown. */
  readonly onError: (error: unknown) => void
  readonly queryLog?: ((entry: DnsQueryLogEntry) => void) | undefined
}

export class DnsServer {
  readonly timers = new LoopTimers()
  readonly #epoll: Epoll
  readonly #now: () => number
  readonly #random: () => number
  readonly #applyCommands: () => void
  readonly #onError: (error: unknown) => void
  readonly #queryLog: ((entry: DnsQueryLogEntry) => void) | undefined
  readonly #batch = new UdpBatch(BATCH, MAX_UDP_ANSWER)
  readonly #frame = pinned(65_535)
  readonly #cache = new DnsCache(CACHE_BYTES)
  readonly #forwarder: Forwarder
  readonly #upstreamContext: UpstreamContext
  readonly #sandboxes = new Map<string, DnsSandbox>()
  readonly #zones = new Map<string, NetworkZone>()
  readonly #hostUpstreams = new Map<string, Upstream>()
  readonly #active = new Set<Upstream>()
  /** Domains that consist of host upstreams only, shared between sandboxes. */
  readonly #hostDomains = new Map<string, ForwardDomain>()
  #hostList: readonly HostUpstream[] = []
  #domainIds = 0
  #queries = 0
  #truncated = 0
  #sendErrors = 0
  #cacheHits = 0
  #cacheMisses = 0
  readonly #answers = Object.fromEntries(ANSWER_KINDS.map((kind) => [kind, 0])) as Record<AnswerKind, number>
  // of the question that #answer() looked at last
  #questionEnd = 0
  #opt: OptInfo | undefined
  #cacheKey = ''

  constructor(options: DnsServerOptions) {
    this.#epoll = options.epoll
    this.#now = options.now
    this.#random = options.random
    this.#applyCommands = options.applyCommands
    this.#onError = options.onError
    this.#queryLog = options.queryLog
    this.#upstreamContext = { epoll: options.epoll, now: options.now, random: options.random, scratch: pinned(65_535) }
    this.#forwarder = new Forwarder({
      timers: this.timers,
      cache: this.#cache,
      now: options.now,
      onActive: (upstream) => this.#active.add(upstream),
    })
    this.#sweepLater()
  }

  apply(command: Exclude<DnsCommand, { op: 'stats' | 'close' }>): void {
    switch (command.op) {
      case 'addSandbox':
        this.#addSandbox(command)
        return
      case 'setView':
        this.#setView(command.id, command.view)
        return
      case 'removeSandbox':
        this.#removeSandbox(command.id)
        return
      case 'setEndpoint':
        this.#zoneOf(command.networkId).set(command.record)
        return
      case 'removeEndpoint':
        this.#zones.get(command.networkId)?.remove(command.endpointId)
        return
      case 'removeNetwork':
        this.#removeNetwork(command.networkId)
        return
      case 'hostUpstreams':
        this.#setHostUpstreams(command.list)
    }
  }

  close(): void {
    for (const id of [...this.#sandboxes.keys()]) this.#removeSandbox(id)
    for (const upstream of this.#hostUpstreams.values()) upstream.close()
  }

  stats(): DnsStats {
    const upstreams = [...this.#hostUpstreams.values()].map((upstream) => upstreamStats(upstream, this.#now()))
    for (const sandbox of this.#sandboxes.values()) {
      for (const upstream of sandbox.upstreams.values()) upstreams.push({ ...upstreamStats(upstream, this.#now()), sandboxId: sandbox.id })
    }
    return {
      queries: this.#queries,
      answers: { ...this.#answers },
      truncated: this.#truncated,
      sendErrors: this.#sendErrors,
      cache: { entries: this.#cache.size, bytes: this.#cache.bytes, hits: this.#cacheHits, misses: this.#cacheMisses },
      joined: this.#forwarder.joined,
      hedged: this.#forwarder.hedged,
      upstreams,
      sandboxes: [...this.#sandboxes.values()].map((sandbox) => ({
        id: sandbox.id,
        queries: sandbox.queries,
        pending: sandbox.pending.size,
        tcpConnections: sandbox.connections.size,
      })),
    }
  }

  // ---- configuration

  #addSandbox(command: Extract<DnsCommand, { op: 'addSandbox' }>): void {
    this.#removeSandbox(command.id)
    const { id, udpFd, tcpFd, nsFd, view } = command
    const ns = { fd: nsFd, inode: 0, path: `sandbox ${id}` }
    const zone = new ZoneView(view, (networkId) => this.#zoneOf(networkId))
    const sandbox = new DnsSandbox({ id, udpFd, tcpFd, ns, view, zone, domain: { id: 0, upstreams: [] } })
    sandbox.domain = this.#domainOf(sandbox)
    this.#sandboxes.set(id, sandbox)
    this.#epoll.add(udpFd, EPOLLIN, () => this.#onDatagrams(sandbox))
    this.#epoll.add(tcpFd, EPOLLIN, () => this.#onConnection(sandbox))
  }

  #setView(id: string, view: DnsView): void {
    const sandbox = this.#sandboxes.get(id)
    if (sandbox === undefined) return
    sandbox.setZone(view, new ZoneView(view, (networkId) => this.#zoneOf(networkId)))
    sandbox.domain = this.#domainOf(sandbox)
  }

  #removeSandbox(id: string): void {
    const sandbox = this.#sandboxes.get(id)
    if (sandbox === undefined) return
    this.#sandboxes.delete(id)
    sandbox.isClosed = true
    this.#epoll.remove(sandbox.udpFd)
    this.#epoll.remove(sandbox.tcpFd)
    for (const connection of [...sandbox.connections]) connection.close()
    for (const waiter of sandbox.pending) waiter.isSettled = true // nobody is left to tell
    sandbox.pending.clear()
    for (const upstream of sandbox.upstreams.values()) {
      this.#active.delete(upstream)
      upstream.close()
    }
    close(sandbox.udpFd)
    close(sandbox.tcpFd)
    close(sandbox.ns.fd)
  }

  #zoneOf(networkId: string): NetworkZone {
    const zone = this.#zones.get(networkId) ?? new NetworkZone()
    this.#zones.set(networkId, zone)
    return zone
  }

  #removeNetwork(networkId: string): void {
    const zone = this.#zones.get(networkId)
    zone?.clear()
    // a view that still names it keeps the zone, so that names which come back are seen
    const isSeen = [...this.#sandboxes.values()].some(({ view }) => view.networks.some(({ id }) => id === networkId))
    if (!isSeen) this.#zones.delete(networkId)
  }

  #setHostUpstreams(list: readonly HostUpstream[]): void {
    this.#hostList = list
    // same servers or not: what they answered before the change (a VPN that came up) counts no more
    this.#hostDomains.clear()
    for (const sandbox of this.#sandboxes.values()) sandbox.domain = this.#domainOf(sandbox)
  }

  #domainOf(sandbox: DnsSandbox): ForwardDomain {
    const { upstreams, hasGateway } = sandbox.view
    const listed: DnsView['upstreams'] = upstreams.length > 0 ? upstreams : this.#hostList.map((server) => ({ ...server, from: 'host' }))
    const usable = listed.filter(({ ip, from }) => (from === 'host' ? hasGateway : ip !== OWN_ADDRESS))
    const servers = usable.map(({ ip, port = 53, from }) => {
      const key = `${ip}#${port}`
      const known = from === 'host' ? this.#hostUpstreams : sandbox.upstreams
      const server = known.get(key) ?? new Upstream(ip, port, from === 'host' ? undefined : sandbox.ns, this.#upstreamContext)
      known.set(key, server)
      return server
    })
    if (usable.some(({ from }) => from === 'sandbox')) return { id: ++this.#domainIds, upstreams: servers }
    const key = usable.map(({ ip, port = 53 }) => `${ip}#${port}`).join(' ')
    const domain = this.#hostDomains.get(key) ?? { id: ++this.#domainIds, upstreams: servers }
    this.#hostDomains.set(key, domain)
    return domain
  }

  // ---- questions

  #onDatagrams(sandbox: DnsSandbox): void {
    for (let i = 0; i < BATCHES_PER_TURN; i++) if (!this.#serveBatch(sandbox)) return
  }

  /** True when there may be more. */
  #serveBatch(sandbox: DnsSandbox): boolean {
    const batch = this.#batch
    const count = batch.receive(sandbox.udpFd)
    if (count === 0) return false
    this.#applyCommands()
    if (sandbox.isClosed) return false
    sandbox.refresh()
    for (let i = 0; i < count; i++) {
      const slot = batch.slots[i] as Buffer
      const length = batch.length(i)
      let answer = DROP
      try {
        answer = this.#answer(sandbox, slot, length, false)
        if (answer === FORWARD) {
          answer = DROP
          const peer = Buffer.from(batch.peers[i] as Buffer)
          this.#forward(sandbox, slot, false, (message) => {
            if (!transmitTo(sandbox.udpFd, message, message.length, peer)) this.#sendErrors++
          })
        }
      } catch (error) {
        answer = DROP // one bad question must not cost the others of its batch their answers
        this.#onError(error)
      }
      batch.setAnswer(i, answer)
    }
    this.#sendErrors += batch.send(sandbox.udpFd, count)
    return count === BATCH
  }

  #onConnection(sandbox: DnsSandbox): void {
    const fd = acceptTcp(sandbox.tcpFd)
    if (fd < -1) {
      this.#pauseAccept(sandbox)
      return
    }
    if (fd < 0) return
    if (sandbox.connections.size >= MAX_CONNECTIONS) {
      let idle: TcpConnection | undefined
      for (const connection of sandbox.connections) if (idle === undefined || connection.usedMs < idle.usedMs) idle = connection
      idle?.close()
    }
    const connection: TcpConnection = new TcpConnection(
      fd,
      this.#epoll,
      this.#now(),
      (frame) => this.#onFrame(sandbox, connection, frame),
      () => sandbox.connections.delete(connection),
    )
    sandbox.connections.add(connection)
  }

  /** No descriptor is left: let others close some, instead of being told again and again that somebody waits. */
  #pauseAccept(sandbox: DnsSandbox): void {
    if (!sandbox.isListening) return
    sandbox.isListening = false
    this.#epoll.modify(sandbox.tcpFd, 0)
    this.timers.at(this.#now() + ACCEPT_PAUSE_MS, () => {
      sandbox.isListening = true
      if (!sandbox.isClosed) this.#epoll.modify(sandbox.tcpFd, EPOLLIN)
    })
  }

  #onFrame(sandbox: DnsSandbox, connection: TcpConnection, frame: Buffer): void {
    this.#applyCommands()
    if (sandbox.isClosed) return
    sandbox.refresh()
    connection.usedMs = this.#now()
    const buffer = this.#frame
    buffer.set(frame)
    const answer = this.#answer(sandbox, buffer, frame.length, true)
    if (answer === FORWARD) {
      connection.pending++
      this.#forward(sandbox, buffer, true, (message) => {
        connection.write(message)
        connection.settleOne()
      })
    } else if (answer !== DROP) {
      connection.write(buffer.subarray(0, answer))
    }
  }

  /** Writes the answer over the question; {@link FORWARD} when it is not ours to give. */
  #answer(sandbox: DnsSandbox, buffer: Buffer, length: number, isTcp: boolean): number {
    this.#queries++
    sandbox.queries++
    if (length < HEADER_BYTES || ((buffer[2] as number) & 0x80) !== 0) return this.#count('dropped', DROP)
    const end = questionEnd(buffer, length)
    const opcode = (buffer[2] as number) & 0x78
    if (u16(buffer, 4) !== 1 || end < 0) return this.#count('malformed', writeFormatError(buffer))
    const hasMore = buffer[11] !== 0 || buffer[10] !== 0 || buffer[9] !== 0 || buffer[8] !== 0 || buffer[7] !== 0 || buffer[6] !== 0
    const opt = hasMore ? findOpt(buffer, end, length) : undefined
    if (opt === null) return this.#count('malformed', writeError(buffer, end, RCODE.FORMERR, undefined))
    if (opcode !== 0) return this.#count('malformed', writeError(buffer, end, RCODE.NOTIMP, opt))
    if (opt !== undefined && opt.version !== 0) return this.#count('malformed', writeError(buffer, end, RCODE.BADVERS, opt))

    const question = buffer.latin1Slice(HEADER_BYTES, end)
    let prepared = sandbox.prepared(question)
    if (prepared === undefined) {
      const local = resolveLocal(sandbox.zone, question)
      prepared = local === undefined ? undefined : prepareAnswer(local)
      if (prepared !== undefined) sandbox.remember(question, prepared)
    }
    const limit = answerLimit(isTcp, opt)
    if (prepared !== undefined) {
      const kind: AnswerKind = prepared.isPtr ? 'ptr' : prepared.count === 0 ? 'empty' : 'local'
      const written = writeLocal(buffer, end, prepared, limit, opt, this.#random)
      if (((buffer[2] as number) & 2) !== 0) this.#truncated++
      if (this.#queryLog !== undefined) this.#log(sandbox, question, kind, 0)
      return this.#count(kind, written)
    }
    return this.#answerFromCache(sandbox, buffer, end, question, limit, opt)
  }

  #answerFromCache(sandbox: DnsSandbox, buffer: Buffer, end: number, question: string, limit: number, opt: OptInfo | undefined): number {
    const nameEnd = question.length - 4 // of the last four bytes, type and class, 0x41 is no letter
    const flags = ((buffer[3] as number) & 0x30) | (opt === undefined ? 0 : opt.dnssecOk ? 3 : 1)
    this.#cacheKey = `${sandbox.domain.id} ${flags} ${lowerKey(question.slice(0, nameEnd))}${question.slice(nameEnd)}`
    const now = this.#now()
    const entry = this.#cache.get(this.#cacheKey, now)
    if (entry !== undefined) {
      this.#cacheHits++
      const age = Math.floor((now - entry.storedMs) / 1000)
      const written = writeForwarded(buffer, entry.message, entry.index, age, limit, opt)
      if (((buffer[2] as number) & 2) !== 0) this.#truncated++
      if (this.#queryLog !== undefined) this.#log(sandbox, question, 'cached', 0)
      return this.#count('cached', written)
    }
    this.#cacheMisses++
    this.#questionEnd = end
    this.#opt = opt
    return FORWARD
  }

  /** Right after {@link #answer} said so: asks upstream for the question in `buffer`, and sends the answer when it is there. */
  #forward(sandbox: DnsSandbox, buffer: Buffer, isTcp: boolean, send: (message: Uint8Array) => void): void {
    const end = this.#questionEnd
    const opt = this.#opt
    const asked = Uint8Array.from(buffer.subarray(0, end))
    const startedMs = this.#now()
    const waiter: Waiter = {
      isSettled: false,
      settle: (answer) => {
        sandbox.pending.delete(waiter)
        if (sandbox.isClosed) return
        if (answer !== undefined) noteAddresses(sandbox.zone, answer)
        const limit = answerLimit(isTcp, opt)
        const out = Buffer.alloc(Math.max(asked.length + 16, answer === undefined ? 0 : Math.min(limit, answer.index.end + 16)))
        out.set(asked)
        const kind: AnswerKind = answer === undefined ? 'servfail' : 'forwarded'
        const length =
          answer === undefined
            ? writeError(out, asked.length, RCODE.SERVFAIL, opt)
            : writeForwarded(out, answer.message, answer.index, 0, limit, opt)
        if (((out[2] as number) & 2) !== 0) this.#truncated++
        this.#answers[kind]++
        if (this.#queryLog !== undefined) {
          this.#log(sandbox, Buffer.from(asked.buffer).latin1Slice(HEADER_BYTES, asked.length), kind, this.#now() - startedMs)
        }
        send(out.subarray(0, length))
      },
    }
    const oldest = sandbox.enqueue(waiter)
    if (oldest !== undefined) {
      oldest.isSettled = true
      oldest.settle(undefined)
    }
    const flags = buffer[3] as number
    const question = {
      bytes: asked.subarray(HEADER_BYTES),
      opt,
      checkingDisabled: (flags & 0x10) !== 0,
      authenticData: (flags & 0x20) !== 0,
    }
    this.#forwarder.forward(sandbox.domain, this.#cacheKey, question, isTcp, waiter)
  }

  // ---- the rest

  #sweepLater(): void {
    this.timers.at(this.#now() + SWEEP_MS, () => {
      const now = this.#now()
      for (const upstream of this.#active) {
        upstream.sweep(now)
        if (!upstream.isActive) this.#active.delete(upstream)
      }
      for (const { connections } of this.#sandboxes.values()) {
        for (const connection of connections) if (now - connection.usedMs > TCP_IDLE_MS && connection.pending <= 0) connection.close()
      }
      this.#sweepLater()
    })
  }

  #count(kind: AnswerKind, length: number): number {
    this.#answers[kind]++
    return length
  }

  #log(sandbox: DnsSandbox, question: string, kind: AnswerKind, ms: number): void {
    const type = (question.charCodeAt(question.length - 4) << 8) | question.charCodeAt(question.length - 3)
    this.#queryLog?.({ sandboxId: sandbox.id, name: textKey(question) ?? question, type, kind, ms })
  }
}

function upstreamStats(upstream: Upstream, nowMs: number): DnsStats['upstreams'][number] {
  const { health, ip, port, from } = upstream
  const { sent, answered, bad, failed, rttMs } = health
  return { ip, port, from, sent, answered, bad, failed, rttMs, healthy: health.isHealthy(nowMs) }
}

/** Names that upstreams know for addresses of ours are left to them when looked up in reverse. */
function noteAddresses(zone: ZoneView, { message, index }: UpstreamAnswer): void {
  if (index.addresses.length === 0 || zone.networks.length === 0) return
  const owner = textKey(Buffer.from(message).latin1Slice(HEADER_BYTES, index.questionEnd))
  if (owner === undefined) return
  for (const { dataAt, bytes } of index.addresses) {
    const ip = ipFromBytes(message.subarray(dataAt, dataAt + bytes))
    for (const network of zone.networks) network.zone.sawUpstream(owner, ip)
  }
}

/** `question` = name, type and class in wire form, one character per byte. */
function resolveLocal(zone: ZoneView, question: string) {
  const end = question.length - 4
  if (((question.charCodeAt(end + 2) << 8) | question.charCodeAt(end + 3)) !== CLASS_IN) return undefined
  const type = (question.charCodeAt(end) << 8) | question.charCodeAt(end + 1)
  if (type !== TYPE.A && type !== TYPE.AAAA && type !== TYPE.PTR && type !== TYPE.MX) return undefined
  const key = textKey(question)
  if (key === undefined) return undefined
  if (type === TYPE.PTR) return zone.resolvePtr(key)
  if (type === TYPE.MX) return zone.knows(key) ? ({ kind: 'empty' } as const) : undefined
  return zone.resolveAddress(key, type === TYPE.A ? 4 : 6)
}

/** The name of a question as a zone key; undefined for the root and for labels that hold a dot, which no name of ours does. */
function textKey(question: string): string | undefined {
  const labels: string[] = []
  for (let at = 0; question.charCodeAt(at) !== 0; ) {
    const label = question.slice(at + 1, at + 1 + question.charCodeAt(at))
    if (label.includes('.')) return undefined
    labels.push(label)
    at += 1 + label.length
  }
  return labels.length === 0 ? undefined : lowerKey(labels.join('.'))
}

/**
 * Questions that are not ours: asked upstream once for everybody who asks the same, raced between servers, kept for their time to live.
 *
 * The first server in health order is asked; 50 ms later, or at once when it answers SERVFAIL, REFUSED or cannot be reached, the next one
 * is asked too, and the first useful answer wins. "No such name" of a server listed later waits a moment for the earlier ones, which may
 * know the name. A server that is down gets copies of live questions until it is back.
 */

import { RCODE } from '../wire/dns.ts'
import type { OptInfo } from '../wire/dns-scan.ts'
import { indexMessage, type MessageIndex } from '../wire/dns-scan.ts'
import { writeQuery } from './answers.ts'
import type { DnsCache } from './cache.ts'
import { orderByHealth } from './health.ts'
import type { LoopTimer, LoopTimers } from './timers.ts'
import { EXCHANGE_TIMEOUT_MS, type Upstream } from './upstream.ts'

const HEDGE_MS = 50
/** UDP loses packets: all servers are asked again after these times. */
const RETRANSMIT_MS = [1000, 2500] as const
/** Once one server has said that it cannot help, those that have fallen silent are asked once more and then given up. */
const RETRANSMIT_REFUSED_MS = [400] as const
const GIVE_UP_REFUSED_MS = 900

/** Servers that are asked the same way by everybody who shares this object; answers are cached per domain. */
export interface ForwardDomain {
  readonly id: number
  /** In listed order. */
  readonly upstreams: readonly Upstream[]
}

export interface UpstreamAnswer {
  readonly message: Uint8Array
  readonly index: MessageIndex
}

/** Somebody who waits. `settle` is called exactly once: with the answer, or undefined for SERVFAIL. */
export interface Waiter {
  isSettled: boolean
  readonly settle: (answer: UpstreamAnswer | undefined) => void
}

/** One question on its way. */
interface Flight {
  readonly key: string
  readonly cacheKey: string
  readonly domain: ForwardDomain
  readonly isTcp: boolean
  readonly question: ForwardQuestion
  readonly waiters: Waiter[]
  readonly order: readonly Upstream[]
  readonly startedMs: number
  /** Exchanges without an answer yet. */
  readonly open: Set<Attempt>
  next: number
  lastAskMs: number
  retransmits: number
  /** A server has answered that it cannot help, or cannot be reached. */
  isRefused: boolean
  held: { readonly answer: UpstreamAnswer; readonly position: number } | undefined
  cut: UpstreamAnswer | undefined
  isDone: boolean
  /** Done without an answer of those that are still open. */
  isGivenUp: boolean
  timer: LoopTimer | undefined
}

interface Attempt {
  readonly upstream: Upstream
  /** Place in the listed order. */
  readonly position: number
  readonly sentMs: number
}

export interface ForwardQuestion {
  /** Name, type and class as spelled by who asked first. */
  readonly bytes: Uint8Array
  readonly opt: OptInfo | undefined
  readonly checkingDisabled: boolean
  readonly authenticData: boolean
}

export class Forwarder {
  joined = 0
  hedged = 0
  readonly #timers: LoopTimers
  readonly #cache: DnsCache
  readonly #now: () => number
  readonly #onActive: (upstream: Upstream) => void
  readonly #flights = new Map<string, Flight>()

  constructor(parts: {
    readonly timers: LoopTimers
    readonly cache: DnsCache
    readonly now: () => number
    /** Called when a server was sent something: it must be swept from now on. */
    readonly onActive: (upstream: Upstream) => void
  }) {
    this.#timers = parts.timers
    this.#cache = parts.cache
    this.#now = parts.now
    this.#onActive = parts.onActive
  }

  /** `cacheKey` names domain, question and the flags that change the answer. May settle the waiter before it returns. */
  forward(domain: ForwardDomain, cacheKey: string, question: ForwardQuestion, isTcp: boolean, waiter: Waiter): void {
    const key = isTcp ? `t${cacheKey}` : cacheKey
    const present = this.#flights.get(key)
    if (present !== undefined) {
      this.joined++
      present.waiters.push(waiter)
      return
    }
    const now = this.#now()
    const flight: Flight = {
      key,
      cacheKey,
      domain,
      isTcp,
      question,
      waiters: [waiter],
      order: orderByHealth(domain.upstreams, now),
      startedMs: now,
      open: new Set(),
      next: 0,
      lastAskMs: now,
      retransmits: 0,
      isRefused: false,
      held: undefined,
      cut: undefined,
      isDone: false,
      isGivenUp: false,
      timer: undefined,
    }
    this.#flights.set(key, flight)
    if (!this.#askNext(flight)) {
      this.#finish(flight, undefined)
      return
    }
    for (const upstream of flight.order.slice(flight.next)) if (upstream.health.takeProbe(now)) this.#ask(flight, upstream, isTcp)
    this.#schedule(flight)
  }

  get size(): number {
    return this.#flights.size
  }

  /** Asks the next server that can be asked; false when there is none left. */
  #askNext(flight: Flight): boolean {
    while (flight.next < flight.order.length) {
      const upstream = flight.order[flight.next++] as Upstream
      if ([...flight.open].some((attempt) => attempt.upstream === upstream)) continue // was asked as a probe
      if (flight.next > 1) this.hedged++
      if (this.#ask(flight, upstream, flight.isTcp)) return true
    }
    return false
  }

  #ask(flight: Flight, upstream: Upstream, isTcp: boolean, withOpt = true): boolean {
    const { question } = flight
    const query = writeQuery(question.bytes, 0, question, withOpt ? question.opt : undefined)
    const now = this.#now()
    const attempt: Attempt = { upstream, position: flight.domain.upstreams.indexOf(upstream), sentMs: now }
    const end = (message: Uint8Array | undefined, atMs: number): void => {
      if (!flight.open.delete(attempt)) return
      if (flight.isDone) this.#keepLate(flight, message, atMs)
      else this.#onEnd(flight, attempt, message, isTcp, withOpt, atMs)
    }
    flight.open.add(attempt)
    const isSent = isTcp ? upstream.askTcp(query, end) : upstream.askUdp(query, end)
    if (isSent) {
      this.#onActive(upstream)
      flight.lastAskMs = now
    } else {
      flight.open.delete(attempt)
    }
    return isSent
  }

  #onEnd(flight: Flight, attempt: Attempt, message: Uint8Array | undefined, isTcp: boolean, withOpt: boolean, now: number): void {
    const index = message === undefined ? undefined : indexMessage(message)
    if (message === undefined || index === undefined || (index.rcode !== RCODE.NOERROR && index.rcode !== RCODE.NXDOMAIN)) {
      if (message !== undefined) {
        attempt.upstream.health.bad++
        // a server from before EDNS: ask it again in plain words (RFC 6891 7)
        const rcode = (message[3] as number) & 15
        const isOld = rcode === RCODE.FORMERR || rcode === RCODE.NOTIMP
        if (isOld && withOpt && flight.question.opt !== undefined && this.#ask(flight, attempt.upstream, isTcp, false)) return
      }
      this.#onUseless(flight, now)
      return
    }
    const answer: UpstreamAnswer = { message, index }
    if (index.truncated && !isTcp && flight.question.opt !== undefined) {
      // the client may be able to take it whole; if TCP fails, it gets the cut answer and may try itself
      flight.cut ??= answer
      if (this.#ask(flight, attempt.upstream, true)) {
        this.#schedule(flight)
        return
      }
    }
    const isNegative = index.rcode === RCODE.NXDOMAIN || !index.answersType
    if (isNegative && this.#holdUntil(flight, attempt.position, now) > now) {
      if (flight.held === undefined || attempt.position < flight.held.position) flight.held = { answer, position: attempt.position }
      this.#schedule(flight)
      return
    }
    this.#finish(flight, answer)
  }

  /** An answer after its question was given up: whoever asks again gets it from the cache. */
  #keepLate(flight: Flight, message: Uint8Array | undefined, now: number): void {
    const index = flight.isGivenUp && message !== undefined ? indexMessage(message) : undefined
    if (message === undefined || index?.rcode !== RCODE.NOERROR || !index.answersType || index.truncated) return
    this.#cache.put(flight.cacheKey, message, index, now)
  }

  #onUseless(flight: Flight, now: number): void {
    const { held } = flight
    flight.isRefused = true
    if (held !== undefined && this.#holdUntil(flight, held.position, now) <= now) {
      this.#finish(flight, held.answer)
      return
    }
    if (!this.#askNext(flight) && flight.open.size === 0) {
      this.#finish(flight, held?.answer ?? flight.cut)
      return
    }
    this.#schedule(flight)
  }

  /** Until when a server listed before `position` may still be expected to answer; 0 when none is. */
  #holdUntil(flight: Flight, position: number, now: number): number {
    let until = 0
    for (const { upstream, position: earlier, sentMs } of flight.open) {
      if (earlier < position && upstream.health.isHealthy(now)) until = Math.max(until, sentMs + upstream.health.expectedMs())
    }
    return until
  }

  #schedule(flight: Flight): void {
    if (flight.isDone) return
    const now = this.#now()
    let due = flight.startedMs + (this.#retransmitMs(flight) ?? EXCHANGE_TIMEOUT_MS)
    const giveUp = flight.startedMs + GIVE_UP_REFUSED_MS
    if (flight.isRefused && now < giveUp) due = Math.min(due, giveUp)
    if (flight.next < flight.order.length) due = Math.min(due, flight.lastAskMs + HEDGE_MS)
    if (flight.held !== undefined) due = Math.min(due, Math.max(now, this.#holdUntil(flight, flight.held.position, now)))
    flight.timer?.cancel()
    flight.timer = this.#timers.at(due, () => this.#onTimer(flight))
  }

  #retransmitMs({ isTcp, isRefused, retransmits }: Flight): number | undefined {
    return isTcp ? undefined : (isRefused ? RETRANSMIT_REFUSED_MS : RETRANSMIT_MS)[retransmits]
  }

  /** Nobody who might still answer shows any life. */
  #isHopeless(flight: Flight, now: number): boolean {
    if (!flight.isRefused || now - flight.startedMs < GIVE_UP_REFUSED_MS) return false
    return flight.next >= flight.order.length && ![...flight.open].some(({ upstream }) => upstream.health.isHealthy(now))
  }

  #onTimer(flight: Flight): void {
    if (flight.isDone) return
    const now = this.#now()
    const { held } = flight
    if (held !== undefined && this.#holdUntil(flight, held.position, now) <= now) {
      this.#finish(flight, held.answer)
      return
    }
    const elapsed = now - flight.startedMs
    if (elapsed >= EXCHANGE_TIMEOUT_MS || this.#isHopeless(flight, now)) {
      flight.isGivenUp = true
      this.#finish(flight, held?.answer ?? flight.cut)
      return
    }
    if (flight.next < flight.order.length) {
      if (now >= flight.lastAskMs + HEDGE_MS && !this.#askNext(flight) && flight.open.size === 0) {
        this.#finish(flight, held?.answer ?? flight.cut)
        return
      }
    } else if (elapsed >= (this.#retransmitMs(flight) ?? Number.POSITIVE_INFINITY)) {
      flight.retransmits++
      const waitedFor = new Set([...flight.open].map(({ upstream }) => upstream))
      for (const upstream of flight.order) if (!flight.isRefused || waitedFor.has(upstream)) this.#ask(flight, upstream, false)
    }
    this.#schedule(flight)
  }

  #finish(flight: Flight, answer: UpstreamAnswer | undefined): void {
    flight.isDone = true
    flight.timer?.cancel()
    this.#flights.delete(flight.key)
    if (answer !== undefined) this.#cache.put(flight.cacheKey, answer.message, answer.index, this.#now())
    for (const waiter of flight.waiters) {
      if (waiter.isSettled) continue
      waiter.isSettled = true
      waiter.settle(answer)
    }
  }
}

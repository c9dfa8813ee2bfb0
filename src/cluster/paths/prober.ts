/**
 * How large a packet gets from this host to another one on the way of the tunnels: questions of decreasing size with the don't-fragment bit
 * to UDP port 4789, answered by the other host's engine. An answer proves both ways for itself, so a question that arrives and whose
 * answer does not is seen only there: what was heard from whom is kept.
 */
import type { Ip } from '../../base/address.ts'
import { familyOf } from '../../base/address.ts'
import type { Clock, Rng } from '../../base/ports.ts'
import { decodePathProbe, encodePathProbe, type PathProbe, shortestProbe } from '../../wire/path-probe.ts'

/** A question is sent twice, this long apart; answers of the first count until the end of the second wait. */
const WAIT_MS = 200
const TRIES = 2
/** Sizes at which paths usually end: jumbo frames, Ethernet, PPPoE, tunnels of several kinds, IPv6's and IPv4's least. */
const LADDER = [9000, 8950, 8000, 4000, 2000, 1500, 1492, 1480, 1460, 1450, 1430, 1420, 1400, 1380, 1340, 1300, 1280, 1000, 576]
const SPLIT = 40
const MAX_SPLITS = 4

export interface ProberOptions {
  readonly hostId: string
  /** This host's tunnel end. */
  readonly source: Ip
  readonly port: number
  /** Of the interface with that address, in bytes. */
  readonly mtu: () => number
  /** Where another host is; undefined for strangers, who get no answer. */
  readonly addressOf: (hostId: string) => Ip | undefined
  /** False when the datagram could not leave. */
  readonly send: (to: Ip, datagram: Uint8Array) => boolean
  readonly clock: Clock
  readonly rng: Rng
}

interface Round {
  readonly number: number
  best: number
  /** Every question that was sent and is worth waiting for has been answered. */
  readonly isDone: () => boolean
  readonly done: () => void
}

export class Prober {
  readonly #o: ProberOptions
  readonly #rounds = new Map<number, Round>()
  readonly #running = new Map<string, Promise<number>>()
  /** Largest question that has come, by host and survey. */
  readonly #heard = new Map<string, { survey: number; size: number }>()
  #next: number

  constructor(options: ProberOptions) {
    this.#o = options
    const [a = 0, b = 0, c = 0] = options.rng.bytes(3)
    this.#next = (a << 16) | (b << 8) | c // answers to this engine's predecessor say nothing here
  }

  /** A datagram has come in. */
  receive(datagram: Uint8Array): void {
    const probe = decodePathProbe(datagram)
    if (probe === undefined || probe.from === this.#o.hostId) return
    if (probe.kind === 'answer') {
      const round = this.#rounds.get(probe.round)
      if (round === undefined) return
      round.best = Math.max(round.best, probe.size)
      if (round.isDone()) round.done()
      return
    }
    const to = this.#o.addressOf(probe.from)
    if (to === undefined) return
    const { round, survey, size } = probe
    const before = this.#heard.get(probe.from)
    if (survey !== 0) this.#heard.set(probe.from, { survey, size: Math.max(size, before?.survey === survey ? before.size : 0) })
    this.#send(to, { kind: 'answer', round, survey, size })
  }

  /** Bytes of the largest question of a survey that has come from a host; 0 = none. */
  heardFrom(hostId: string, survey: number): number {
    const heard = this.#heard.get(hostId)
    return heard?.survey === survey ? heard.size : 0
  }

  forget(hostId: string): void {
    this.#heard.delete(hostId)
  }

  /** Bytes of the largest IP packet that reaches the host and is answered: 0 when none is. Takes one round trip when all is well, at most 2.4 seconds. */
  probe(hostId: string, survey = 0): Promise<number> {
    const running = this.#running.get(`${hostId} ${survey}`)
    if (running !== undefined) return running
    const probing = this.#probe(hostId, survey).finally(() => this.#running.delete(`${hostId} ${survey}`))
    this.#running.set(`${hostId} ${survey}`, probing)
    return probing
  }

  async #probe(hostId: string, survey: number): Promise<number> {
    const to = this.#o.addressOf(hostId)
    if (to === undefined || familyOf(to) !== familyOf(this.#o.source)) return 0
    const most = this.#o.mtu()
    let low = await this.#ask(to, [most], survey)
    if (low === most) return most
    const least = shortestProbe(familyOf(to))
    let sizes = [...LADDER.filter((size) => size < most), least]
    let high = most
    low = 0
    for (let i = 0; i < MAX_SPLITS && sizes.length > 0; i++) {
      const best = await this.#ask(to, sizes, survey)
      if (low === 0 && best === 0) return 0
      low = Math.max(low, best)
      high = Math.min(high, ...sizes.filter((size) => size > low))
      sizes = between(low, high)
    }
    return low
  }

  /** The largest of `sizes` (largest first) that was answered. */
  async #ask(to: Ip, sizes: readonly number[], survey: number): Promise<number> {
    const { clock } = this.#o
    const stop = new AbortController()
    const number = this.#next++ >>> 0
    const round: Round = { number, best: 0, isDone: () => round.best === sizes[0], done: () => stop.abort() }
    this.#rounds.set(number, round)
    try {
      for (let i = 0; i < TRIES && !stop.signal.aborted; i++) {
        for (const size of sizes) if (size > round.best) this.#send(to, { kind: 'question', round: number, survey, size })
        await clock.sleep(WAIT_MS, stop.signal).catch(() => {})
      }
      return round.best
    } finally {
      this.#rounds.delete(number)
    }
  }

  #send(to: Ip, probe: Omit<PathProbe, 'from'>): void {
    const { hostId, source, port, send } = this.#o
    send(to, encodePathProbe({ ...probe, from: hostId }, source, to, port))
  }
}

/** Sizes to try between one that passes and one that does not, largest first; empty when they are neighbours. */
function between(low: number, high: number): number[] {
  const gap = high - low - 1
  if (gap <= SPLIT) return Array.from({ length: Math.max(gap, 0) }, (_, i) => high - 1 - i)
  return Array.from({ length: SPLIT }, (_, i) => high - Math.round(((i + 1) * gap) / (SPLIT + 1)))
}

/**
 * How an upstream does, and in which order upstreams are asked. Pure: time is a parameter, in milliseconds.
 *
 * The listed order is kept among those that answer, because the first server may know names that the others deny (split DNS). One that
 * does not answer is asked last, and gets a copy of a live question now and then to see whether it is back.
 */

const FIRST_PROBE_MS = 1000
const LAST_PROBE_MS = 10_000
const PATIENCE_MS = 250
const UNKNOWN_PATIENCE_MS = 90
const MAX_PATIENCE_MS = 1500

export class UpstreamHealth {
  sent = 0
  answered = 0
  bad = 0
  failed = 0
  #rttMs = 0
  #deviationMs = 0
  /** When the oldest question was sent that nothing has come back after; -1 = none. */
  #silentSince = -1
  #refused = false
  #probeAt = 0
  #probeGap = FIRST_PROBE_MS

  get rttMs(): number {
    return this.#rttMs
  }

  noteSent(nowMs: number): void {
    this.sent++
    if (this.#silentSince < 0) this.#silentSince = nowMs
  }

  /** Any answer shows that it lives, a useless one too. */
  noteAnswer(nowMs: number, rttMs: number): void {
    this.answered++
    this.#silentSince = -1
    this.#refused = false
    this.#probeGap = FIRST_PROBE_MS
    this.#probeAt = nowMs
    // RFC 6298, as TCP does
    if (this.#rttMs === 0) {
      this.#rttMs = Math.max(rttMs, 0.01)
      this.#deviationMs = rttMs / 2
    } else {
      this.#deviationMs += (Math.abs(rttMs - this.#rttMs) - this.#deviationMs) / 4
      this.#rttMs += (rttMs - this.#rttMs) / 8
    }
  }

  /** The kernel says it cannot be reached (refused, no route). */
  noteUnreachable(nowMs: number): void {
    this.failed++
    if (!this.#refused) this.#probeAt = nowMs + this.#probeGap
    this.#refused = true
  }

  noteTimeout(): void {
    this.failed++
  }

  isHealthy(nowMs: number): boolean {
    if (this.#refused) return false
    return this.#silentSince < 0 || nowMs - this.#silentSince <= Math.max(PATIENCE_MS, this.#patience())
  }

  /** True once per probe interval while it is not healthy; the interval grows up to 10 s. */
  takeProbe(nowMs: number): boolean {
    if (this.isHealthy(nowMs) || nowMs < this.#probeAt) return false
    this.#probeAt = nowMs + this.#probeGap
    this.#probeGap = Math.min(this.#probeGap * 2, LAST_PROBE_MS)
    return true
  }

  /** How long a "no such name" of a server listed later waits for this one's word: what it usually needs, 90 ms when never heard of. */
  expectedMs(): number {
    return this.#rttMs === 0 ? UNKNOWN_PATIENCE_MS : Math.max(UNKNOWN_PATIENCE_MS, this.#patience())
  }

  #patience(): number {
    return Math.min(this.#rttMs + 4 * this.#deviationMs, MAX_PATIENCE_MS)
  }
}

/** Healthy ones in listed order, then the others in listed order. */
export function orderByHealth<T extends { readonly health: UpstreamHealth }>(listed: readonly T[], nowMs: number): T[] {
  const healthy = listed.filter((upstream) => upstream.health.isHealthy(nowMs))
  return healthy.length === listed.length ? [...listed] : [...healthy, ...listed.filter((upstream) => !healthy.includes(upstream))]
}

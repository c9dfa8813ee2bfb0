/** A clock that a test moves on: what is due runs, in order, and what follows from it before the next. */
import type { Clock } from '../src/base/ports.ts'

export interface MovedClock {
  readonly clock: Clock
  /** Timers that have not run and were not cancelled. */
  readonly timers: ReadonlySet<unknown>
  move(ms: number): Promise<void>
}

export function movedClock(): MovedClock {
  let now = 0
  const timers = new Set<{ at: number; fn: () => void }>()
  const after: Clock['after'] = (ms, fn) => {
    const timer = { at: now + Math.trunc(ms), fn } // as setTimeout does
    timers.add(timer)
    return () => timers.delete(timer)
  }
  const clock: Clock = {
    now: () => now,
    after,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(signal.reason)
        const cancel = after(ms, resolve)
        signal?.addEventListener('abort', () => {
          cancel()
          reject(signal.reason)
        })
      }),
  }
  const settle = () => new Promise((resolve) => setImmediate(resolve))
  return {
    clock,
    timers,
    async move(ms) {
      const end = now + ms
      await settle()
      for (;;) {
        const next = [...timers].sort((a, b) => a.at - b.at)[0]
        if (next === undefined || next.at > end) break
        now = next.at
        timers.delete(next)
        next.fn()
        await settle()
      }
      now = end
    },
  }
}

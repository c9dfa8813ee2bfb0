/** Names the steps of a long run that do not come to an end. */

export interface Watchdog {
  /** Notes that somebody waits for `done`, and passes it on. */
  step<T>(what: string | (() => string), done: Promise<T>): Promise<T>
  stop(): void
}

/** Tells `report`, every few seconds, of steps that have lasted longer than `slowMs`. `say` adds what may explain it. */
export function startWatchdog(slowMs: number, report: (lines: readonly string[]) => void, say: () => string = () => ''): Watchdog {
  const waiting = new Map<symbol, { readonly what: string | (() => string); readonly since: number }>()
  const timer = setInterval(() => {
    const now = Date.now()
    const slow = [...waiting.values()].filter(({ since }) => now - since > slowMs)
    if (slow.length > 0)
      report([
        ...slow.slice(0, 10).map(({ what, since }) => `${typeof what === 'string' ? what : what()}: waiting for ${now - since} ms`),
        say(),
      ])
  }, slowMs)
  timer.unref()
  return {
    step(what, done) {
      const id = Symbol()
      waiting.set(id, { what, since: Date.now() })
      return done.finally(() => waiting.delete(id))
    },
    stop: () => clearInterval(timer),
  }
}

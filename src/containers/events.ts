/** The event bus: everything that happens to containers, images, volumes and networks, in order, with the last 256 kept. */
import type { Clock } from '../base/ports.ts'
import type { EngineEvent, EventBus } from './types.ts'

const KEPT = 256

/** @param onError receives what a listener throws: one bad listener must not keep an event from the others. */
export function createEventBus(clock: Clock, onError: (error: unknown) => void = () => {}): EventBus {
  const kept: EngineEvent[] = []
  const listeners = new Set<(event: EngineEvent) => void>()
  let lastNano = 0
  return {
    publish(event) {
      const now = clock.now()
      // a double holds nanoseconds of this century only to 256 ns; steps of 1024 keep the order of events of one millisecond
      lastNano = Math.max(now * 1e6, lastNano + 1024)
      const full: EngineEvent = { ...event, scope: 'local', time: Math.floor(now / 1000), timeNano: lastNano }
      kept.push(full)
      if (kept.length > KEPT) kept.shift()
      for (const listener of [...listeners]) {
        try {
          listener(full)
        } catch (error) {
          onError(error)
        }
      }
    },
    history: () => kept.slice(),
    subscribe(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
  }
}

/** The event bus of the in-memory services: keeps everything that was published. */
import type { EngineEvent, EventBus } from '../../src/containers/types.ts'

/** Publishes to whoever listens, at once, and remembers it. */
export class MemoryEvents implements EventBus {
  readonly #history: EngineEvent[] = []
  readonly listeners = new Set<(event: EngineEvent) => void>()

  publish(event: Omit<EngineEvent, 'time' | 'timeNano' | 'scope'>): void {
    const now = Date.now()
    const full: EngineEvent = { ...event, scope: 'local', time: Math.floor(now / 1000), timeNano: now * 1e6 }
    this.#history.push(full)
    for (const listener of [...this.listeners]) listener(full)
  }
  history(): readonly EngineEvent[] {
    return this.#history
  }
  subscribe(listener: (event: EngineEvent) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }
}

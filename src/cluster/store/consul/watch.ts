/**
 * Follows one prefix with Consul's blocking queries. Each answer is everything below the prefix, so what changed is the difference to
 * what was there before, and nothing is ever missed. Rules of the index: api-docs/features/blocking.
 */
import type { StoreEntry, StoreEvent } from '../types.ts'

export interface Position {
  readonly generation: number
  /** X-Consul-Index of the last answer. */
  index: string
  /** The next question is to be answered without waiting for a change. */
  atOnce: boolean
  /** Version by key. */
  known: ReadonlyMap<string, string>
}

/** Seconds that the agent waits for a change before it answers the same again. */
export const WAIT_SECONDS = 60
/** The agent adds up to a sixteenth, and then sends everything. */
export const WAIT_TIMEOUT_MS = WAIT_SECONDS * 1000 * (1 + 1 / 16) + 10_000

/** What happened between what was known and `entries`. `broken`: that cannot have happened, the data is another. */
export function difference(
  known: ReadonlyMap<string, string>,
  entries: readonly StoreEntry[],
  wentBack: boolean,
): { readonly events: readonly StoreEvent[]; readonly known: ReadonlyMap<string, string>; readonly broken: boolean } {
  const next = new Map(entries.map(({ key, version }) => [key, version]))
  const events: StoreEvent[] = []
  let broken = false
  for (const entry of entries) {
    const before = known.get(entry.key)
    if (before === entry.version) continue
    if (before !== undefined && indexOf(before) > indexOf(entry.version)) broken = true
    events.push({ kind: 'put', ...entry })
  }
  // in the order in which they happened; deletes have no index of their own
  events.sort((a, b) => (a.kind === 'put' && b.kind === 'put' ? indexOf(a.version) - indexOf(b.version) : 0))
  const gone = [...known.keys()].filter((key) => !next.has(key))
  // a delete raises the index; the index alone goes back when Consul forgets old deletes
  if (gone.length > 0 && wentBack) broken = true
  return { events: [...gone.map((key): StoreEvent => ({ kind: 'delete', key })), ...events], known: next, broken }
}

function indexOf(version: string): number {
  return Number(version.slice(version.indexOf('.') + 1))
}

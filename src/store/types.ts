/**
 * The store: an ordered map from text keys to JSON values, embedded and transactional. `lmdb-store.ts` keeps it on disk,
 * `memory-store.ts` in memory; `testkit/contracts/store.ts` is the suite that both pass.
 *
 * Refuses to do: queries, indexes, watches, schemas. Whoever owns a prefix (`network/`, `endpoint/`) owns the shape of its values.
 * Keys are ordered by their UTF-8 bytes. Everything is synchronous, so an intent is stored before the next line runs.
 */

export interface Store {
  /** The value as last put, as a fresh copy; undefined when there is none. */
  get<T>(key: string): T | undefined
  /** Stores a JSON value (no undefined at the top, no bigint). When it returns, the value survives the death of the process. Throws `invalid`. */
  put(key: string, value: unknown): void
  /** Idempotent. */
  remove(key: string): void
  /** All entries whose key starts with `prefix`, in key order; '' lists everything. */
  list<T>(prefix: string): [string, T][]
  /**
   * Runs `fn`, whose puts and removes become visible to others all together when it returns, and not at all when it throws
   * (the error is passed on). Reads inside see the writes so far. Nests: an inner one that throws undoes only itself.
   * `fn` must be synchronous: one that returns a promise is undone and refused with `internal`.
   */
  transaction(fn: () => void): void
  /** Resolves when everything put so far is on stable storage. */
  flush(): Promise<void>
  /** Flushes and closes. Every later call throws `unavailable`. Idempotent. */
  close(): Promise<void>
}

/** Everything in the store as one object tree for people, split at `/`: `{ network: { "1f2e…": {…} } }`. */
export function dump(store: Store): object {
  const root: Record<string, unknown> = Object.create(null)
  for (const [key, value] of store.list<unknown>('')) {
    const parts = key.split('/')
    const leaf = parts.pop() as string
    let node = root
    for (const part of parts) {
      // a key that is also a prefix of others gets its own value under ''
      const next = node[part]
      if (!isBranch(next)) node[part] = next === undefined ? branch() : branch(next)
      node = node[part] as Record<string, unknown>
    }
    const there = node[leaf]
    if (isBranch(there)) there[''] = value
    else node[leaf] = value
  }
  return plain(root)
}

const BRANCH = Symbol('branch')

function branch(own?: unknown): Record<string, unknown> {
  const node: Record<string | symbol, unknown> = Object.create(null)
  node[BRANCH] = true
  if (own !== undefined) node[''] = own
  return node
}

function isBranch(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && (value as Record<symbol, unknown>)[BRANCH] === true
}

function plain(node: Record<string, unknown>): object {
  return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, isBranch(value) ? plain(value) : value]))
}

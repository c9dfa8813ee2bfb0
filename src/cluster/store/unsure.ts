/** After the answer to a transaction was lost and its repetition met a conflict: was it the first attempt that made it? */
import type { StoreEntry, Txn, TxnResult, Version } from './types.ts'

/** The result when every put key has our value and every deleted one is gone; undefined when not. `read` asks for one key. */
export async function appliedAnyway(txn: Txn, read: (key: string) => Promise<StoreEntry | undefined>): Promise<TxnResult | undefined> {
  const puts = txn.puts ?? []
  const deletes = txn.deletes ?? []
  const found = await Promise.all([...puts.map((put) => put.key), ...deletes].map(read))
  const versions = new Map<string, Version>()
  for (const [i, put] of puts.entries()) {
    const entry = found[i]
    if (entry?.value !== put.value) return undefined
    versions.set(put.key, entry.version)
  }
  return found.slice(puts.length).every((entry) => entry === undefined) ? { ok: true, versions } : undefined
}

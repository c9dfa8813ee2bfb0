/** What the port allows as keys, values and transactions, checked before anything is sent; and our folder in the store. */
import { NetError } from '../../base/errors.ts'
import {
  type Lease,
  MAX_LEASE_SECONDS,
  MAX_TXN_BYTES,
  MAX_TXN_OPERATIONS,
  MAX_VALUE_BYTES,
  MIN_LEASE_SECONDS,
  type Txn,
  txnSize,
} from './types.ts'

const MAX_KEY_LETTERS = 400
/** Printable ASCII without what a URL or a shell would take for something else. */
const KEY = /^[A-Za-z0-9._~:@+=-]+(\/[A-Za-z0-9._~:@+=-]+)*$/

const invalid = (message: string) => new NetError('invalid', message)

/** Throws `invalid`. */
export function checkKey(key: string): void {
  if (!KEY.test(key))
    throw invalid(`"${key}" cannot be a key of the cluster store: expected segments of letters, digits and . _ ~ : @ + = -`)
  if (key.length > MAX_KEY_LETTERS)
    throw invalid(`key "${key.slice(0, 40)}…" of the cluster store is longer than ${MAX_KEY_LETTERS} letters`)
}

/** A prefix is a key, a key and `/`, or ''. */
export function checkPrefix(prefix: string): void {
  if (prefix !== '') checkKey(prefix.endsWith('/') ? prefix.slice(0, -1) : prefix)
}

/** Throws `invalid` for a transaction that one of the stores would refuse, or of which they disagree on the outcome. */
export function checkTxn(txn: Txn): void {
  const size = txnSize(txn)
  if (size === 0) throw invalid('a transaction of the cluster store without any operation')
  if (size > MAX_TXN_OPERATIONS) throw invalid(`a transaction of ${size} operations: the cluster store takes ${MAX_TXN_OPERATIONS} at most`)
  let bytes = 0
  const written = new Set<string>()
  const write = (key: string) => {
    checkKey(key)
    if (written.has(key)) throw invalid(`a transaction writes key "${key}" of the cluster store twice`)
    written.add(key)
  }
  for (const put of txn.puts ?? []) {
    write(put.key)
    const own = Buffer.byteLength(put.value)
    bytes += own
    if (own > MAX_VALUE_BYTES)
      throw invalid(`the value of key "${put.key}" has ${own} bytes: the cluster store takes ${MAX_VALUE_BYTES} at most`)
    // U+FFFD stands for what is not text: half a surrogate pair would not come back as it went in
    if (/\p{Surrogate}/u.test(put.value)) throw invalid(`the value of key "${put.key}" is not well-formed text`)
  }
  if (bytes > MAX_TXN_BYTES) throw invalid(`a transaction of ${bytes} bytes: the cluster store takes ${MAX_TXN_BYTES} at most`)
  for (const key of txn.deletes ?? []) write(key)
  const checked = new Set<string>()
  for (const check of txn.checks ?? []) {
    checkKey(check.key)
    if (checked.has(check.key)) throw invalid(`a transaction checks key "${check.key}" of the cluster store twice`)
    checked.add(check.key)
  }
}

export function checkLeaseSeconds(seconds: number): void {
  if (!Number.isInteger(seconds) || seconds < MIN_LEASE_SECONDS || seconds > MAX_LEASE_SECONDS)
    throw invalid(`a lease of ${seconds} s: the cluster store takes whole seconds from ${MIN_LEASE_SECONDS} to ${MAX_LEASE_SECONDS}`)
}

export function checkLease(lease: Lease): void {
  if (lease.ended()) throw new NetError('conflict', `the lease ${lease.id} has ended: expected a new one`, { subject: lease.id })
}

/** Bytes of a foreign value as the port gives them. */
export function valueText(bytes: Buffer): string {
  return bytes.length > MAX_VALUE_BYTES ? '' : bytes.toString('utf8')
}

/** A foreign key below `root`, relative to it; undefined when it is elsewhere or not text. */
export function relativeKey(bytes: Buffer, root: string): string | undefined {
  const text = bytes.toString('utf8')
  if (!text.startsWith(root) || !Buffer.from(text).equals(bytes)) return undefined
  return text.slice(root.length)
}

/** etcd v3's JSON gateway (api/etcdserverpb/rpc.proto): what is asked and answered. int64 are texts there, bytes are base64. */

import { relativeKey, valueText } from '../keys.ts'
import type { StoreEntry } from '../types.ts'

export interface Header {
  readonly cluster_id?: string
  readonly revision?: string
  readonly raft_term?: string
}

export interface KeyValue {
  readonly key?: string
  readonly value?: string
  readonly mod_revision?: string
}

export interface RangeAnswer {
  readonly header?: Header
  readonly kvs?: readonly KeyValue[]
  readonly more?: boolean
}

export interface TxnAnswer {
  readonly header?: Header
  readonly succeeded?: boolean
  readonly responses?: readonly { readonly response_range?: RangeAnswer }[]
}

export interface WatchAnswer {
  readonly header?: Header
  readonly created?: boolean
  readonly canceled?: boolean
  readonly cancel_reason?: string
  readonly compact_revision?: string
  readonly events?: readonly { readonly type?: 'PUT' | 'DELETE'; readonly kv?: KeyValue }[]
}

/** What the gateway says when it refuses: flat, or inside of `error` in a stream. */
export interface GatewayError {
  readonly error?: string | { readonly grpc_code?: number; readonly message?: string }
  readonly message?: string
  readonly code?: number
}

export function base64(text: string): string {
  return Buffer.from(text, 'utf8').toString('base64')
}

/** The key after all keys that begin with `prefix`: its last byte plus one. `prefix` ends with an ASCII letter. */
export function endOfPrefix(prefix: string): string {
  const bytes = Buffer.from(prefix, 'utf8')
  bytes[bytes.length - 1] = (bytes.at(-1) as number) + 1
  return bytes.toString('base64')
}

/** The key right after this one, in base64 both. */
export function successor(key: string): string {
  return Buffer.concat([Buffer.from(key, 'base64'), Buffer.of(0)]).toString('base64')
}

/** The entry of the port, or undefined for a key that is not ours, or for what is none at all. */
export function entryOf(kv: KeyValue | null, root: string, versionOf: (modRevision: string) => string): StoreEntry | undefined {
  if (typeof kv?.key !== 'string') return undefined
  const key = relativeKey(Buffer.from(kv.key, 'base64'), root)
  if (key === undefined) return undefined
  return { key, value: valueText(Buffer.from(String(kv.value ?? ''), 'base64')), version: versionOf(String(kv.mod_revision ?? '0')) }
}

/** What hosts tell of themselves for others to compare: what their kernels hold, and what they found about the paths to each other. */
import { createHash } from 'node:crypto'
import { type Decoded, decode, type Fields, fieldsOf, id, int, isId, items, MAX_ITEMS, optional, text, texts, Wrong } from './fields.ts'
import type { KernelEntry } from './model.ts'
import type { PathReport } from './paths/paths.ts'

/** A network's entries in one host's kernel, as a hash that is equal on all hosts that agree. */
export interface KernelState {
  /** The store's revision up to which the host had heard of the network's endpoints: its own number, as `etcdctl` shows it. */
  readonly revision: number
  /** Hash of what the kernel holds. */
  readonly hash: string
  /** Hash of what it should hold by all that the host had heard; another one than the store's means that the host is behind. */
  readonly wanted: string
  readonly entries: number
  /** How often something was put right that somebody else had changed, since the engine started. */
  readonly repairs: number
}

/** `kernels/<host>`: written by the host when something has changed, at most once in a while. */
export interface Publication {
  /** Milliseconds since the epoch. */
  readonly at: number
  /** By network. */
  readonly networks: ReadonlyMap<string, KernelState>
}

/** `states/<network>/<host>`: the same with all entries, for whoever asked with this nonce. */
export interface PublishedState extends KernelState {
  readonly nonce: string
  /** Left out when it is too long for one value. */
  readonly lines: readonly string[] | undefined
}

/** `networks/verification` */
export interface Question {
  readonly nonce: string
  /** Hosts that are to tell all entries, and of which networks; absent: all. The others look whether what they have published is still so. */
  readonly hosts?: readonly string[]
  readonly networks?: readonly string[]
}

/** `paths/<host>` */
export interface PublishedPaths extends PathReport {
  readonly nonce: string
}

/** A publication with more than this is cut: who verifies asks for what is missing. */
const MAX_PUBLICATION_BYTES = 200_000

/** One line for each path, sorted: equal states are equal texts. */
export function kernelLines(entries: readonly KernelEntry[]): string[] {
  return [...new Set(entries.map((e) => `${e.ip} ${e.mac} ${e.host}`))].toSorted()
}

export function hashOf(lines: readonly string[]): string {
  return createHash('sha256').update(lines.join('\n')).digest('hex').slice(0, 16)
}

/** Leaves out what can be told from the rest: a host may be on a thousand networks. */
export function encodePublication({ at, networks }: Publication): string {
  const told: [string, object][] = []
  let bytes = 0
  for (const [networkId, { revision, hash, wanted, entries, repairs }] of networks) {
    const state = { revision, hash, ...(wanted === hash ? {} : { wanted }), entries, ...(repairs === 0 ? {} : { repairs }) }
    bytes += JSON.stringify(state).length + networkId.length + 4
    if (bytes > MAX_PUBLICATION_BYTES) break
    told.push([networkId, state])
  }
  return JSON.stringify({ at, networks: Object.fromEntries(told) })
}

export function decodePublication(value: string): Decoded<Publication> {
  return decode(value, (f) => {
    const table = fieldsOf(f['networks'], '"networks"')
    const networks = new Map<string, KernelState>()
    for (const networkId of idsOf(table, 'network')) networks.set(networkId, stateOf(fieldsOf(table[networkId], 'the state of a network')))
    return { at: int(f, 'at', 0, Number.MAX_SAFE_INTEGER), networks }
  })
}

export function decodeState(value: string): Decoded<PublishedState> {
  return decode(value, (f) => ({
    ...stateOf(f),
    nonce: text(f, 'nonce'),
    lines: optional(f, 'lines', (fields, name) => texts(fields, name, 100_000)),
  }))
}

function stateOf(f: Fields): KernelState {
  const hash = text(f, 'hash')
  const count = (fields: Fields, name: string) => int(fields, name, 0, Number.MAX_SAFE_INTEGER)
  return {
    revision: count(f, 'revision'),
    hash,
    wanted: optional(f, 'wanted', text) ?? hash,
    entries: count(f, 'entries'),
    repairs: optional(f, 'repairs', count) ?? 0,
  }
}

export function decodePaths(value: string): Decoded<PublishedPaths> {
  return decode(value, (f) => ({
    nonce: text(f, 'nonce'),
    sent: sizes(f, 'sent'),
    heard: sizes(f, 'heard'),
    need: int(f, 'need', 0, 65535),
  }))
}

function sizes(fields: Fields, name: string): Record<string, number> {
  const table = fieldsOf(fields[name], `"${name}"`)
  return Object.fromEntries(idsOf(table, 'host').map((hostId) => [hostId, int(table, hostId, 0, 65535)]))
}

function idsOf(table: Fields, what: string): string[] {
  const ids = Object.keys(table)
  if (ids.length > MAX_ITEMS || !ids.every(isId)) throw new Wrong(`it is not a table by ${what}`)
  return ids
}

export function decodeQuestion(value: string): Decoded<Question> {
  return decode(value, (f) => {
    const ids = (fields: Fields, name: string) => items(fields, name).map((entry) => id({ [name]: entry }, name))
    const hosts = optional(f, 'hosts', ids)
    const networks = optional(f, 'networks', ids)
    return { nonce: text(f, 'nonce'), ...(hosts === undefined ? {} : { hosts }), ...(networks === undefined ? {} : { networks }) }
  })
}

/**
 * Local names: which addresses a sandbox gets for a name, by Docker's rules. Pure: no packets, no sockets.
 *
 * Names are keys: the bytes of the UTF-8 form, one character each, ASCII lower case, no final dot (see {@link nameKey}).
 */
import { type Ip, ipFromBytes, tryParseIp } from '../base/address.ts'
import type { DnsRecordSet, DnsView } from './types.ts'

interface Entry {
  readonly record: DnsRecordSet
  readonly keys: readonly string[]
  /** An upstream knows this name for this address too: the reverse look-up is then the upstream's. */
  external: boolean
}

/** The comparable form of a name as people or Docker write it. */
export function nameKey(name: string): string {
  const bytes = Buffer.from(name, 'utf8').toString('latin1')
  return lowerKey(bytes.endsWith('.') ? bytes.slice(0, -1) : bytes)
}

/** ASCII letters only: bytes above 0x7f have no case in DNS (RFC 4343). */
export function lowerKey(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase())
}

/** All records of one network. `generation` grows with every change. */
export class NetworkZone {
  generation = 0
  readonly #entries = new Map<string, Entry>()
  readonly #byName = new Map<string, Map<string, Entry>>()
  readonly #byIp = new Map<Ip, Map<string, Entry>>()

  set(record: DnsRecordSet): void {
    this.#drop(record.endpointId)
    const entry: Entry = { record, keys: [...new Set(record.names.map(nameKey))].filter((key) => key !== ''), external: false }
    this.#entries.set(record.endpointId, entry)
    for (const key of entry.keys) put(this.#byName, key, entry)
    for (const ip of [record.ipv4, record.ipv6]) if (ip !== undefined) put(this.#byIp, ip, entry)
    this.generation++
  }

  remove(endpointId: string): void {
    if (this.#drop(endpointId)) this.generation++
  }

  clear(): void {
    this.#entries.clear()
    this.#byName.clear()
    this.#byIp.clear()
    this.generation++
  }

  /** Addresses of a name; undefined when the network does not know it, empty when it has none of this family. */
  addresses(key: string, family: 4 | 6): Ip[] | undefined {
    const entries = this.#byName.get(key)
    if (entries === undefined) return undefined
    const out: Ip[] = []
    for (const { record } of entries.values()) {
      const ip = family === 4 ? record.ipv4 : record.ipv6
      if (ip !== undefined && !out.includes(ip)) out.push(ip)
    }
    return out
  }

  /** The first name of the endpoint that holds `ip`; undefined when an upstream answers for it. */
  nameOf(ip: Ip): string | undefined {
    for (const { record, external } of this.#byIp.get(ip)?.values() ?? []) return external ? undefined : record.names[0]
    return undefined
  }

  /** Notes that an upstream gave `ip` for `key`: if that is exactly a first name of ours, reverse look-ups are left to upstreams. */
  sawUpstream(key: string, ip: Ip): void {
    for (const entry of this.#byIp.get(ip)?.values() ?? []) {
      if (!entry.external && entry.keys[0] === key) {
        entry.external = true
        this.generation++
      }
    }
  }

  #drop(endpointId: string): boolean {
    const entry = this.#entries.get(endpointId)
    if (entry === undefined) return false
    this.#entries.delete(endpointId)
    for (const key of entry.keys) take(this.#byName, key, endpointId)
    for (const ip of [entry.record.ipv4, entry.record.ipv6]) if (ip !== undefined) take(this.#byIp, ip, endpointId)
    return true
  }
}

function put<K>(index: Map<K, Map<string, Entry>>, key: K, entry: Entry): void {
  const entries = index.get(key) ?? new Map<string, Entry>()
  entries.set(entry.record.endpointId, entry)
  index.set(key, entries)
}

function take<K>(index: Map<K, Map<string, Entry>>, key: K, endpointId: string): void {
  const entries = index.get(key)
  entries?.delete(endpointId)
  if (entries?.size === 0) index.delete(key)
}

/** Local answer: addresses, a name, nothing of that type (`empty`), or not ours to answer (undefined). */
export type LocalAnswer =
  | { readonly kind: 'addresses'; readonly family: 4 | 6; readonly addresses: readonly Ip[] }
  | { readonly kind: 'ptr'; readonly target: string }
  | { readonly kind: 'empty' }

interface ViewNetwork {
  readonly zone: NetworkZone
  readonly key: string
  readonly name: string
  readonly aliases: ReadonlyMap<string, readonly string[]>
}

/** A {@link DnsView} bound to the zones of its networks. */
export class ZoneView {
  readonly networks: readonly ViewNetwork[]
  readonly #ndotsSet: boolean

  constructor(view: DnsView, zoneOf: (networkId: string) => NetworkZone) {
    this.#ndotsSet = view.ndotsSet
    this.networks = view.networks.map((network) => ({
      zone: zoneOf(network.id),
      key: nameKey(network.name),
      name: network.name,
      aliases: new Map(Object.entries(network.aliases).map(([alias, names]) => [nameKey(alias), names.map(nameKey)])),
    }))
  }

  /** Grows when any of the networks changed. */
  generation(): number {
    let sum = 0
    for (const { zone } of this.networks) sum += zone.generation
    return sum
  }

  /** A and AAAA. */
  resolveAddress(key: string, family: 4 | 6): LocalAnswer | undefined {
    const found = this.#lookup(key, family)
    if (found !== undefined) return found.length === 0 ? { kind: 'empty' } : { kind: 'addresses', family, addresses: found }
    return this.#ndotsSet && !key.includes('.') ? { kind: 'empty' } : undefined
  }

  /** True when some network knows the name, in whichever family: such a name's MX is answered here, with nothing. */
  knows(key: string): boolean {
    return this.#lookup(key, 4) !== undefined
  }

  /** `4.3.2.1.in-addr.arpa` and the ip6.arpa form. */
  resolvePtr(key: string): LocalAnswer | undefined {
    const ip = ipOfPtr(key)
    if (ip === undefined) return undefined
    for (const { zone, name } of this.networks) {
      const host = zone.nameOf(ip)
      if (host !== undefined) return { kind: 'ptr', target: `${host}.${name}` }
    }
    return undefined
  }

  /** Undefined: unknown. Empty: known, but not in this family. */
  #lookup(key: string, family: 4 | 6): readonly Ip[] | undefined {
    // "a.b.c": the name a.b.c on any network, then a.b on network c, then a on network b.c
    for (let dot = key.length; dot > 0; dot = key.lastIndexOf('.', dot - 1)) {
      const host = key.slice(0, dot)
      const network = dot === key.length ? undefined : key.slice(dot + 1)
      const found = this.#onNetworks(host, network, family, true) ?? this.#onNetworks(host, network, family, false)
      if (found !== undefined) return found
    }
    return undefined
  }

  #onNetworks(host: string, network: string | undefined, family: 4 | 6, byAlias: boolean): readonly Ip[] | undefined {
    let known = false
    for (const { zone, key, aliases } of this.networks) {
      if (network !== undefined && network !== key) continue
      const targets = aliases.get(host)
      // a link's alias hides an endpoint of that name on that network
      if (byAlias !== (targets !== undefined)) continue
      const found = targets === undefined ? zone.addresses(host, family) : allAddresses(zone, targets, family)
      if (found === undefined) continue
      if (found.length > 0) return found
      known = true
    }
    return known ? [] : undefined
  }
}

function allAddresses(zone: NetworkZone, targets: readonly string[], family: 4 | 6): Ip[] | undefined {
  let out: Ip[] | undefined
  for (const target of targets) {
    const found = zone.addresses(target, family)
    if (found !== undefined) out = [...new Set([...(out ?? []), ...found])]
  }
  return out
}

/** The address that a reverse name stands for. */
export function ipOfPtr(key: string): Ip | undefined {
  if (key.endsWith('.in-addr.arpa')) {
    return tryParseIp(key.slice(0, -13).split('.').reverse().join('.'))
  }
  if (!key.endsWith('.ip6.arpa')) return undefined
  const nibbles = key.slice(0, -9).split('.')
  if (nibbles.length !== 32 || !nibbles.every((nibble) => /^[0-9a-f]$/.test(nibble))) return undefined
  return ipFromBytes(Buffer.from(nibbles.reverse().join(''), 'hex'))
}

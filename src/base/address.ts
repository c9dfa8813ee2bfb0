/**
 * IP and MAC addresses and subnets as canonical text with a brand: equal addresses are equal strings,
 * so they can be keys of maps. Parse once at the edge; everything below takes the branded type.
 * Canonical IPv6 text follows RFC 5952.
 */
import { NetError } from './errors.ts'

declare const brand: unique symbol
type Brand<T, B extends string> = T & { readonly [brand]: B }

/** An IPv4 or IPv6 address, canonical (`10.0.0.1`, `fd00::1`). */
export type Ip = Brand<string, 'Ip'>
/** A subnet with host bits zero, canonical (`10.0.0.0/24`). */
export type Cidr = Brand<string, 'Cidr'>
/** An address with its prefix length, host bits kept (`10.0.0.1/24`). */
export type IpPrefix = Brand<string, 'IpPrefix'>
/** A MAC address in lower case with colons. */
export type Mac = Brand<string, 'Mac'>
export type Family = 4 | 6

/** 4 or 6. */
export function familyOf(address: Ip | Cidr | IpPrefix): Family {
  return address.includes(':') ? 6 : 4
}

/** Number of address bits of a family: 32 or 128. */
export function bitsOf(family: Family): 32 | 128 {
  return family === 4 ? 32 : 128
}

/** Like {@link parseIp}, but undefined for anything that is not an address. Zones (`%eth0`) are refused. */
export function tryParseIp(text: string): Ip | undefined {
  const bytes = text.includes(':') ? parse6(text) : parse4(text)
  return bytes === undefined ? undefined : ipFromBytes(bytes)
}

/** Parses IPv4 dotted quad or any IPv6 spelling. Throws NetError `invalid`. */
export function parseIp(text: string): Ip {
  const ip = tryParseIp(text)
  if (ip === undefined) throw new NetError('invalid', `invalid IP address: ${text}`, { subject: text })
  return ip
}

function parse4(text: string): Uint8Array | undefined {
  const parts = text.split('.')
  if (parts.length !== 4) return undefined
  const out = new Uint8Array(4)
  for (let i = 0; i < 4; i++) {
    const part = parts[i] as string
    if (!/^(0|[1-9]\d{0,2})$/.test(part)) return undefined // no leading zeros: as Go's netip
    const n = Number(part)
    if (n > 255) return undefined
    out[i] = n
  }
  return out
}

function parse6(text: string): Uint8Array | undefined {
  let head = text
  let tail4: Uint8Array | undefined
  const lastColon = text.lastIndexOf(':')
  if (text.includes('.')) {
    tail4 = parse4(text.slice(lastColon + 1))
    if (tail4 === undefined) return undefined
    head = `${text.slice(0, lastColon + 1)}0:0`
  }
  const halves = head.split('::')
  if (halves.length > 2) return undefined
  const groups = (s: string): number[] | undefined => {
    if (s === '') return []
    const out: number[] = []
    for (const g of s.split(':')) {
      if (!/^[0-9a-fA-F]{1,4}$/.test(g)) return undefined
      out.push(Number.parseInt(g, 16))
    }
    return out
  }
  const left = groups(halves[0] as string)
  const right = halves.length === 2 ? groups(halves[1] as string) : []
  if (left === undefined || right === undefined) return undefined
  const missing = 8 - left.length - right.length
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined
  const all = [...left, ...new Array<number>(missing).fill(0), ...right]
  const out = new Uint8Array(16)
  all.forEach((g, i) => {
    out[2 * i] = g >> 8
    out[2 * i + 1] = g & 255
  })
  if (tail4) out.set(tail4, 12)
  return out
}

/** 4 or 16 bytes in network order. */
export function ipToBytes(ip: Ip): Uint8Array {
  return (ip.includes(':') ? parse6(ip) : parse4(ip)) as Uint8Array
}

/** From 4 or 16 bytes in network order. IPv4-mapped IPv6 stays IPv6. */
export function ipFromBytes(bytes: Uint8Array): Ip {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}` as Ip
  if (bytes.length !== 16) throw new NetError('invalid', `an IP address has 4 or 16 bytes, got ${bytes.length}`)
  const groups: number[] = []
  for (let i = 0; i < 16; i += 2) groups.push(((bytes[i] as number) << 8) | (bytes[i + 1] as number))
  if (groups.slice(0, 5).every((g) => g === 0) && groups[5] === 0xffff)
    return `::ffff:${bytes[12]}.${bytes[13]}.${bytes[14]}.${bytes[15]}` as Ip
  let start = -1
  let length = 1 // a single zero group is not shortened: RFC 5952 4.2.2
  for (let i = 0; i < 8; i++) {
    let n = 0
    while (i + n < 8 && groups[i + n] === 0) n++
    if (n > length) {
      start = i
      length = n
    }
  }
  const hex = groups.map((g) => g.toString(16))
  if (start < 0) return hex.join(':') as Ip
  return `${hex.slice(0, start).join(':')}::${hex.slice(start + length).join(':')}` as Ip
}

/** The address as a number; `ipFromBigInt` is the way back. */
export function ipToBigInt(ip: Ip): bigint {
  let n = 0n
  for (const b of ipToBytes(ip)) n = (n << 8n) | BigInt(b)
  return n
}

/** The address of that number in canonical form. The number must fit the family. */
export function ipFromBigInt(family: Family, value: bigint): Ip {
  const bytes = new Uint8Array(family === 4 ? 4 : 16)
  let n = value
  for (let i = bytes.length - 1; i >= 0; i--) {
    bytes[i] = Number(n & 255n)
    n >>= 8n
  }
  return ipFromBytes(bytes)
}

/** Splits `a.b.c.d/len`. Undefined when either half is not well-formed. */
export function trySplitPrefix(text: string): { ip: Ip; length: number } | undefined {
  const slash = text.lastIndexOf('/')
  if (slash < 0) return undefined
  const ip = tryParseIp(text.slice(0, slash))
  const lengthText = text.slice(slash + 1)
  if (ip === undefined || !/^(0|[1-9]\d{0,2})$/.test(lengthText)) return undefined
  const length = Number(lengthText)
  return length > bitsOf(familyOf(ip)) ? undefined : { ip, length }
}

/** Splits a branded subnet or address-with-prefix. */
export function splitPrefix(prefix: Cidr | IpPrefix): { ip: Ip; length: number } {
  const slash = prefix.lastIndexOf('/')
  return { ip: prefix.slice(0, slash) as Ip, length: Number(prefix.slice(slash + 1)) }
}

/** {@link parseCidr}, with undefined for what is no subnet. */
export function tryParseCidr(text: string): Cidr | undefined {
  const split = trySplitPrefix(text)
  return split && cidrOf(split.ip, split.length)
}

/** Canonical subnet: host bits are masked (`10.1.2.3/16` -> `10.1.0.0/16`). Throws NetError `invalid`. */
export function parseCidr(text: string): Cidr {
  const cidr = tryParseCidr(text)
  if (cidr === undefined) throw new NetError('invalid', `invalid CIDR address: ${text}`, { subject: text })
  return cidr
}

/** Address with prefix, host bits kept. Throws NetError `invalid`. */
export function parseIpPrefix(text: string): IpPrefix {
  const split = trySplitPrefix(text)
  if (split === undefined) throw new NetError('invalid', `invalid CIDR address: ${text}`, { subject: text })
  return ipPrefixOf(split.ip, split.length)
}

/** The address with its prefix length, host bits kept. */
export function ipPrefixOf(ip: Ip, length: number): IpPrefix {
  return `${ip}/${length}` as IpPrefix
}

/** The subnet of `length` bits that holds `ip`. */
export function cidrOf(ip: Ip, length: number): Cidr {
  const bytes = ipToBytes(ip)
  for (let bit = length; bit < bytes.length * 8; bit++) {
    const i = bit >> 3
    bytes[i] = (bytes[i] as number) & ~(128 >> (bit & 7))
  }
  return `${ipFromBytes(bytes)}/${length}` as Cidr
}

/** First and last address of a subnet as numbers, both inclusive. */
export function cidrRange(cidr: Cidr): { family: Family; first: bigint; last: bigint } {
  const { ip, length } = splitPrefix(cidr)
  const family = familyOf(ip)
  const first = ipToBigInt(ip)
  return { family, first, last: first + (1n << BigInt(bitsOf(family) - length)) - 1n }
}

/** True when `ip` lies in `cidr`; families never match each other. */
export function cidrContains(cidr: Cidr, ip: Ip): boolean {
  if (familyOf(cidr) !== familyOf(ip)) return false
  return cidrOf(ip, splitPrefix(cidr).length) === cidr
}

/** `0.0.0.0/0` and `::/0`: what plugins answer whose networks have no subnet of their own (Calico). It is nobody's, and overlaps with nothing. */
export function isWholeSpace(cidr: Cidr): boolean {
  return splitPrefix(cidr).length === 0
}

/** True when the two subnets share an address. */
export function cidrOverlaps(a: Cidr, b: Cidr): boolean {
  if (familyOf(a) !== familyOf(b)) return false
  const la = splitPrefix(a)
  const lb = splitPrefix(b)
  return la.length <= lb.length ? cidrContains(a, lb.ip) : cidrContains(b, la.ip)
}

/** {@link parseMac}, with undefined for what is no MAC. */
export function tryParseMac(text: string): Mac | undefined {
  if (!/^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$/.test(text)) return undefined
  return text.toLowerCase().replaceAll('-', ':') as Mac
}

/** Throws NetError `invalid` for anything but six hex octets. */
export function parseMac(text: string): Mac {
  const mac = tryParseMac(text)
  if (mac === undefined) throw new NetError('invalid', `${text} is not a valid mac address`, { subject: text })
  return mac
}

/** Six bytes, first octet first. */
export function macToBytes(mac: Mac): Uint8Array {
  return Uint8Array.from(mac.split(':'), (h) => Number.parseInt(h, 16))
}

/** Lower-case text of six bytes. */
export function macFromBytes(bytes: Uint8Array): Mac {
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join(':') as Mac
}

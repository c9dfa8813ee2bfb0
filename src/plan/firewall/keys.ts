/** Register images of set keys: every field at a multiple of four bytes, zero-padded, numbers in network order. */
import { type Ip, ipToBytes, type Mac, macToBytes } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import type { Proto } from '../../model/endpoint.ts'

const IFNAMSIZ = 16
const PROTO_NUMBER: Readonly<Record<Proto, number>> = { tcp: 6, udp: 17, sctp: 132 }

/** Fields behind each other, each padded to four bytes. */
export function concat(...fields: readonly Uint8Array[]): Uint8Array {
  let length = 0
  for (const field of fields) length += (field.length + 3) & ~3
  const out = new Uint8Array(length)
  let at = 0
  for (const field of fields) {
    out.set(field, at)
    at += (field.length + 3) & ~3
  }
  return out
}

/** An interface name as the kernel compares it: 16 bytes with NULs. Throws NetError `invalid` when it cannot be one. */
export function ifname(name: string): Uint8Array {
  const out = new Uint8Array(IFNAMSIZ)
  const { read, written } = new TextEncoder().encodeInto(name, out)
  if (name.length === 0 || read < name.length || written >= IFNAMSIZ)
    throw new NetError('invalid', `invalid interface name: ${name}`, { subject: name })
  return out
}

/** An address as part of a set's key. */
export function address(ip: Ip): Uint8Array {
  return ipToBytes(ip)
}

/** A MAC as part of a set's key. */
export function hardware(mac: Mac): Uint8Array {
  return macToBytes(mac)
}

/** A transport protocol as part of a set's key. */
export function protocol(proto: Proto): Uint8Array {
  return Uint8Array.of(PROTO_NUMBER[proto])
}

/** Throws NetError `invalid` outside 1..65535. */
export function port(number: number): Uint8Array {
  if (!Number.isInteger(number) || number < 1 || number > 65535)
    throw new NetError('invalid', `invalid port number: ${number}`, { subject: String(number) })
  return Uint8Array.of(number >> 8, number & 255)
}

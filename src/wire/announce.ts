/** Frames that announce an address: gratuitous ARP (RFC 5227 section 3) and unsolicited neighbour advertisement (RFC 4861 section 7.2.6). */
import { type Ip, ipToBytes, type Mac, macToBytes } from '../base/address.ts'

/** ARP request with sender = target = `ip`, broadcast: what hosts accept as an update of their cache. */
export function encodeGratuitousArp(mac: Mac, ip: Ip): Uint8Array {
  const out = new Uint8Array(42)
  const view = new DataView(out.buffer)
  const hw = macToBytes(mac)
  out.fill(0xff, 0, 6)
  out.set(hw, 6)
  view.setUint16(12, 0x0806)
  view.setUint16(14, 1) // Ethernet
  view.setUint16(16, 0x0800)
  out[18] = 6
  out[19] = 4
  view.setUint16(20, 1) // request
  out.set(hw, 22)
  out.set(ipToBytes(ip), 28)
  out.set(ipToBytes(ip), 38)
  return out
}

/** Neighbour advertisement to all nodes with the override flag and the sender's link-layer address. */
export function encodeUnsolicitedNa(mac: Mac, ip: Ip): Uint8Array {
  const out = new Uint8Array(14 + 40 + 32)
  const view = new DataView(out.buffer)
  const hw = macToBytes(mac)
  const address = ipToBytes(ip)
  out.set([0x33, 0x33, 0, 0, 0, 1], 0)
  out.set(hw, 6)
  view.setUint16(12, 0x86dd)
  out[14] = 0x60
  view.setUint16(18, 32)
  out[20] = 58 // ICMPv6
  out[21] = 255
  out.set(address, 22)
  out.set([0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 38)
  const icmp = 54
  out[icmp] = 136
  out[icmp + 4] = 0x20 // override
  out.set(address, icmp + 8)
  out[icmp + 24] = 2 // target link-layer address
  out[icmp + 25] = 1
  out.set(hw, icmp + 26)
  view.setUint16(icmp + 2, icmpv6Checksum(out.subarray(22, 54), out.subarray(icmp)))
  return out
}

/** RFC 4443 section 2.3: over the pseudo header (source, destination, length, next header) and the message. */
function icmpv6Checksum(addresses: Uint8Array, message: Uint8Array): number {
  let sum = message.length + 58
  for (const part of [addresses, message]) for (let i = 0; i < part.length; i += 2) sum += ((part[i] as number) << 8) | (part[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

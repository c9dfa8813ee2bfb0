/** Ethernet frames that carry DHCP: Ethernet II, IPv4 without options of our own, UDP. Source: RFC 894, RFC 791, RFC 768. */
import { type Ip, ipFromBytes, ipToBytes, type Mac, macFromBytes, macToBytes } from '../base/address.ts'
import { DHCP_CLIENT_PORT, DHCP_SERVER_PORT } from './dhcp.ts'

export const BROADCAST_MAC = 'ff:ff:ff:ff:ff:ff' as Mac

const ETHERNET_BYTES = 14
const IPV4_BYTES = 20
const UDP_BYTES = 8
const ETH_P_IP = 0x0800
const IPPROTO_UDP = 17

/** What travels around a client's message. */
export interface ClientFrame {
  readonly from: Mac
  readonly to: Mac
  readonly src: Ip
  readonly dst: Ip
  readonly payload: Uint8Array
}

/** A frame from the client's port to the server's. */
export function encodeClientFrame(frame: ClientFrame): Uint8Array {
  const udpBytes = UDP_BYTES + frame.payload.length
  const out = new Uint8Array(ETHERNET_BYTES + IPV4_BYTES + udpBytes)
  const view = new DataView(out.buffer)
  out.set(macToBytes(frame.to), 0)
  out.set(macToBytes(frame.from), 6)
  view.setUint16(12, ETH_P_IP)
  const ip = ETHERNET_BYTES
  out[ip] = 0x45
  view.setUint16(ip + 2, IPV4_BYTES + udpBytes)
  out[ip + 8] = 64 // time to live
  out[ip + 9] = IPPROTO_UDP
  out.set(ipToBytes(frame.src), ip + 12)
  out.set(ipToBytes(frame.dst), ip + 16)
  view.setUint16(ip + 10, checksum(out.subarray(ip, ip + IPV4_BYTES), 0))
  const udp = ip + IPV4_BYTES
  view.setUint16(udp, DHCP_CLIENT_PORT)
  view.setUint16(udp + 2, DHCP_SERVER_PORT)
  view.setUint16(udp + 4, udpBytes)
  out.set(frame.payload, udp + UDP_BYTES)
  const pseudo = sum(out.subarray(ip + 12, ip + 20)) + IPPROTO_UDP + udpBytes
  // a sum of zero is written as its complement: zero means "not computed"
  view.setUint16(udp + 6, checksum(out.subarray(udp), pseudo) || 0xffff)
  return out
}

/**
 * A frame to the client's port, or undefined for any other. The UDP checksum is not looked at: frames between virtual
 * interfaces of one machine carry an unfinished one.
 */
export function decodeServerFrame(frame: Uint8Array): { from: Mac; src: Ip; payload: Uint8Array } | undefined {
  const ip = ETHERNET_BYTES
  if (frame.length < ip + IPV4_BYTES + UDP_BYTES) return undefined
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  const headerBytes = ((frame[ip] as number) & 15) * 4
  const totalBytes = view.getUint16(ip + 2)
  if (view.getUint16(12) !== ETH_P_IP || (frame[ip] as number) >> 4 !== 4 || headerBytes < IPV4_BYTES) return undefined
  if (frame[ip + 9] !== IPPROTO_UDP || (view.getUint16(ip + 6) & 0x3fff) !== 0) return undefined // fragments are not put together
  const udp = ip + headerBytes
  if (totalBytes < headerBytes + UDP_BYTES || frame.length < ip + totalBytes) return undefined
  if (view.getUint16(udp) !== DHCP_SERVER_PORT || view.getUint16(udp + 2) !== DHCP_CLIENT_PORT) return undefined
  const udpBytes = view.getUint16(udp + 4)
  if (udpBytes < UDP_BYTES || headerBytes + udpBytes > totalBytes) return undefined
  return {
    from: macFromBytes(frame.subarray(6, 12)),
    src: ipFromBytes(frame.subarray(ip + 12, ip + 16)),
    payload: frame.subarray(udp + UDP_BYTES, udp + udpBytes),
  }
}

function sum(bytes: Uint8Array): number {
  let total = 0
  for (let i = 0; i < bytes.length; i += 2) total += ((bytes[i] as number) << 8) | (bytes[i + 1] ?? 0)
  return total
}

/** RFC 1071. */
function checksum(bytes: Uint8Array, start: number): number {
  let total = start + sum(bytes)
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16)
  return ~total & 0xffff
}

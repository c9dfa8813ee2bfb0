/** ARP for IPv4 over Ethernet (RFC 826): the question whether somebody has an address (RFC 5227 section 2.1.1), and who says that it has. */
import { type Ip, ipFromBytes, ipToBytes, type Mac, macFromBytes, macToBytes } from '../base/address.ts'

const ARP_FRAME_BYTES = 42
const ETH_P_ARP = 0x0806
const REQUEST = 1

export interface ArpSender {
  readonly mac: Mac
  /** 0.0.0.0 when it only asks. */
  readonly ip: Ip
}

/** A broadcast question about `ip` that teaches nobody anything of who asks. */
export function encodeArpProbe(mac: Mac, ip: Ip): Uint8Array {
  const out = new Uint8Array(ARP_FRAME_BYTES)
  const view = new DataView(out.buffer)
  const hw = macToBytes(mac)
  out.fill(0xff, 0, 6)
  out.set(hw, 6)
  view.setUint16(12, ETH_P_ARP)
  view.setUint16(14, 1) // Ethernet
  view.setUint16(16, 0x0800)
  out[18] = 6
  out[19] = 4
  view.setUint16(20, REQUEST)
  out.set(hw, 22)
  out.set(ipToBytes(ip), 38)
  return out
}

/** The sender of an ARP packet, question or answer, or undefined for any other frame. */
export function decodeArpSender(frame: Uint8Array): ArpSender | undefined {
  if (frame.length < ARP_FRAME_BYTES) return undefined
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  if (view.getUint16(12) !== ETH_P_ARP || view.getUint16(14) !== 1 || view.getUint16(16) !== 0x0800) return undefined
  return { mac: macFromBytes(frame.subarray(22, 28)), ip: ipFromBytes(frame.subarray(28, 32)) }
}

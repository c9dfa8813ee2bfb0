/**
 * Probe packets between the hosts of a cluster: UDP to the port of VXLAN with a VXLAN header, so that firewalls and routers treat them as
 * the tunnels' own. Their VXLAN id is one that no network is given; what stands behind is an Ethernet frame that no bridge passes on.
 */
import { familyOf, type Ip, ipToBytes } from '../base/address.ts'

/** The largest VXLAN id: networks are given ids from 256 upwards. */
export const PROBE_VNI = 0xffffff
const UDP_BYTES = 8
const VXLAN_BYTES = 8
const ETHERNET_BYTES = 14
const MAGIC = 0x43575031 // "CWP1"
const ID_BYTES = 32
const PAYLOAD_BYTES = 4 + 1 + 1 + 2 + 4 + 4 + ID_BYTES
/** RFC 7348: the flag that says the id is valid. */
const VXLAN_FLAGS = 0x08000000
/** 01:80:c2:00:00:0e, which bridges keep (IEEE 802.1Q table 8-1), and the local experimental EtherType. */
const FRAME_HEAD = Uint8Array.of(0x01, 0x80, 0xc2, 0, 0, 0x0e, 0x02, 0x43, 0x57, 0x50, 0, 1, 0x88, 0xb5)

const ipHeaderBytes = (family: 4 | 6): number => (family === 4 ? 20 : 40)

/** Bytes of the shortest probe, IP header included. */
export const shortestProbe = (family: 4 | 6): number => ipHeaderBytes(family) + UDP_BYTES + VXLAN_BYTES + ETHERNET_BYTES + PAYLOAD_BYTES

export interface PathProbe {
  readonly kind: 'question' | 'answer'
  /** Host that sends it: 2 to 64 hex digits, an even number of them. */
  readonly from: string
  /** Chosen by who asks, repeated in the answer. */
  readonly round: number
  /** Which look at all paths it belongs to; 0 = none. */
  readonly survey: number
  /** Bytes of the question's whole IP packet. An answer is as short as can be and says how long the question was. */
  readonly size: number
}

/** A UDP datagram, header and checksum included. `size` below the shortest is made the shortest. */
export function encodePathProbe(probe: PathProbe, source: Ip, target: Ip, port: number): Uint8Array {
  const family = familyOf(source)
  const whole = probe.kind === 'question' ? Math.max(probe.size, shortestProbe(family)) : shortestProbe(family)
  const out = new Uint8Array(whole - ipHeaderBytes(family))
  const view = new DataView(out.buffer)
  view.setUint16(0, port)
  view.setUint16(2, port)
  view.setUint16(4, out.length)
  view.setUint32(8, VXLAN_FLAGS)
  view.setUint32(12, PROBE_VNI << 8)
  out.set(FRAME_HEAD, UDP_BYTES + VXLAN_BYTES)
  const at = UDP_BYTES + VXLAN_BYTES + ETHERNET_BYTES
  const id = probe.from.match(/../g) ?? []
  view.setUint32(at, MAGIC)
  view.setUint8(at + 4, probe.kind === 'question' ? 1 : 2)
  view.setUint8(at + 5, id.length)
  view.setUint16(at + 6, probe.size)
  view.setUint32(at + 8, probe.round)
  view.setUint32(at + 12, probe.survey)
  out.set(
    id.map((digits) => Number.parseInt(digits, 16)),
    at + 16,
  )
  view.setUint16(6, checksum(out, [ipToBytes(source), ipToBytes(target)]) || 0xffff)
  return out
}

/** What a UDP datagram (header included) says, undefined when it is no probe. */
export function decodePathProbe(datagram: Uint8Array): PathProbe | undefined {
  const at = UDP_BYTES + VXLAN_BYTES + ETHERNET_BYTES
  if (datagram.length < at + PAYLOAD_BYTES) return undefined
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.byteLength)
  const kind = view.getUint8(at + 4)
  const idBytes = view.getUint8(at + 5)
  if (view.getUint32(12) !== (PROBE_VNI << 8) >>> 0 || view.getUint32(at) !== MAGIC || (kind !== 1 && kind !== 2) || idBytes > ID_BYTES)
    return undefined
  const from = [...datagram.subarray(at + 16, at + 16 + idBytes)].map((byte) => byte.toString(16).padStart(2, '0')).join('')
  return {
    kind: kind === 1 ? 'question' : 'answer',
    from,
    round: view.getUint32(at + 8),
    survey: view.getUint32(at + 12),
    size: view.getUint16(at + 6),
  }
}

/** RFC 768 over the pseudo header. */
function checksum(datagram: Uint8Array, addresses: readonly Uint8Array[]): number {
  let sum = 17 + datagram.length
  for (const bytes of [...addresses, datagram])
    for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] as number) << 8) | (bytes[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

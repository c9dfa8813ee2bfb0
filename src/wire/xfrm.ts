/** XFRM messages: IPsec associations and policies as bytes. Source: include/uapi/linux/xfrm.h, net/xfrm/xfrm_user.c */
import { type Family, type Ip, ipFromBytes, ipToBytes } from '../base/address.ts'

import { AttrReader, type MessageWriter, needHeader, viewOf } from './netlink.ts'

/** A security association: how packets from `src` to `dst` are encrypted (on `src`) or decrypted (on `dst`). */
export interface IpsecState {
  readonly src: Ip
  readonly dst: Ip
  /** Distinguishes associations of the same destination; 256 to 2^32-1. */
  readonly spi: number
  /** Ties policies to associations. */
  readonly reqid: number
  /** AES-256 key and 4 bytes of salt (RFC 4106), 36 bytes; absent in what a dump gives. */
  readonly key?: Uint8Array
}

/** What has to happen to UDP packets to `port` between two addresses; an absent address is any. */
export interface IpsecPolicy {
  readonly direction: 'in' | 'out'
  readonly family: Family
  readonly src?: Ip
  readonly dst?: Ip
  readonly port: number
  /** Smaller numbers are looked at first. */
  readonly priority: number
  /** `block`: dropped. `esp`: through an association with `reqid`. */
  readonly action: 'block' | 'esp'
  readonly reqid: number
}

export const XFRM_MSG_NEWSA = 0x10
export const XFRM_MSG_DELSA = 0x11
export const XFRM_MSG_GETSA = 0x12
export const XFRM_MSG_NEWPOLICY = 0x13
export const XFRM_MSG_DELPOLICY = 0x14
export const XFRM_MSG_GETPOLICY = 0x15
export const XFRM_MSG_UPDPOLICY = 0x19

const XFRMA_TMPL = 5
const XFRMA_ALG_AEAD = 18
const XFRMA_REPLAY_ESN_VAL = 23

const AF_INET = 2
const AF_INET6 = 10
const IPPROTO_UDP = 17
const IPPROTO_ESP = 50
const XFRM_STATE_ESN = 128
const XFRM_POLICY_IN = 0
const XFRM_POLICY_OUT = 1
const XFRM_POLICY_BLOCK = 1

const SELECTOR_BYTES = 56
const SA_BYTES = 224
const SA_ID_BYTES = 24
const POLICY_BYTES = 168
const POLICY_ID_BYTES = 64
const TEMPLATE_BYTES = 64

const AEAD = 'rfc4106(gcm(aes))'
const AEAD_NAME_BYTES = 64
const ICV_BITS = 128
/** Packets that may overtake each other. */
const REPLAY_WINDOW = 256
const ESN_HEADER_BYTES = 24

const familyOf = (ip: Ip): number => (ip.includes(':') ? AF_INET6 : AF_INET)

/** A structure of the kernel by its offsets. */
class Struct {
  readonly bytes: Uint8Array
  readonly view: DataView

  constructor(size: number) {
    this.bytes = new Uint8Array(size)
    this.view = viewOf(this.bytes)
  }

  address(at: number, ip: Ip | undefined): void {
    if (ip !== undefined) this.bytes.set(ipToBytes(ip), at)
  }

  /** Limits of a life: none. */
  unlimited(at: number): void {
    for (let i = 0; i < 4; i++) this.view.setBigUint64(at + 8 * i, 0xffffffffffffffffn, true)
  }

  writeTo(w: MessageWriter): void {
    for (const byte of this.bytes) w.u8(byte)
  }
}

/** struct xfrm_usersa_info and attributes: AES-GCM with 16 bytes of proof, 64-bit sequence numbers, transport mode. */
export function writeState(w: MessageWriter, state: IpsecState): void {
  const s = new Struct(SA_BYTES)
  const family = familyOf(state.src)
  s.view.setUint16(40, family, true)
  s.address(56, state.dst)
  s.view.setUint32(72, state.spi, false)
  s.view.setUint8(76, IPPROTO_ESP)
  s.address(80, state.src)
  s.unlimited(96)
  s.view.setUint32(208, state.reqid, true)
  s.view.setUint16(212, family, true)
  s.view.setUint8(216, XFRM_STATE_ESN)
  s.writeTo(w)
  if (state.key === undefined) return
  const aead = new Struct(AEAD_NAME_BYTES + 8 + state.key.length)
  for (let i = 0; i < AEAD.length; i++) aead.view.setUint8(i, AEAD.charCodeAt(i))
  aead.view.setUint32(AEAD_NAME_BYTES, state.key.length * 8, true)
  aead.view.setUint32(AEAD_NAME_BYTES + 4, ICV_BITS, true)
  aead.bytes.set(state.key, AEAD_NAME_BYTES + 8)
  w.attrBytes(XFRMA_ALG_AEAD, aead.bytes)
  const esn = new Struct(ESN_HEADER_BYTES + REPLAY_WINDOW / 8)
  esn.view.setUint32(0, REPLAY_WINDOW / 32, true)
  esn.view.setUint32(20, REPLAY_WINDOW, true)
  w.attrBytes(XFRMA_REPLAY_ESN_VAL, esn.bytes)
}

/** struct xfrm_usersa_id, for a deletion. */
export function writeStateId(w: MessageWriter, state: IpsecState): void {
  const s = new Struct(SA_ID_BYTES)
  s.address(0, state.dst)
  s.view.setUint32(16, state.spi, false)
  s.view.setUint16(20, familyOf(state.dst), true)
  s.view.setUint8(22, IPPROTO_ESP)
  s.writeTo(w)
}

/** One association of a dump, without its key; undefined for what is not ESP. */
export function decodeState(payload: Uint8Array): IpsecState | undefined {
  const view = needHeader(payload, SA_BYTES, 'xfrm_usersa_info')
  if (view.getUint8(76) !== IPPROTO_ESP) return undefined
  const length = view.getUint16(212, true) === AF_INET6 ? 16 : 4
  return {
    src: ipFromBytes(payload.slice(80, 80 + length)),
    dst: ipFromBytes(payload.slice(56, 56 + length)),
    spi: view.getUint32(72, false),
    reqid: view.getUint32(208, true),
  }
}

function writeSelector(s: Struct, p: IpsecPolicy): void {
  const bits = p.family === 4 ? 32 : 128
  s.address(0, p.dst)
  s.address(16, p.src)
  s.view.setUint16(32, p.port, false)
  s.view.setUint16(34, 0xffff, false)
  s.view.setUint16(40, p.family === 4 ? AF_INET : AF_INET6, true)
  s.view.setUint8(42, p.dst === undefined ? 0 : bits)
  s.view.setUint8(43, p.src === undefined ? 0 : bits)
  s.view.setUint8(44, IPPROTO_UDP)
}

const directionOf = (p: IpsecPolicy): number => (p.direction === 'in' ? XFRM_POLICY_IN : XFRM_POLICY_OUT)

/** struct xfrm_userpolicy_info and, for `esp`, one template. */
export function writePolicy(w: MessageWriter, p: IpsecPolicy): void {
  const s = new Struct(POLICY_BYTES)
  writeSelector(s, p)
  s.unlimited(SELECTOR_BYTES)
  s.view.setUint32(152, p.priority, true)
  s.view.setUint8(160, directionOf(p))
  s.view.setUint8(161, p.action === 'block' ? XFRM_POLICY_BLOCK : 0)
  s.writeTo(w)
  if (p.action === 'block') return
  const t = new Struct(TEMPLATE_BYTES)
  t.address(0, p.dst)
  t.view.setUint8(20, IPPROTO_ESP)
  t.view.setUint16(24, p.family === 4 ? AF_INET : AF_INET6, true)
  t.address(28, p.src)
  t.view.setUint32(44, p.reqid, true)
  for (const at of [52, 56, 60]) t.view.setUint32(at, 0xffffffff, true) // any algorithm: the association decides
  w.attrBytes(XFRMA_TMPL, t.bytes)
}

/** struct xfrm_userpolicy_id, for a deletion: the selector and the direction. */
export function writePolicyId(w: MessageWriter, p: IpsecPolicy): void {
  const s = new Struct(POLICY_ID_BYTES)
  writeSelector(s, p)
  s.view.setUint8(60, directionOf(p))
  s.writeTo(w)
}

/** One policy of a dump; undefined for what {@link IpsecPolicy} cannot say (other protocols, subnets, sockets' own policies). */
export function decodePolicy(payload: Uint8Array): IpsecPolicy | undefined {
  const view = needHeader(payload, POLICY_BYTES, 'xfrm_userpolicy_info')
  const direction = view.getUint8(160)
  if (view.getUint8(44) !== IPPROTO_UDP || direction > XFRM_POLICY_OUT || view.getUint16(34, false) !== 0xffff) return undefined
  const family = view.getUint16(40, true) === AF_INET6 ? 6 : 4
  const length = family === 6 ? 16 : 4
  const end = (at: number, prefix: number) => (prefix === 0 ? undefined : ipFromBytes(payload.slice(at, at + length)))
  const dst = end(0, view.getUint8(42))
  const src = end(16, view.getUint8(43))
  let reqid = 0
  const r = new AttrReader(payload, POLICY_BYTES)
  while (r.next()) if (r.type === XFRMA_TMPL && r.length >= TEMPLATE_BYTES) reqid = viewOf(r.bytes()).getUint32(44, true)
  return {
    direction: direction === XFRM_POLICY_IN ? 'in' : 'out',
    family,
    ...(src === undefined ? {} : { src }),
    ...(dst === undefined ? {} : { dst }),
    port: view.getUint16(32, false),
    priority: view.getUint32(152, true),
    action: view.getUint8(161) === XFRM_POLICY_BLOCK ? 'block' : 'esp',
    reqid,
  }
}

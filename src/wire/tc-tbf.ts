/**
 * Queueing disciplines as rtnetlink carries them, as far as rate limits need: the token bucket filter.
 * Source: include/uapi/linux/rtnetlink.h (tcmsg), pkt_sched.h (tc_tbf_qopt), net/sched/sch_tbf.c tbf_change.
 */
import { AttrReader, type MessageWriter, needHeader } from './netlink.ts'

export const RTM_NEWQDISC = 36
export const RTM_GETQDISC = 38
export const TC_H_ROOT = 0xffffffff

const TCMSG_BYTES = 20
const TCA_KIND = 1
const TCA_OPTIONS = 2
const TCA_TBF_PARMS = 1
const TCA_TBF_RATE64 = 4
const TCA_TBF_BURST = 6
/** With the link layer said, the kernel computes transmission times itself and wants no rate table. */
const TC_LINKLAYER_ETHERNET = 1

export interface TokenBucket {
  /** Bytes per second. */
  readonly rate: number
  /** Bytes that may be sent at once. */
  readonly burst: number
  /** Bytes that may wait. */
  readonly limit: number
}

export interface QdiscMessage {
  readonly index: number
  readonly parent: number
  readonly kind: string
  readonly bucket?: TokenBucket
}

/** `tc qdisc replace dev INDEX root tbf …`; without a bucket the message names the root qdisc for deletion or listing. */
export function writeQdisc(w: MessageWriter, index: number, bucket?: TokenBucket): void {
  w.u32(0) // family and padding
  w.u32(index)
  w.u32(0) // handle: the kernel's choice
  w.u32(TC_H_ROOT)
  w.u32(0)
  if (bucket === undefined) return
  w.attrText(TCA_KIND, 'tbf')
  const options = w.openNest(TCA_OPTIONS)
  const parms = new Uint8Array(36)
  const view = new DataView(parms.buffer)
  view.setUint8(1, TC_LINKLAYER_ETHERNET)
  view.setUint32(8, Math.min(bucket.rate, 0xffffffff), true)
  view.setUint32(24, bucket.limit, true) // after two rate specifications of 12 bytes
  w.attrBytes(TCA_TBF_PARMS, parms)
  if (bucket.rate > 0xffffffff) {
    const rate = new Uint8Array(8)
    new DataView(rate.buffer).setBigUint64(0, BigInt(bucket.rate), true)
    w.attrBytes(TCA_TBF_RATE64, rate)
  }
  w.attrU32(TCA_TBF_BURST, bucket.burst)
  w.closeNest(options)
}

/** Throws NetError `internal` on a payload that is too short. */
export function decodeQdisc(payload: Uint8Array): QdiscMessage {
  const view = needHeader(payload, TCMSG_BYTES, 'qdisc')
  const reader = new AttrReader(payload, TCMSG_BYTES)
  let kind = ''
  let bucket: TokenBucket | undefined
  while (reader.next()) {
    if (reader.type === TCA_KIND) kind = reader.text()
    else if (reader.type === TCA_OPTIONS && kind === 'tbf') bucket = decodeBucket(reader.nested())
  }
  return { index: view.getInt32(4, true), parent: view.getUint32(12, true), kind, ...(bucket ? { bucket } : {}) }
}

/** The kernel tells the burst as time; it is not turned back into bytes here. */
function decodeBucket(reader: AttrReader): TokenBucket {
  let rate = 0
  let limit = 0
  while (reader.next()) {
    if (reader.type === TCA_TBF_PARMS) {
      rate = Math.max(rate, reader.u32(8))
      limit = reader.u32(24)
    } else if (reader.type === TCA_TBF_RATE64) rate = reader.u64()
  }
  return { rate, limit, burst: 0 }
}

/**
 * nfnetlink framing and nf_tables set elements as bytes: batches, elements in, elements out. The few rule expressions that we write
 * ourselves are in `nft-expressions.ts`, what dumps say about rules and chains in `nft-objects.ts`. Numbers are in network order.
 * Source: include/uapi/linux/netfilter/nfnetlink.h and nf_tables.h; net/netfilter/nf_tables_api.c.
 */
import { NetError } from '../base/errors.ts'
import { AttrReader, type MessageWriter, type NetlinkMessage, NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, needHeader } from './netlink.ts'

export const NFNL_SUBSYS_CTNETLINK = 1
export const NFNL_SUBSYS_NFTABLES = 10
const NFNL_MSG_BATCH_BEGIN = 0x10
const NFNL_MSG_BATCH_END = 0x11
export const NFGENMSG_BYTES = 4

export const NFT_MSG_NEWTABLE = 0
export const NFT_MSG_GETTABLE = 1
export const NFT_MSG_DELTABLE = 2
export const NFT_MSG_NEWCHAIN = 3
export const NFT_MSG_GETCHAIN = 4
export const NFT_MSG_NEWRULE = 6
export const NFT_MSG_GETRULE = 7
export const NFT_MSG_GETSET = 10
export const NFT_MSG_NEWSETELEM = 12
export const NFT_MSG_GETSETELEM = 13
export const NFT_MSG_DELSETELEM = 14
export const NFT_MSG_GETGEN = 16
/** Like DELTABLE, but a table that is not there is fine (Linux 6.3). */
export const NFT_MSG_DESTROYTABLE = 26
/** Like DELSETELEM, but an element that is not there is fine (Linux 6.3). */
export const NFT_MSG_DESTROYSETELEM = 30

/** nfgen_family: NFPROTO_*. */
export const NFPROTO = { unspec: 0, inet: 1, ip: 2, arp: 3, netdev: 5, bridge: 7, ip6: 10 } as const
export type NftFamily = keyof typeof NFPROTO

const NFTA_SET_ELEM_LIST_TABLE = 1
const NFTA_SET_ELEM_LIST_SET = 2
const NFTA_SET_ELEM_LIST_ELEMENTS = 3
const NFTA_LIST_ELEM = 1
const NFTA_SET_ELEM_KEY = 1
const NFTA_SET_ELEM_DATA = 2
const NFTA_SET_ELEM_FLAGS = 3
const NFTA_SET_ELEM_USERDATA = 6
const NFTA_SET_ELEM_KEY_END = 10
const NFT_SET_ELEM_CATCHALL = 2
const NFTA_DATA_VALUE = 1
const NFTA_DATA_VERDICT = 2
const NFTA_VERDICT_CODE = 1
const NFTA_VERDICT_CHAIN = 2
/** libnftnl's type of the comment inside the opaque user data: what `nft list` shows. */
const UDATA_COMMENT = 0
/** One byte of length, which counts the closing NUL. */
const COMMENT_BYTES = 255

const NF_DROP = 0
const NF_ACCEPT = 1
const NFT_JUMP = -3
const NFT_GOTO = -4
const NFT_RETURN = -5

/** A nest's length has 16 bits: a list of elements must stay below, with room for one more element. */
const LIST_BYTES = 60_000

export type Verdict = 'accept' | 'drop' | 'return' | { readonly jump: string } | { readonly goto: string }

/** One element of a set or map; see `model/nft-element.ts` for the form of key and data. */
export interface SetElement {
  readonly key: Uint8Array
  readonly keyEnd?: Uint8Array
  readonly data?: Uint8Array
  readonly verdict?: Verdict
  readonly comment?: string
}

export interface SetRef {
  readonly family: NftFamily
  readonly table: string
  readonly set: string
}

/** nfgenmsg: what every nfnetlink message starts with. */
export function nfgenmsg(w: MessageWriter, family: number, resource = 0): void {
  w.u8(family)
  w.u8(0)
  w.u16(((resource & 255) << 8) | (resource >> 8))
}

/** Type of a message of a subsystem. */
export const messageType = (subsystem: number, type: number): number => (subsystem << 8) | type

/** Opens a transaction: everything up to {@link endBatch} happens together or not at all. */
export function beginBatch(w: MessageWriter, seq: number): void {
  w.begin(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, seq)
  nfgenmsg(w, NFPROTO.unspec, NFNL_SUBSYS_NFTABLES)
  w.end()
}

export function endBatch(w: MessageWriter, seq: number): void {
  w.begin(NFNL_MSG_BATCH_END, NLM_F_REQUEST, seq)
  nfgenmsg(w, NFPROTO.unspec, NFNL_SUBSYS_NFTABLES)
  w.end()
}

/** One nf_tables request; `write` adds the attributes after nfgenmsg. */
export function nftMessage(w: MessageWriter, type: number, flags: number, seq: number, family: NftFamily, write: () => void): void {
  w.begin(messageType(NFNL_SUBSYS_NFTABLES, type), NLM_F_REQUEST | flags, seq)
  nfgenmsg(w, NFPROTO[family])
  write()
  w.end()
}

export function attrU32be(w: MessageWriter, type: number, value: number): void {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value >>> 0, false)
  w.attrBytes(type, bytes)
}

export function u32be(reader: AttrReader): number {
  return ((reader.u16be() << 16) | (reader.u32() >>> 24) | (((reader.u32() >>> 16) & 255) << 8)) >>> 0
}

function writeData(w: MessageWriter, type: number, value: Uint8Array): void {
  const nest = w.openNest(type)
  w.attrBytes(NFTA_DATA_VALUE, value)
  w.closeNest(nest)
}

/** NFTA_DATA_VERDICT inside an open data nest. */
export function writeVerdict(w: MessageWriter, verdict: Verdict): void {
  const nest = w.openNest(NFTA_DATA_VERDICT)
  if (typeof verdict === 'string') {
    attrU32be(w, NFTA_VERDICT_CODE, verdict === 'accept' ? NF_ACCEPT : verdict === 'drop' ? NF_DROP : NFT_RETURN)
  } else {
    const [code, chain] = 'jump' in verdict ? [NFT_JUMP, verdict.jump] : [NFT_GOTO, verdict.goto]
    attrU32be(w, NFTA_VERDICT_CODE, code)
    w.attrText(NFTA_VERDICT_CHAIN, chain)
  }
  w.closeNest(nest)
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** A comment as libnftnl puts it into opaque user data, which `nft list` shows. Longer ones are cut. */
export function encodeComment(comment: string): Uint8Array {
  const text = encoder.encode(comment).subarray(0, COMMENT_BYTES - 3)
  const userdata = new Uint8Array(text.length + 3)
  userdata[0] = UDATA_COMMENT
  userdata[1] = text.length + 1
  userdata.set(text, 2)
  return userdata
}

/** Undefined when the user data holds no comment. */
export function decodeComment(userdata: Uint8Array): string | undefined {
  const length = userdata[1] ?? 0
  if (userdata[0] !== UDATA_COMMENT || length === 0 || length + 2 > userdata.length) return undefined
  return decoder.decode(userdata.subarray(2, 1 + length))
}

function writeElement(w: MessageWriter, e: SetElement, keysOnly: boolean): void {
  const nest = w.openNest(NFTA_LIST_ELEM)
  writeData(w, NFTA_SET_ELEM_KEY, e.key)
  if (e.keyEnd !== undefined) writeData(w, NFTA_SET_ELEM_KEY_END, e.keyEnd)
  if (!keysOnly) {
    if (e.verdict !== undefined) {
      const data = w.openNest(NFTA_SET_ELEM_DATA)
      writeVerdict(w, e.verdict)
      w.closeNest(data)
    } else if (e.data !== undefined) writeData(w, NFTA_SET_ELEM_DATA, e.data)
    if (e.comment !== undefined && e.comment !== '') {
      w.attrBytes(NFTA_SET_ELEM_USERDATA, encodeComment(e.comment))
    }
  }
  w.closeNest(nest)
}

/**
 * Writes as many of `elements`, from index `from`, as one message holds. Returns the index behind the last one.
 * `new` is idempotent for an equal element; one with another value is refused with EEXIST or EBUSY.
 */
export function writeElements(
  w: MessageWriter,
  op: 'new' | 'delete' | 'destroy',
  ref: SetRef,
  elements: readonly SetElement[],
  from: number,
  limit: number,
  seq: number,
  ack: boolean,
): number {
  const type = op === 'new' ? NFT_MSG_NEWSETELEM : op === 'delete' ? NFT_MSG_DELSETELEM : NFT_MSG_DESTROYSETELEM
  let at = from
  nftMessage(w, type, (op === 'new' ? NLM_F_CREATE : 0) | (ack ? NLM_F_ACK : 0), seq, ref.family, () => {
    w.attrText(NFTA_SET_ELEM_LIST_TABLE, ref.table)
    w.attrText(NFTA_SET_ELEM_LIST_SET, ref.set)
    const start = w.length
    const list = w.openNest(NFTA_SET_ELEM_LIST_ELEMENTS)
    while (at < elements.length && at < from + limit && w.length - start < LIST_BYTES)
      writeElement(w, elements[at++] as SetElement, op !== 'new')
    w.closeNest(list)
  })
  return at
}

/** Body of a request for the elements of one set (after the netlink header). */
export function writeElementQuery(w: MessageWriter, ref: SetRef): void {
  nfgenmsg(w, NFPROTO[ref.family])
  w.attrText(NFTA_SET_ELEM_LIST_TABLE, ref.table)
  w.attrText(NFTA_SET_ELEM_LIST_SET, ref.set)
}

function readVerdict(r: AttrReader): Verdict {
  let code = 0
  let chain = ''
  while (r.next()) {
    if (r.type === NFTA_VERDICT_CODE) code = u32be(r) | 0
    else if (r.type === NFTA_VERDICT_CHAIN) chain = r.text()
  }
  if (code === NFT_JUMP) return { jump: chain }
  if (code === NFT_GOTO) return { goto: chain }
  if (code === NFT_RETURN) return 'return'
  return code === NF_ACCEPT ? 'accept' : 'drop'
}

function readValue(r: AttrReader): Uint8Array {
  while (r.next()) if (r.type === NFTA_DATA_VALUE) return r.bytes().slice()
  throw new NetError('internal', 'Cannot read nftables element: it has no value')
}

function readElement(r: AttrReader): SetElement | undefined {
  const out: { -readonly [K in keyof SetElement]: SetElement[K] } = { key: new Uint8Array(0) }
  while (r.next()) {
    if (r.type === NFTA_SET_ELEM_KEY) out.key = readValue(r.nested())
    else if (r.type === NFTA_SET_ELEM_KEY_END) out.keyEnd = readValue(r.nested())
    else if (r.type === NFTA_SET_ELEM_FLAGS && (u32be(r) & NFT_SET_ELEM_CATCHALL) !== 0) return undefined
    else if (r.type === NFTA_SET_ELEM_DATA) {
      const data = r.nested()
      while (data.next()) {
        if (data.type === NFTA_DATA_VALUE) out.data = data.bytes().slice()
        else if (data.type === NFTA_DATA_VERDICT) out.verdict = readVerdict(data.nested())
      }
    } else if (r.type === NFTA_SET_ELEM_USERDATA) {
      const comment = decodeComment(r.bytes())
      if (comment !== undefined) out.comment = comment
    }
  }
  return out.key.length === 0 ? undefined : out
}

/** Elements in one NEWSETELEM message of a dump. Catch-all elements are left out: none of ours is one. */
export function readElements(message: NetlinkMessage): SetElement[] {
  needHeader(message.payload, NFGENMSG_BYTES, 'nfgenmsg')
  const out: SetElement[] = []
  const r = new AttrReader(message.payload, NFGENMSG_BYTES)
  while (r.next()) {
    if (r.type !== NFTA_SET_ELEM_LIST_ELEMENTS) continue
    const list = r.nested()
    while (list.next()) {
      const element = list.type === NFTA_LIST_ELEM ? readElement(list.nested()) : undefined
      if (element !== undefined) out.push(element)
    }
  }
  return out
}

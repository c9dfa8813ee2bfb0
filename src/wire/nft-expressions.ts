/**
 * Tables, base chains and rules as nf_tables messages, for rule sets so small that libnftables would be the larger part of the work.
 * Expressions use register 1 only. Source: include/uapi/linux/netfilter/nf_tables.h; `nft --debug=netlink` shows what nft itself sends.
 */
import { AttrReader, type MessageWriter, type NetlinkMessage, NLM_F_APPEND, NLM_F_CREATE, needHeader } from './netlink.ts'
import {
  attrU32be,
  decodeComment,
  encodeComment,
  NFGENMSG_BYTES,
  NFT_MSG_DELTABLE,
  NFT_MSG_GETTABLE,
  NFT_MSG_NEWCHAIN,
  NFT_MSG_NEWRULE,
  NFT_MSG_NEWTABLE,
  type NftFamily,
  nftMessage,
} from './nfnetlink.ts'

const NFTA_TABLE_NAME = 1
const NFTA_TABLE_USERDATA = 6
const REGISTER = 1
const NFTA_LIST_ELEM = 1
const NFTA_DATA_VALUE = 1

/** NF_INET_*. */
const HOOK = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const
const BASE = { network: 1, transport: 2 } as const
const META_L4PROTO = 16
const CSUM_INET = 1

/** One expression: writes itself into an open list. */
export type Expression = (w: MessageWriter) => void

function expression(name: string, write: (w: MessageWriter) => void): Expression {
  return (w) => {
    const element = w.openNest(NFTA_LIST_ELEM)
    w.attrText(1, name)
    const data = w.openNest(2)
    write(w)
    w.closeNest(data)
    w.closeNest(element)
  }
}

function value(w: MessageWriter, type: number, bytes: Uint8Array): void {
  const nest = w.openNest(type)
  w.attrBytes(NFTA_DATA_VALUE, bytes)
  w.closeNest(nest)
}

/** Loads the layer 4 protocol. */
export const loadL4Proto: Expression = expression('meta', (w) => {
  attrU32be(w, 1, REGISTER)
  attrU32be(w, 2, META_L4PROTO)
})

/** Loads header bytes. */
export const loadHeader = (base: keyof typeof BASE, offset: number, length: number): Expression =>
  expression('payload', (w) => {
    attrU32be(w, 1, REGISTER)
    attrU32be(w, 2, BASE[base])
    attrU32be(w, 3, offset)
    attrU32be(w, 4, length)
  })

/** Ends the rule unless what was loaded equals `bytes`. */
export const equals = (bytes: Uint8Array): Expression =>
  expression('cmp', (w) => {
    attrU32be(w, 1, REGISTER)
    attrU32be(w, 2, 0)
    value(w, 3, bytes)
  })

/** Puts a constant into the register. */
export const load = (bytes: Uint8Array): Expression =>
  expression('immediate', (w) => {
    attrU32be(w, 1, REGISTER)
    value(w, 2, bytes)
  })

/** Overwrites header bytes with the register and corrects the Internet checksum at `checksumOffset` of the same header. */
export const storeHeader = (base: keyof typeof BASE, offset: number, length: number, checksumOffset: number): Expression =>
  expression('payload', (w) => {
    attrU32be(w, 5, REGISTER)
    attrU32be(w, 2, BASE[base])
    attrU32be(w, 3, offset)
    attrU32be(w, 4, length)
    attrU32be(w, 6, CSUM_INET)
    attrU32be(w, 7, checksumOffset)
    attrU32be(w, 8, 0)
  })

/**
 * A new table with a comment. `replace` takes away what has this name before, for which the kernel waits 10 ms and more; so does
 * taking rules out of it. Ask with {@link writeTableQuery} first.
 */
export function writeTable(
  w: MessageWriter,
  table: { family: NftFamily; table: string; comment: string; replace: boolean },
  nextSeq: () => number,
): void {
  const name = () => w.attrText(NFTA_TABLE_NAME, table.table)
  if (table.replace) nftMessage(w, NFT_MSG_DELTABLE, 0, nextSeq(), table.family, name)
  nftMessage(w, NFT_MSG_NEWTABLE, NLM_F_CREATE, nextSeq(), table.family, () => {
    name()
    w.attrBytes(NFTA_TABLE_USERDATA, encodeComment(table.comment))
  })
}

/** Takes a table away with everything in it. */
export function writeTableDeletion(w: MessageWriter, family: NftFamily, table: string, seq: number): void {
  nftMessage(w, NFT_MSG_DELTABLE, 0, seq, family, () => w.attrText(NFTA_TABLE_NAME, table))
}

/** Asks for one table; the answer is read with {@link readTableComment}. ENOENT when there is none. */
export function writeTableQuery(w: MessageWriter, family: NftFamily, table: string, seq: number): void {
  nftMessage(w, NFT_MSG_GETTABLE, 0, seq, family, () => w.attrText(NFTA_TABLE_NAME, table))
}

/** The comment of a table, '' without one. */
export function readTableComment(message: NetlinkMessage): string {
  needHeader(message.payload, NFGENMSG_BYTES, 'nfgenmsg')
  const r = new AttrReader(message.payload, NFGENMSG_BYTES)
  while (r.next()) if (r.type === NFTA_TABLE_USERDATA) return decodeComment(r.bytes()) ?? ''
  return ''
}

/** A filter chain at a hook, policy accept. */
export function writeBaseChain(
  w: MessageWriter,
  chain: { family: NftFamily; table: string; name: string; hook: keyof typeof HOOK; priority: number },
  seq: number,
): void {
  nftMessage(w, NFT_MSG_NEWCHAIN, NLM_F_CREATE, seq, chain.family, () => {
    w.attrText(1, chain.table)
    w.attrText(3, chain.name)
    const hook = w.openNest(4)
    attrU32be(w, 1, HOOK[chain.hook])
    attrU32be(w, 2, chain.priority)
    w.closeNest(hook)
    attrU32be(w, 5, 1)
    w.attrText(7, 'filter')
  })
}

/** A rule at the end of a chain. */
export function writeRule(
  w: MessageWriter,
  rule: { family: NftFamily; table: string; chain: string; expressions: readonly Expression[] },
  seq: number,
): void {
  nftMessage(w, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, seq, rule.family, () => {
    w.attrText(1, rule.table)
    w.attrText(2, rule.chain)
    const list = w.openNest(4)
    for (const write of rule.expressions) write(w)
    w.closeNest(list)
  })
}

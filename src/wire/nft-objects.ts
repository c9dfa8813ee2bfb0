/** What nf_tables dumps say about rules, chains, sets and the ruleset's generation: as much as is needed to see that ours are in place. */
import { AttrReader, type NetlinkMessage, needHeader } from './netlink.ts'
import { NFGENMSG_BYTES, u32be } from './nfnetlink.ts'

export interface NftRule {
  readonly table: string
  readonly chain: string
  /** Unique in the namespace for the life of the rule. */
  readonly handle: number
}

export interface NftChain {
  readonly table: string
  readonly name: string
  /** `hook priority policy` of a base chain, '' for others. */
  readonly hook: string
}

export interface NftSet {
  readonly table: string
  readonly name: string
  /** NFT_SET_*: ANONYMOUS 1, CONSTANT 2, INTERVAL 4, MAP 8. */
  readonly flags: number
}

export const NFT_SET_ANONYMOUS = 1

const u64be = (bytes: Uint8Array): number => bytes.reduce((n, b) => n * 256 + b, 0)

function attrs(message: NetlinkMessage): AttrReader {
  needHeader(message.payload, NFGENMSG_BYTES, 'nfgenmsg')
  return new AttrReader(message.payload, NFGENMSG_BYTES)
}

export function readRule(message: NetlinkMessage): NftRule {
  const r = attrs(message)
  let table = ''
  let chain = ''
  let handle = 0
  while (r.next()) {
    if (r.type === 1) table = r.text()
    else if (r.type === 2) chain = r.text()
    else if (r.type === 3) handle = u64be(r.bytes())
  }
  return { table, chain, handle }
}

export function readChain(message: NetlinkMessage): NftChain {
  const r = attrs(message)
  let table = ''
  let name = ''
  let number = ''
  let priority = ''
  let policy = ''
  while (r.next()) {
    if (r.type === 1) table = r.text()
    else if (r.type === 3) name = r.text()
    else if (r.type === 5) policy = String(u32be(r))
    else if (r.type === 4) {
      const hook = r.nested()
      while (hook.next()) {
        if (hook.type === 1) number = String(u32be(hook))
        else if (hook.type === 2) priority = String(u32be(hook) | 0)
      }
    }
  }
  return { table, name, hook: number === '' ? '' : `${number} ${priority} ${policy}` }
}

export function readSet(message: NetlinkMessage): NftSet {
  const r = attrs(message)
  let table = ''
  let name = ''
  let flags = 0
  while (r.next()) {
    if (r.type === 1) table = r.text()
    else if (r.type === 2) name = r.text()
    else if (r.type === 3) flags = u32be(r)
  }
  return { table, name, flags }
}

/** Generation of the namespace's ruleset: one higher after every transaction that changed something, whoever made it. */
export function readGeneration(message: NetlinkMessage): number {
  const r = attrs(message)
  while (r.next()) if (r.type === 1) return u32be(r)
  return 0
}

/** RTM_*RULE messages: policy routing. Source: include/uapi/linux/fib_rules.h */
import type { Ip } from '../base/address.ts'
import { ipFromBytes, ipToBytes } from '../base/address.ts'
import { type Attr, AttrReader, type MessageWriter, needHeader } from './netlink.ts'
import { RT_TABLE_COMPAT } from './rtnetlink.ts'

const FIB_RULE_HDR_BYTES = 12

const FRA_DST = 1
const FRA_SRC = 2
const FRA_IIFNAME = 3
const FRA_PRIORITY = 6
const FRA_FWMARK = 10
const FRA_TABLE = 15
const FRA_FWMASK = 16
const FRA_OIFNAME = 17
const FRA_PROTOCOL = 21

export const FR_ACT_UNSPEC = 0
export const FR_ACT_TO_TBL = 1

export interface RuleMessage {
  family: number
  dst?: Ip
  dstLength: number
  src?: Ip
  srcLength: number
  tos: number
  table: number
  action: number
  flags: number
  priority?: number
  iif?: string
  oif?: string
  mark?: number
  mask?: number
  protocol?: number
  unknown?: Attr[]
}

/** Decodes RTM_NEWRULE or RTM_DELRULE. Throws NetError `internal` on a malformed message. */
export function decodeRule(payload: Uint8Array, keep = false): RuleMessage {
  const view = needHeader(payload, FIB_RULE_HDR_BYTES, 'rule')
  const rule: RuleMessage = {
    family: view.getUint8(0),
    dstLength: view.getUint8(1),
    srcLength: view.getUint8(2),
    tos: view.getUint8(3),
    table: view.getUint8(4),
    action: view.getUint8(7),
    flags: view.getUint32(8, true),
  }
  const unknown: Attr[] = []
  const r = new AttrReader(payload, FIB_RULE_HDR_BYTES, payload.length, view)
  while (r.next()) if (!readRuleAttr(rule, r) && keep) unknown.push(r.copy())
  if (unknown.length > 0) rule.unknown = unknown
  return rule
}

function readRuleAttr(rule: RuleMessage, r: AttrReader): boolean {
  switch (r.type) {
    case FRA_DST:
      rule.dst = ipFromBytes(r.bytes())
      return true
    case FRA_SRC:
      rule.src = ipFromBytes(r.bytes())
      return true
    case FRA_IIFNAME:
      rule.iif = r.text()
      return true
    case FRA_OIFNAME:
      rule.oif = r.text()
      return true
    case FRA_PRIORITY:
      rule.priority = r.u32()
      return true
    case FRA_FWMARK:
      rule.mark = r.u32()
      return true
    case FRA_FWMASK:
      rule.mask = r.u32()
      return true
    case FRA_TABLE:
      rule.table = r.u32()
      return true
    case FRA_PROTOCOL:
      rule.protocol = r.u8()
      return true
    default:
      return false
  }
}

/** Writes fib_rule_hdr and attributes between `begin` and `end` of a message. */
export function writeRule(w: MessageWriter, rule: RuleMessage): void {
  w.u8(rule.family)
  w.u8(rule.dstLength)
  w.u8(rule.srcLength)
  w.u8(rule.tos)
  w.u8(rule.table < 256 ? rule.table : RT_TABLE_COMPAT)
  w.u8(0)
  w.u8(0)
  w.u8(rule.action)
  w.u32(rule.flags)
  if (rule.dst !== undefined) w.attrBytes(FRA_DST, ipToBytes(rule.dst))
  if (rule.src !== undefined) w.attrBytes(FRA_SRC, ipToBytes(rule.src))
  if (rule.iif !== undefined) w.attrText(FRA_IIFNAME, rule.iif)
  if (rule.oif !== undefined) w.attrText(FRA_OIFNAME, rule.oif)
  if (rule.priority !== undefined) w.attrU32(FRA_PRIORITY, rule.priority)
  if (rule.mark !== undefined) w.attrU32(FRA_FWMARK, rule.mark)
  if (rule.mask !== undefined) w.attrU32(FRA_FWMASK, rule.mask)
  if (rule.protocol !== undefined) w.attrU8(FRA_PROTOCOL, rule.protocol)
  if (rule.table !== 0) w.attrU32(FRA_TABLE, rule.table)
  if (rule.unknown !== undefined) w.attrs(rule.unknown)
}

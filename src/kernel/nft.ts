/**
 * Our two nftables tables in one namespace: rules as text through libnftables (rarely), set elements as raw netlink (all the time).
 * Adding an element costs about 0.1 ms whatever the set holds. Nothing outside `inet causeway` and `bridge causeway` is touched.
 */
import { hasCode, isErrno, NetError } from '../base/errors.ts'
import { elementKey, type NftElement } from '../model/nft-element.ts'
import { errnoName, kernelError } from '../sys/libc.ts'
import { Libnftables } from '../sys/libnftables.ts'
import { NETLINK_NETFILTER, NetlinkSocket } from '../sys/netlink-socket.ts'
import type { Netns } from '../sys/netns.ts'
import { NftTransactions } from '../sys/nft-transaction.ts'
import { MessageWriter, type NetlinkAck, type NetlinkMessage } from '../wire/netlink.ts'
import {
  beginBatch,
  endBatch,
  messageType,
  NFNL_SUBSYS_NFTABLES,
  NFPROTO,
  NFT_MSG_DELTABLE,
  NFT_MSG_GETCHAIN,
  NFT_MSG_GETGEN,
  NFT_MSG_GETRULE,
  NFT_MSG_GETSET,
  NFT_MSG_GETSETELEM,
  NFT_MSG_NEWTABLE,
  nfgenmsg,
  nftMessage,
  readElements,
  writeElementQuery,
  writeElements,
} from '../wire/nfnetlink.ts'
import { NFT_SET_ANONYMOUS, readChain, readGeneration, readRule, readSet } from '../wire/nft-objects.ts'

export type { NftElement, NftVerdict } from '../model/nft-element.ts'

const TABLE = 'causeway'
const FAMILIES = ['inet', 'bridge'] as const
type OurFamily = (typeof FAMILIES)[number]

const NLM_F_CREATE = 0x400
/** On a host where others commit all the time we take what is there after so many tries: the next notice leads to another look. */
const APPLY_TRIES = 5
const NFTA_TABLE_NAME = 1
/** The table's name has number 1 in every request for rules, chains and sets. */
const NFTA_ANY_TABLE = 1

/** Elements of one set, in order, as one step of a batch. */
interface Step {
  readonly op: 'new' | 'destroy'
  readonly family: OurFamily
  readonly set: string
  readonly elements: NftElement[]
}

/** Our chains and rules as found: `family chain` -> hook and rule handles. */
type Snapshot = ReadonlyMap<string, string>

function stepsOf(op: Step['op'], elements: readonly NftElement[]): Step[] {
  const steps = new Map<string, Step>()
  for (const element of elements) {
    const family = element.family ?? 'inet'
    const key = `${family} ${element.set}`
    let step = steps.get(key)
    if (step === undefined) {
      step = { op, family, set: element.set, elements: [] }
      steps.set(key, step)
    }
    step.elements.push(element)
  }
  return [...steps.values()]
}

export class Nft {
  readonly #ns: Netns | undefined
  readonly #socket: NetlinkSocket
  readonly #transactions: NftTransactions
  readonly #writer = new MessageWriter(16 * 1024)
  #library: Libnftables | undefined
  #applied: Snapshot | undefined
  #intactAt = -1
  #seq = 0
  /** False once the kernel turned out to be older than Linux 6.3: then missing elements are skipped one by one. */
  #canDestroy = true

  private constructor(ns: Netns | undefined, socket: NetlinkSocket, transactions: NftTransactions) {
    this.#ns = ns
    this.#socket = socket
    this.#transactions = transactions
  }

  /** Opens the namespace's firewall, this process's own when absent. The namespace must stay open as long. Close with {@link close}. */
  static open(ns?: Netns): Nft {
    const socket = NetlinkSocket.open(NETLINK_NETFILTER, ns)
    try {
      return new Nft(ns, socket, NftTransactions.open(ns))
    } catch (error) {
      socket.close()
      throw error
    }
  }

  /** Runs nft commands as one transaction; returns what they print. Throws NetError with libnftables' own sentence. */
  run(text: string): string {
    this.#library ??= Libnftables.open(this.#ns)
    return this.#library.run(text)
  }

  /** The same with JSON output, parsed. */
  runJson(text: string): unknown {
    this.#library ??= Libnftables.open(this.#ns)
    return this.#library.runJson(text)
  }

  /**
   * Applies the rendered tables. Harmless under traffic and when they are there already: elements stay. When a set has changed its
   * type (another version of us made it), the tables are made anew in the same transaction, without elements: diff them afterwards.
   */
  ensureTables(text: string): void {
    // what is read back must be what we wrote: another program's commit in between would pass for ours
    for (let tries = 0; tries < APPLY_TRIES; tries++) {
      const before = this.#generation()
      this.#apply(text)
      this.#intactAt = this.#generation()
      this.#applied = this.#snapshot()
      if (this.#intactAt === before + 1 && this.#generation() === this.#intactAt) return
    }
  }

  #apply(text: string): void {
    try {
      this.run(text + this.#strangersAway(text))
    } catch (error) {
      // libnftables compares types itself before the kernel does; if the text is at fault, the second try fails too and changes nothing.
      if (!isErrno(error, 'EEXIST') && !hasCode(error, 'invalid')) throw error
      const fresh = FAMILIES.map((family) => `add table ${family} ${TABLE}\ndelete table ${family} ${TABLE}\n`).join('')
      this.run(fresh + text)
    }
  }

  /** Commands that delete the chains in our tables which the text does not declare: put there by others, or by another version of us. */
  #strangersAway(text: string): string {
    const declared = new Set<string>()
    let table = ''
    for (const line of text.split('\n')) {
      table = /^table (\S+)/.exec(line)?.[1] ?? table
      const chain = /^ +chain (\S+)/.exec(line)?.[1]
      if (chain !== undefined) declared.add(`${table} ${chain}`)
    }
    const strangers = [...this.#snapshot().keys()].filter((chain) => !declared.has(chain))
    return strangers.map((chain) => `delete chain ${chain.replace(' ', ` ${TABLE} `)}\n`).join('')
  }

  /**
   * Removes and adds elements in one transaction, removals first. Adding what is there is fine, also with another value (it is
   * replaced); so is removing what is not there. Throws NetError and changes nothing otherwise; `not-found` when our tables are gone.
   */
  change(change: { readonly add: readonly NftElement[]; readonly remove: readonly NftElement[] }): void {
    if (change.add.length + change.remove.length === 0) return
    let refusal = this.#commit([...stepsOf('destroy', change.remove), ...stepsOf('new', change.add)])
    // The kernel does not replace an element's value: take the old one out in the same transaction.
    if (refusal !== undefined && change.add.length > 0 && (refusal.name === 'EEXIST' || refusal.name === 'EBUSY'))
      refusal = this.#commit([...stepsOf('destroy', [...change.remove, ...change.add]), ...stepsOf('new', change.add)])
    if (refusal === undefined) return
    if (refusal.name === 'ENOENT' && change.add.length === 0) return
    throw kernelError('change nftables set', refusal.subject, refusal.ack.errno, refusal.ack.text)
  }

  /** Every element of our sets and maps in both tables; empty when the tables are not there. */
  elements(): NftElement[] {
    const out: NftElement[] = []
    for (const family of FAMILIES) {
      const sets = this.#dump('sets', NFT_MSG_GETSET, family, readSet)
      for (const set of sets) {
        if (set.table !== TABLE || (set.flags & NFT_SET_ANONYMOUS) !== 0) continue
        const ref = { family, table: TABLE, set: set.name }
        const type = messageType(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETSETELEM)
        const read = this.#socket.dump(`elements of ${set.name}`, type, (w) => writeElementQuery(w, ref), readElements)
        for (const element of read.flat())
          out.push(family === 'inet' ? { ...element, set: set.name } : { ...element, set: set.name, family })
      }
    }
    return out
  }

  /**
   * True while chains, hooks and rules are as {@link ensureTables} left them; else a sentence that says what is not. Costs one small
   * request as long as nobody has changed anything in the namespace's ruleset. Elements are not compared: {@link elements}.
   */
  isIntact(): true | string {
    if (this.#applied === undefined) return 'our nftables tables have not been applied yet'
    const generation = this.#generation()
    if (generation === this.#intactAt) return true
    const found = this.#snapshot()
    for (const [chain, rules] of this.#applied) {
      const now = found.get(chain)
      if (now === undefined) return found.size === 0 ? 'our nftables tables are gone' : `nftables chain "${chain}" is gone`
      if (now !== rules) return `nftables chain "${chain}" has been changed`
    }
    for (const chain of found.keys()) if (!this.#applied.has(chain)) return `nftables chain "${chain}" is not ours`
    this.#intactAt = generation
    return true
  }

  /** Removes both tables with everything in them. Idempotent. */
  removeAll(): void {
    const w = this.#writer
    w.reset()
    beginBatch(w, ++this.#seq)
    for (const family of FAMILIES)
      for (const [type, flags] of [[NFT_MSG_NEWTABLE, NLM_F_CREATE] as const, [NFT_MSG_DELTABLE, 0] as const])
        nftMessage(w, type, flags, ++this.#seq, family, () => w.attrText(NFTA_TABLE_NAME, TABLE))
    endBatch(w, ++this.#seq)
    const [refusal] = this.#transactions.commit(w.bytes()).values()
    if (refusal !== undefined) throw kernelError('remove nftables table', TABLE, refusal.errno, refusal.text)
    this.#applied = undefined
  }

  /** Idempotent. Leaves the tables. */
  close(): void {
    this.#library?.close()
    this.#library = undefined
    this.#transactions.close()
    this.#socket.close()
  }

  /** One transaction. Returns the first refusal that matters, or undefined when it was committed. */
  #commit(steps: readonly Step[]): { name: string; subject: string; ack: NetlinkAck } | undefined {
    for (;;) {
      const w = this.#writer
      w.reset()
      const sent = new Map<number, { step: Step; from: number }>()
      this.#seq &= 0x3fffffff
      beginBatch(w, ++this.#seq)
      for (const step of steps) {
        const ref = { family: step.family, table: TABLE, set: step.set }
        const op = step.op === 'destroy' && !this.#canDestroy ? 'delete' : step.op
        for (let from = 0; from < step.elements.length; ) {
          const seq = ++this.#seq
          sent.set(seq, { step, from })
          from = writeElements(w, op, ref, step.elements, from, op === 'delete' ? 1 : step.elements.length, seq, false)
        }
      }
      endBatch(w, ++this.#seq)
      const refusals = this.#transactions.commit(w.bytes())
      if (refusals.size === 0) return undefined
      const [seq, ack] = [...refusals].find(([, a]) => errnoName(a.errno) !== 'ENOENT') ?? ([...refusals][0] as [number, NetlinkAck])
      const name = errnoName(ack.errno)
      const about = sent.get(seq)
      if (about?.step.op === 'destroy') {
        if (this.#canDestroy && name !== 'ENOENT') {
          this.#canDestroy = false
          continue
        }
        if (!this.#canDestroy && name === 'ENOENT') {
          this.#forgetMissing(sent, refusals)
          continue
        }
      }
      const element = about?.step.elements[about.from]
      return { name, ack, subject: element === undefined ? TABLE : elementKey(element) }
    }
  }

  /** Before Linux 6.3 one missing element refuses the whole batch: leave out the ones the kernel has named. */
  #forgetMissing(sent: ReadonlyMap<number, { step: Step; from: number }>, refusals: ReadonlyMap<number, NetlinkAck>): void {
    const gone = new Map<Step, Set<number>>()
    for (const seq of refusals.keys()) {
      const about = sent.get(seq)
      if (about === undefined || about.step.op !== 'destroy') continue
      const indexes = gone.get(about.step) ?? new Set<number>()
      gone.set(about.step, indexes.add(about.from))
    }
    if (gone.size === 0) throw new NetError('internal', 'Cannot change nftables sets: the kernel refused without saying what')
    for (const [step, indexes] of gone) step.elements.splice(0, step.elements.length, ...step.elements.filter((_, i) => !indexes.has(i)))
  }

  #generation(): number {
    const answer = this.#socket.query(
      messageType(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN),
      0,
      (w) => nfgenmsg(w, NFPROTO.unspec),
      readGeneration,
    )
    if (typeof answer !== 'number') throw kernelError('read generation of', 'nftables', answer.errno, answer.text)
    return answer
  }

  #dump<T>(what: string, type: number, family: OurFamily, decode: (message: NetlinkMessage) => T): T[] {
    try {
      return this.#socket.dump(
        `nftables ${what}`,
        messageType(NFNL_SUBSYS_NFTABLES, type),
        (w) => {
          nfgenmsg(w, NFPROTO[family])
          w.attrText(NFTA_ANY_TABLE, TABLE)
        },
        decode,
      )
    } catch (error) {
      if (hasCode(error, 'not-found')) return [] // ENOENT: the table is gone
      throw error
    }
  }

  #snapshot(): Snapshot {
    const out = new Map<string, string>()
    for (const family of FAMILIES) {
      for (const chain of this.#dump('chains', NFT_MSG_GETCHAIN, family, readChain))
        if (chain.table === TABLE) out.set(`${family} ${chain.name}`, chain.hook)
      for (const rule of this.#dump('rules', NFT_MSG_GETRULE, family, readRule)) {
        const key = `${family} ${rule.chain}`
        if (rule.table === TABLE) out.set(key, `${out.get(key) ?? ''} ${rule.handle}`)
      }
    }
    return out
  }
}

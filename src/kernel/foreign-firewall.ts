/**
 * Other tools' firewalls on this host. A packet that our rules accept can still be dropped by somebody else's: then one rule that accepts
 * our mark goes into the place which that tool keeps for its administrator (Docker's DOCKER-USER, ufw's user chains), behind the
 * administrator's own rules. Policies are never changed. Where a tool has no such place we say what would have to be done.
 */
import { hasCode, messageOf } from '../base/errors.ts'
import type { Logger } from '../base/ports.ts'
import { IPTABLES_KINDS, type IptablesKind, runIptables, saveFilterTable } from '../sys/iptables.ts'
import { Libnftables } from '../sys/libnftables.ts'
import type { Netns } from '../sys/netns.ts'

/** Equal to MARK of `plan/firewall/tables.ts`, which this layer must not import; a test compares them. */
export const ACCEPT_MARK = 0x1000

const COMMENT = 'causeway'
const MARK_TEXT = `0x${ACCEPT_MARK.toString(16)}`
const RULE = ['-m', 'mark', '--mark', `${MARK_TEXT}/${MARK_TEXT}`, '-m', 'comment', '--comment', COMMENT, '-j', 'ACCEPT'] as const

/** The chains in which Docker and ufw want foreign rules, by family. */
const USER_CHAINS: readonly { readonly tool: string; readonly chains: Readonly<Record<4 | 6, string>> }[] = [
  { tool: 'Docker', chains: { 4: 'DOCKER-USER', 6: 'DOCKER-USER' } },
  { tool: 'ufw', chains: { 4: 'ufw-user-forward', 6: 'ufw6-user-forward' } },
]

/** What was found, what it does to our traffic. */
export interface ForeignFinding {
  readonly name: string
  readonly found: string
  readonly effect: string
}

/** What is known of firewalld, see `firewalld.ts`. */
export interface Firewalld {
  readonly passes: boolean
  readonly bridges: readonly string[]
}

const FIREWALLD = 'firewalld'

interface FilterTable {
  readonly kind: IptablesKind
  /** Policy of FORWARD, '' when there is no such chain. */
  readonly policy: string
  readonly chains: ReadonlySet<string>
  /** Rules in order, without `-A`. */
  readonly rules: readonly { readonly chain: string; readonly text: string }[]
}

/** Reads what iptables-save printed; undefined when it holds no filter table. Pure. */
export function parseFilterTable(kind: IptablesKind, text: string): FilterTable | undefined {
  const chains = new Map<string, string>()
  const rules: { chain: string; text: string }[] = []
  for (const line of text.split('\n')) {
    const chain = /^:(\S+) (\S+)/.exec(line)
    if (chain !== null) chains.set(chain[1] as string, chain[2] as string)
    const rule = /^-A (\S+) ?(.*)$/.exec(line)
    if (rule !== null) rules.push({ chain: rule[1] as string, text: rule[2] as string })
  }
  if (chains.size === 0) return undefined
  return { kind, policy: chains.get('FORWARD') ?? '', chains: new Set(chains.keys()), rules }
}

const isOurs = (rule: { text: string }): boolean => rule.text.includes(`--comment ${COMMENT} `)

/** A rule that ends the chain for every packet. */
const isCatchAll = (rule: { text: string }): boolean => /^-j (RETURN|DROP|REJECT\b.*)$/.test(rule.text)

/** 1-based position for our rule: behind the administrator's rules, before one that ends the chain for everything. Pure. */
export function positionFor(table: FilterTable, chain: string): number {
  const rules = table.rules.filter((r) => r.chain === chain)
  const end = rules.findIndex(isCatchAll)
  return (end < 0 ? rules.length : end) + 1
}

export class ForeignFirewall {
  readonly #log: Logger
  readonly #ns: Netns | undefined
  readonly #firewalld: Firewalld | undefined

  /** `ns` names another namespace than this process's own for looking at nftables; the iptables programs always run in our own. */
  constructor(options: { readonly log: Logger; readonly ns?: Netns; readonly firewalld?: Firewalld }) {
    this.#log = options.log
    this.#firewalld = options.firewalld
    this.#ns = options.ns
  }

  /**
   * Puts the accept rule where a known tool's rules see our traffic. Idempotent; call it again after such a tool has reloaded its rules.
   * A tool that refuses is logged, not thrown: our own rules do not depend on it. Returns the chains that got the rule now.
   */
  ensureAccept(): string[] {
    const done: string[] = []
    for (const table of this.#tables()) {
      for (const { tool, chains } of USER_CHAINS) {
        const chain = chains[table.kind.family]
        if (!table.chains.has(chain)) continue
        if (table.rules.some((r) => r.chain === chain && isOurs(r))) continue
        try {
          runIptables(table.kind, ['-I', chain, String(positionFor(table, chain)), ...RULE])
          done.push(chain)
          this.#log.info('added a rule that accepts our marked packets', { tool, chain, ...table.kind, mark: MARK_TEXT })
        } catch (error) {
          this.#log.warn('cannot add our accept rule to another firewall', { tool, chain, ...table.kind, error: messageOf(error) })
        }
      }
    }
    // firewalld is told about our bridges elsewhere, and that is where failures are logged
    for (const finding of this.describe())
      if (finding.effect.startsWith('drops') && (finding.name !== FIREWALLD || this.#firewalld === undefined))
        this.#log.warn('another firewall drops our forwarded traffic', { ...finding })
    return done
  }

  /** Takes our accept rules out again, wherever they are. Idempotent. Returns the chains that had one. */
  removeAccept(): string[] {
    const done: string[] = []
    for (const table of this.#tables()) {
      for (const rule of table.rules.filter(isOurs)) {
        try {
          runIptables(table.kind, ['-D', rule.chain, ...RULE])
          done.push(rule.chain)
        } catch (error) {
          this.#log.warn('cannot remove our accept rule', { chain: rule.chain, ...table.kind, error: messageOf(error) })
        }
      }
    }
    return done
  }

  /** Everything found, for people. Changes nothing. */
  describe(): ForeignFinding[] {
    return [
      ...this.#tables()
        .map(describeTable)
        .filter((f) => f !== undefined),
      ...this.#nftFindings(),
    ]
  }

  #tables(): FilterTable[] {
    return IPTABLES_KINDS.flatMap((kind) => parseFilterTable(kind, saveFilterTable(kind)) ?? [])
  }

  #nftFindings(): ForeignFinding[] {
    let library: Libnftables | undefined
    try {
      library = Libnftables.open(this.#ns)
      return nftFindings(library.runJson('list chains'), this.#firewalld)
    } catch (error) {
      if (!hasCode(error, 'unavailable')) this.#log.warn('cannot look at nftables chains', { error: messageOf(error) })
      return []
    } finally {
      library?.close()
    }
  }
}

function describeTable(table: FilterTable): ForeignFinding | undefined {
  const { kind, policy } = table
  const places = USER_CHAINS.filter(({ chains }) => table.chains.has(chains[kind.family]))
  const dropping = policy === 'DROP' || table.rules.some((r) => r.chain === 'FORWARD' && /^-j (DROP|REJECT\b.*)$/.test(r.text))
  if (places.length === 0 && !dropping) return undefined
  const program = `${kind.family === 4 ? 'iptables' : 'ip6tables'}-${kind.backend}`
  const name = `${places.map((p) => p.tool).join(' and ') || 'iptables'} (${program})`
  const chains = places.map(({ chains: c }) => c[kind.family])
  const found = [`FORWARD policy ${policy || 'none'}`, ...chains.map((c) => `chain ${c}`)].join(', ')
  const missing = chains.filter((c) => !table.rules.some((r) => r.chain === c && isOurs(r)))
  if (chains.length > 0)
    return {
      name,
      found,
      effect:
        missing.length === 0
          ? 'has one rule that accepts our marked packets'
          : `may drop our traffic: no accept rule in ${missing.join(', ')}`,
    }
  return { name, found, effect: `drops our forwarded traffic; to let it pass: ${program} -I FORWARD ${RULE.join(' ')}` }
}

interface NftChainJson {
  readonly chain?: {
    readonly family: string
    readonly table: string
    readonly name: string
    readonly hook?: string
    readonly policy?: string
  }
}

/** Base chains of others at the forward hook that may drop. iptables-nft's own tables are read through iptables. Pure. */
export function nftFindings(json: unknown, firewalld?: Firewalld): ForeignFinding[] {
  const bridges = firewalld?.bridges.length ? firewalld.bridges : ['<bridge>']
  const objects = (json as { nftables?: readonly NftChainJson[] } | undefined)?.nftables ?? []
  const out: ForeignFinding[] = []
  for (const { chain } of objects) {
    if (chain?.hook !== 'forward' || chain.table === COMMENT) continue
    const found = `nftables chain ${chain.family} ${chain.table} ${chain.name}`
    if (chain.table === 'firewalld')
      out.push({
        name: FIREWALLD,
        found,
        effect: firewalld?.passes
          ? 'has our bridges in a zone of their own, causeway'
          : `drops forwarded traffic of interfaces without a zone; to let ours pass: firewall-cmd --zone=trusted ${bridges.map((name) => `--add-interface=${name}`).join(' ')}`,
      })
    else if (chain.policy === 'drop' && !(chain.table === 'filter' && chain.name === 'FORWARD'))
      out.push({
        name: `nftables table ${chain.table}`,
        found: `${found}, policy drop`,
        effect: `drops our forwarded traffic unless it accepts mark ${MARK_TEXT}`,
      })
  }
  return out
}

/** What `cluster verify` makes of what hosts say of their kernels (pure): who agrees with the store, who is behind it, who differs from it. */
import type { KernelState, PublishedState } from './published.ts'

export interface HostVerdict {
  readonly hostId: string
  readonly host: string
  /**
   * `behind`: it has not heard of all that the store says. `differs`: it has, and its kernel holds something else. `silent`: up, and did not
   * answer in time. `down`: not asked.
   */
  readonly state: 'agrees' | 'behind' | 'differs' | 'silent' | 'down'
  /** The store's revision up to which the host has heard of the network's endpoints; 0 = it has not said. */
  readonly revision: number
  /** How often the host has put right what somebody else had changed, since its engine started. */
  readonly repairs: number
  /** Lines `<ip> <mac> <host address>` that its kernel lacks, and that it has beyond the store. At most 100 each. */
  readonly missing: readonly string[]
  readonly extra: readonly string[]
}

export interface NetworkVerdict {
  readonly networkId: string
  readonly network: string
  readonly endpoints: number
  /** The store's when it was read. */
  readonly revision: number
  /** Of the set that the store says. */
  readonly hash: string
  readonly hosts: readonly HostVerdict[]
}

/** What the store says that every member's kernel should hold. */
export interface WantedState {
  readonly lines: readonly string[]
  readonly hash: string
  readonly revision: number
  /** Hosts that have endpoints on the network. */
  readonly members: readonly string[]
}

/** What one host says; `lines` only when it was asked for them. */
export type Said = KernelState & Partial<Pick<PublishedState, 'lines'>>

const DIFFERENCES_SHOWN = 100

/** `said` undefined: it is up and nothing is known of it that is new enough. */
export function judgeHost(
  host: { readonly id: string; readonly name: string; readonly isUp: boolean },
  wanted: WantedState,
  said: Said | undefined,
): HostVerdict {
  const { revision = 0, repairs = 0 } = said ?? {}
  const base = { hostId: host.id, host: host.name, revision, repairs, missing: [], extra: [] }
  if (!host.isUp) return { ...base, state: 'down' }
  if (said === undefined) return { ...base, state: 'silent' }
  if (said.hash === wanted.hash) return { ...base, state: 'agrees' }
  const has = new Set(said.lines ?? [])
  const wants = new Set(wanted.lines)
  const missing = said.lines === undefined ? [] : wanted.lines.filter((line) => !has.has(line))
  const extra = [...has].filter((line) => !wants.has(line))
  return {
    ...base,
    state: said.wanted === wanted.hash ? 'differs' : 'behind',
    missing: missing.slice(0, DIFFERENCES_SHOWN),
    extra: extra.slice(0, DIFFERENCES_SHOWN),
  }
}

export const isAgreed = (networks: readonly NetworkVerdict[]): boolean =>
  networks.every(({ hosts }) => hosts.every(({ state }) => state === 'agrees' || state === 'down'))

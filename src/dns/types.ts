/** What the DNS service is told, and what it tells. All of it is structured-cloneable: it crosses to the service's own thread. */
import type { Ip } from '../base/address.ts'

/** Names and addresses of one endpoint on one network. */
export interface DnsRecordSet {
  readonly endpointId: string
  /** The first is the name that a reverse look-up answers. Compared without case. */
  readonly names: readonly string[]
  readonly ipv4?: Ip
  readonly ipv6?: Ip
}

export interface DnsUpstream {
  readonly ip: Ip
  /** 53 unless given. */
  readonly port?: number
  /** Whose namespace the question is sent from: the engine's, or the sandbox's own. */
  readonly from: 'host' | 'sandbox'
}

/** What one sandbox sees. */
export interface DnsView {
  /** In gateway order: where two networks know a name, the first wins. */
  readonly networks: readonly {
    readonly id: string
    readonly name: string
    /** Links, seen by this sandbox only: alias -> names on that network. */
    readonly aliases: Readonly<Record<string, readonly string[]>>
  }[]
  /** In listed order. Empty = the servers of {@link DnsCommand} `hostUpstreams`, so that changes of the host's resolver are followed. */
  readonly upstreams: readonly DnsUpstream[]
  /** False on internal networks only: questions are then never sent from the host's namespace. */
  readonly hasGateway: boolean
  /** The user set `ndots` above 0: unknown names without a dot are not forwarded. */
  readonly ndotsSet: boolean
}

/** A server in the engine's own namespace, from its resolv.conf. */
export interface HostUpstream {
  readonly ip: Ip
  readonly port?: number
}

/** How a question was answered. */
export const ANSWER_KINDS = ['local', 'empty', 'ptr', 'cached', 'forwarded', 'servfail', 'malformed', 'dropped'] as const
export type AnswerKind = (typeof ANSWER_KINDS)[number]

export interface UpstreamStats {
  readonly ip: Ip
  readonly port: number
  readonly from: 'host' | 'sandbox'
  /** Set for `from: sandbox`. */
  readonly sandboxId?: string
  readonly sent: number
  readonly answered: number
  /** Answers that were of no use: SERVFAIL, REFUSED and the like. */
  readonly bad: number
  readonly failed: number
  /** Smoothed round trip; 0 before the first answer. */
  readonly rttMs: number
  /** False while it does not answer: it is then asked last, and probed in the background. */
  readonly healthy: boolean
}

export interface DnsSandboxStats {
  readonly id: string
  readonly queries: number
  /** Questions waiting for an upstream now. */
  readonly pending: number
  readonly tcpConnections: number
}

export interface DnsStats {
  readonly queries: number
  readonly answers: Readonly<Record<AnswerKind, number>>
  readonly truncated: number
  /** Answers that the kernel did not take. */
  readonly sendErrors: number
  readonly cache: { readonly entries: number; readonly bytes: number; readonly hits: number; readonly misses: number }
  /** Questions that joined another sandbox's identical question on its way. */
  readonly joined: number
  readonly hedged: number
  readonly upstreams: readonly UpstreamStats[]
  readonly sandboxes: readonly DnsSandboxStats[]
}

/** One line of the query log. */
export interface DnsQueryLogEntry {
  readonly sandboxId: string
  readonly name: string
  readonly type: number
  readonly kind: AnswerKind
  /** Milliseconds from the arrival of the question to the answer. */
  readonly ms: number
}

/** Main thread -> DNS thread. */
export type DnsCommand =
  | {
      readonly op: 'addSandbox'
      readonly id: string
      readonly udpFd: number
      readonly tcpFd: number
      /** Duplicate of the namespace's descriptor; the DNS thread closes it. */
      readonly nsFd: number
      readonly view: DnsView
    }
  | { readonly op: 'setView'; readonly id: string; readonly view: DnsView }
  | { readonly op: 'removeSandbox'; readonly id: string }
  | { readonly op: 'setEndpoint'; readonly networkId: string; readonly record: DnsRecordSet }
  | { readonly op: 'removeEndpoint'; readonly networkId: string; readonly endpointId: string }
  | { readonly op: 'removeNetwork'; readonly networkId: string }
  | { readonly op: 'hostUpstreams'; readonly list: readonly HostUpstream[] }
  | { readonly op: 'stats'; readonly token: number }
  | { readonly op: 'close' }

/** DNS thread -> main thread. */
export type DnsReport =
  | { readonly op: 'ready' }
  | { readonly op: 'stats'; readonly token: number; readonly stats: DnsStats }
  | { readonly op: 'log'; readonly entries: readonly DnsQueryLogEntry[] }
  | { readonly op: 'error'; readonly message: string }

/** What the CNI face needs to see and do in a runtime's namespace besides what the controller does there. The daemon implements it. */
import type { Family, Mac } from '../../base/address.ts'
import type { Rate } from '../../drivers/endpoint-options.ts'

/** One interface inside, as it is. */
export interface InsideLink {
  readonly mac: Mac | ''
  readonly mtu: number
  readonly up: boolean
  /** With prefix lengths. */
  readonly addresses: readonly string[]
  readonly routes: readonly { readonly dst: string; readonly gw?: string }[]
}

export interface Limits {
  readonly ingress?: Rate
  readonly egress?: Rate
}

export interface CniKernel {
  /** `own` = the engine's own namespace, which no container may have. */
  namespace(path: string): 'missing' | 'own' | 'there'
  /** An interface, undefined when it is not there. Throws NetError `not-found` when the namespace has gone. */
  look(path: string, ifname: string): InsideLink | undefined
  /** Those of `families` in which some interface carries a default route. */
  defaultRoutes(path: string, families: readonly Family[]): Family[]
  /** Takes an interface out of use at once: addresses gone, name free. A missing interface or namespace is fine. */
  retire(path: string, ifname: string, newName: string): void
  /** Ends that should have a limit and have none: towards the container the host's, from it the container's own. */
  missingLimits(path: string, ifname: string, hostIfname: string, limits: Limits): string[]
  /** Hardware address of an interface of the host, '' when it has gone. */
  hostMac(name: string): Mac | ''
}

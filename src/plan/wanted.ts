/**
 * What the kernel should hold for a network or an endpoint: plain values that drivers make from the model and that
 * planners compare with a dump. Nothing here names who asked for it.
 */
import type { Address, LinkSpec, Neighbour, Route } from '../model/kernel-state.ts'

/** A sysctl of one interface or of a namespace, as a path below /proc/sys with slashes. */
export interface WantedSysctl {
  readonly path: string
  readonly value: string
  /** A kernel without it is fine. */
  readonly optional?: boolean
}

/** One link with everything that hangs on it. */
export interface WantedLink {
  readonly spec: LinkSpec
  readonly addresses: readonly Address[]
  readonly sysctls: readonly WantedSysctl[]
  /** Somebody else's device that we use: never created, changed in kind, or deleted by us. */
  readonly adopted?: boolean
  /** Used as it is when it exists and is not ours; made, marked and taken away by us when it does not (a VLAN sub-interface). */
  readonly madeWhenMissing?: boolean
  /** Routes over it and neighbours on it; when given, others that were set there by hand go. */
  readonly routes?: readonly Route[]
  readonly neighbours?: readonly Neighbour[]
}

/** The container's end of an attachment. */
export interface WantedInside {
  readonly ifname: string
  readonly addresses: readonly Address[]
  readonly sysctls: readonly WantedSysctl[]
  /** Routes that belong to the endpoint whatever the default gateway is. */
  readonly routes: readonly Route[]
}

/** Which subnets the host itself uses, for the automatic choice of a network's subnet. */
import type { Cidr } from '../base/address.ts'
import type { HostSubnets } from '../ipam/host-subnets.ts'

/** Subnets that the host itself uses, kept between route changes: reading all routes for each new network would not stay flat. */
export class HostRoutes {
  readonly #read: () => HostSubnets
  #known: HostSubnets | undefined

  constructor(read: () => HostSubnets) {
    this.#read = read
  }

  subnets(): HostSubnets {
    this.#known ??= this.#read()
    return this.#known
  }

  /** A route over somebody else's device came or went. The end of one that never counted (of a bridge of ours that has gone) changes nothing. */
  note(change: 'new' | 'delete', dst: string): void {
    if (this.#known === undefined) return
    const counted = this.#known.reserved.includes(dst as Cidr) || this.#known.avoid.includes(dst as Cidr)
    if (change === 'new' || counted) this.#known = undefined
  }

  forget(): void {
    this.#known = undefined
  }
}

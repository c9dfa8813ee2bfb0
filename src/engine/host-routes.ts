/** Which subnets the host itself uses, for the automatic choice of a network's subnet. */
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

  forget(): void {
    this.#known = undefined
  }
}

/** Which subnets the host itself uses, for the automatic choice of a network's subnet. */
import type { Cidr } from '../base/address.ts'

/** Subnets that the host itself uses, kept between route changes: reading all routes for each new network would not stay flat. */
export class HostRoutes {
  readonly #read: () => readonly Cidr[]
  #known: readonly Cidr[] | undefined

  constructor(read: () => readonly Cidr[]) {
    this.#read = read
  }

  subnets(): readonly Cidr[] {
    this.#known ??= this.#read()
    return this.#known
  }

  forget(): void {
    this.#known = undefined
  }
}

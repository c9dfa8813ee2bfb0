/**
 * What the layers above may ask of one network namespace's kernel. `rtnl.ts` implements it over rtnetlink;
 * `testkit/fake-rtnl.ts` has what overlay networks use of it in memory; `test/kernel/fake-rtnl.test.ts` holds the two against each other.
 */
import type { Family } from '../base/address.ts'
import type { Address, FdbEntry, Link, Neighbour, PolicyRule, Route, Step } from '../model/kernel-state.ts'

export interface Rtnl {
  /** All links, or the ones of a kind. Retries interrupted dumps. */
  links(kind?: string): Link[]
  /** One link, or undefined when there is none of this name or index. */
  link(nameOrIndex: string | number): Link | undefined
  /** Index of a link, 0 when there is none. Takes no lock: other requests may wait while somebody deletes links. */
  indexOf(name: string): number
  /** Name of a link, '' when there is none. Takes no lock. */
  nameOf(index: number): string
  /** Up and with a carrier. Takes no lock. */
  isRunning(name: string): boolean
  addresses(filter?: { dev?: string; family?: Family }): Address[]
  /** Main table unless given; `all` for every table. */
  routes(filter?: { family?: Family; table?: number | 'all'; dev?: string }): Route[]
  /** The route the kernel would take (RTM_GETROUTE). Throws what the kernel answers (ENETUNREACH...). */
  routeTo(ip: string, options?: { from?: string; iif?: string; mark?: number }): Route
  neighbours(filter?: { dev?: string; family?: Family }): Neighbour[]
  fdb(dev: string): FdbEntry[]
  rules(family: Family): PolicyRule[]
  /**
   * Applies all steps in order and stops at the first that fails, throwing NetError with `detail.op` and
   * `detail.subject` of that step and the kernel's sentence; earlier steps stay done and later ones are never run. A step itself is
   * done or not done: a link that cannot be completed is taken away again.
   */
  apply(steps: readonly Step[]): void
  /**
   * Deletes every link of an interface group on a thread of the FFI's pool and on a socket of its own, so that the
   * kernel's RCU waiting (10 to 20 ms) is not this thread's. Resolves when done; an empty group is fine. One request runs at
   * a time: calls made meanwhile share the next one.
   */
  deleteGroupInBackground(group: number): Promise<void>
  /** The same for single links, which share one request and one waiting; a missing link is fine. Nothing is sent from this thread. */
  deleteLinksInBackground(names: readonly string[]): Promise<void>
  close(): void
}

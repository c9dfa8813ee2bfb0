/** The elements that live objects want in the firewall's sets and maps, counted, and kept equal to the kernel's. */
import { hasCode } from '../base/errors.ts'
import type { Nft } from '../kernel/nft.ts'
import { diffElements, type NftElement } from '../model/nft-element.ts'
import { ElementLedger } from '../plan/firewall/ledger.ts'
import { renderTables } from '../plan/firewall/tables.ts'

export class Firewall {
  readonly #nft: Nft
  readonly #ledger = new ElementLedger()

  constructor(nft: Nft) {
    this.#nft = nft
  }

  /** Declares tables, chains and rules; elements and flows that are there already stay. */
  ensureTables(): void {
    this.#nft.ensureTables(renderTables())
  }

  /** One atomic change: what an object wants from now on, and what one wants no longer. */
  change(wanted: readonly NftElement[], unwanted: readonly NftElement[] = []): void {
    const remove = this.#ledger.release(unwanted)
    const add = this.#ledger.take(wanted)
    if (add.length + remove.length === 0) return
    try {
      this.#nft.change({ add, remove })
    } catch (error) {
      // somebody flushed the ruleset a moment ago: all of it comes back, this change included
      if (hasCode(error, 'not-found') && this.isIntact() !== true) {
        this.ensureTables()
        this.sync()
        return
      }
      this.#ledger.release(wanted)
      this.#ledger.take(unwanted)
      throw error
    }
  }

  /** Notes what an object wants without touching the kernel; {@link sync} makes it so. */
  expect(wanted: readonly NftElement[]): void {
    this.#ledger.take(wanted)
  }

  /** Diffs against the kernel and writes only the difference. Returns how many elements were missing and how many were strangers. */
  sync(): { missing: number; strange: number } {
    const { add, remove } = diffElements(this.#nft.elements(), this.#ledger.elements())
    if (add.length + remove.length > 0) this.#nft.change({ add, remove })
    return { missing: add.length, strange: remove.length }
  }

  /** True, or what is wrong with tables, chains or rules. */
  isIntact(): true | string {
    return this.#nft.isIntact()
  }

  removeAll(): void {
    this.#nft.removeAll()
  }
}

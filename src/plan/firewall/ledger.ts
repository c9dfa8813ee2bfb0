/**
 * Counts how many objects want each element, so that taking one object away leaves what another still needs (8080 and 8081 of the
 * host may both lead to port 80 of a container, which then is open once). Pure bookkeeping: the caller hands the result to `Nft.change`.
 */
import { elementText, type NftElement } from '../../model/nft-element.ts'

export class ElementLedger {
  readonly #wanted = new Map<string, { element: NftElement; count: number }>()

  /** Notes that an object wants these. Returns the ones that nobody wanted before: add them. */
  take(elements: readonly NftElement[]): NftElement[] {
    const add: NftElement[] = []
    for (const element of elements) {
      const text = elementText(element)
      const known = this.#wanted.get(text)
      if (known !== undefined) known.count++
      else {
        this.#wanted.set(text, { element, count: 1 })
        add.push(element)
      }
    }
    return add
  }

  /** Notes that an object wants these no longer. Returns the ones that nobody wants now: remove them. */
  release(elements: readonly NftElement[]): NftElement[] {
    const remove: NftElement[] = []
    for (const element of elements) {
      const text = elementText(element)
      const known = this.#wanted.get(text)
      if (known === undefined || --known.count > 0) continue
      this.#wanted.delete(text)
      remove.push(element)
    }
    return remove
  }

  /** Everything that should be in the kernel now. */
  elements(): NftElement[] {
    return [...this.#wanted.values()].map((w) => w.element)
  }
}

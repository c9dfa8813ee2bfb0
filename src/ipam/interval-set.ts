/**
 * A set of whole numbers kept as sorted, disjoint, non-touching intervals. Addresses are handed out lowest first, so a network of any
 * size is a handful of intervals, and finding the lowest free one is a binary search: the same for a /29, a /8 and an IPv6 /64.
 */

export interface Interval {
  readonly first: bigint
  readonly last: bigint
}

export class IntervalSet {
  // two arrays instead of one of objects: a binary search touches only the starts
  readonly #starts: bigint[] = []
  readonly #ends: bigint[] = []

  has(n: bigint): boolean {
    const i = this.#at(n)
    return i >= 0 && (this.#ends[i] as bigint) >= n
  }

  /** Smallest member-free number >= `from`. */
  nextFree(from: bigint): bigint {
    const i = this.#at(from)
    if (i < 0) return from
    const end = this.#ends[i] as bigint
    return end < from ? from : end + 1n // the interval after it does not touch, so end + 1 is free
  }

  /** The lowest interval that shares a number with [first, last], as it is in the set (not clipped). */
  overlapping(first: bigint, last: bigint): Interval | undefined {
    let i = this.#at(first)
    if (i < 0 || (this.#ends[i] as bigint) < first) i++
    if (i >= this.#starts.length || (this.#starts[i] as bigint) > last) return undefined
    return { first: this.#starts[i] as bigint, last: this.#ends[i] as bigint }
  }

  /** How many members lie in [first, last]. */
  count(first: bigint, last: bigint): bigint {
    let total = 0n
    for (let i = Math.max(this.#at(first), 0); i < this.#starts.length; i++) {
      const from = max(this.#starts[i] as bigint, first)
      if (from > last) break
      const to = min(this.#ends[i] as bigint, last)
      if (to >= from) total += to - from + 1n
    }
    return total
  }

  /** Adds [first, last], whatever of it is there already. */
  add(first: bigint, last: bigint = first): void {
    let from = this.#at(first - 1n)
    if (from < 0 || (this.#ends[from] as bigint) < first - 1n) from++
    const to = this.#at(last + 1n) // last interval that overlaps or touches
    if (to < from) {
      this.#starts.splice(from, 0, first)
      this.#ends.splice(from, 0, last)
      return
    }
    const start = min(this.#starts[from] as bigint, first)
    const end = max(this.#ends[to] as bigint, last)
    this.#starts[from] = start
    this.#ends[from] = end
    this.#starts.splice(from + 1, to - from)
    this.#ends.splice(from + 1, to - from)
  }

  /** Removes [first, last], whatever of it is there. */
  remove(first: bigint, last: bigint = first): void {
    let from = this.#at(first)
    if (from < 0 || (this.#ends[from] as bigint) < first) from++
    const to = this.#at(last)
    if (to < from) return
    const start = this.#starts[from] as bigint
    const end = this.#ends[to] as bigint
    const keepStarts: bigint[] = []
    const keepEnds: bigint[] = []
    if (start < first) {
      keepStarts.push(start)
      keepEnds.push(first - 1n)
    }
    if (end > last) {
      keepStarts.push(last + 1n)
      keepEnds.push(end)
    }
    this.#starts.splice(from, to - from + 1, ...keepStarts)
    this.#ends.splice(from, to - from + 1, ...keepEnds)
  }

  /** All intervals in order. */
  intervals(): Interval[] {
    return this.#starts.map((first, i) => ({ first, last: this.#ends[i] as bigint }))
  }

  /** Index of the last interval that starts at or before `n`; -1 when there is none. */
  #at(n: bigint): number {
    let low = 0
    let high = this.#starts.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#starts[middle] as bigint) <= n) low = middle + 1
      else high = middle
    }
    return low - 1
  }
}

const min = (a: bigint, b: bigint) => (a < b ? a : b)
const max = (a: bigint, b: bigint) => (a > b ? a : b)

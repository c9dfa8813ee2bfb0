import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withSeeds } from '../../testkit/random.ts'
import { IntervalSet } from './interval-set.ts'

test('an interval set answers as a plain set of numbers does, in any order of changes', () => {
  withSeeds(30, (random) => {
    const set = new IntervalSet()
    const model = new Set<number>()
    const size = 60
    for (let step = 0; step < 400; step++) {
      const first = random.below(size)
      const last = Math.min(size - 1, first + (random.below(3) === 0 ? random.below(20) : 0))
      const add = random.below(2) === 0
      if (add) set.add(BigInt(first), BigInt(last))
      else set.remove(BigInt(first), BigInt(last))
      for (let n = first; n <= last; n++) {
        if (add) model.add(n)
        else model.delete(n)
      }
      const members: number[] = []
      for (let n = 0; n < size; n++) if (set.has(BigInt(n))) members.push(n)
      assert.deepEqual(
        members,
        [...model].sort((a, b) => a - b),
      )
      const from = random.below(size)
      let free = from
      while (model.has(free)) free++
      assert.equal(set.nextFree(BigInt(from)), BigInt(free))
      const to = from + random.below(30)
      assert.equal(set.count(BigInt(from), BigInt(to)), BigInt(members.filter((n) => n >= from && n <= to).length))
      const hit = members.find((n) => n >= from && n <= to)
      const overlap = set.overlapping(BigInt(from), BigInt(to))
      assert.equal(overlap !== undefined, hit !== undefined)
      if (overlap) assert.ok(overlap.first <= BigInt(hit as number) && overlap.last >= BigInt(hit as number))
      // sorted, disjoint, and never two that touch: that is what keeps the set small
      const intervals = set.intervals()
      for (const [i, { first: start, last: end }] of intervals.entries()) {
        assert.ok(start <= end)
        const before = intervals[i - 1]
        if (before) assert.ok(before.last + 1n < start)
      }
    }
  })
})

test('an interval set holds numbers beyond 64 bits', () => {
  const set = new IntervalSet()
  const top = 2n ** 128n - 1n
  set.add(top - 5n, top)
  set.add(0n)
  assert.equal(set.count(0n, top), 7n)
  assert.equal(set.nextFree(top - 3n), top + 1n)
})

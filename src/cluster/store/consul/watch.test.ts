import assert from 'node:assert/strict'
import { test } from 'node:test'
import { difference } from './watch.ts'

const entry = (key: string, index: number) => ({ key, value: `${key}@${index}`, version: `1.${index}` })
const known = (...entries: { key: string; version: string }[]) => new Map(entries.map(({ key, version }) => [key, version]))

test('difference: puts in the order of their index, deletes, and nothing for what stayed', () => {
  const found = difference(known(entry('a', 1), entry('b', 2), entry('c', 3)), [entry('a', 1), entry('c', 9), entry('d', 7)], false)
  assert.deepEqual(found.events, [
    { kind: 'delete', key: 'b' },
    { kind: 'put', ...entry('d', 7) },
    { kind: 'put', ...entry('c', 9) },
  ])
  assert.deepEqual([...found.known], [...known(entry('a', 1), entry('c', 9), entry('d', 7))])
  assert.equal(found.broken, false)
})

test('difference: an index that goes back alone is Consul forgetting old deletes, with older entries it is other data', () => {
  assert.equal(difference(known(entry('a', 5)), [entry('a', 5)], true).broken, false)
  assert.equal(difference(known(entry('a', 5)), [entry('a', 4)], false).broken, true)
  assert.equal(difference(known(entry('a', 5), entry('b', 6)), [entry('a', 5)], true).broken, true)
  assert.equal(difference(known(entry('a', 5), entry('b', 6)), [entry('a', 5)], false).broken, false)
})

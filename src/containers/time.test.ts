import assert from 'node:assert/strict'
import { test } from 'node:test'
import { byTime, rfc3339 } from './time.ts'

test('times are ordered as times, not as texts', () => {
  const moments = [0, 5, 10, 100, 120, 125, 500, 1000].map((ms) => Date.UTC(2026, 0, 1) + ms)
  const texts = moments.map(rfc3339)
  assert.notDeepEqual([...texts].sort(), texts, 'the texts alone would be wrong')
  assert.deepEqual([...texts].reverse().sort(byTime), texts)
})

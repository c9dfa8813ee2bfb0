import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ago, bytesSize, ellipsis, goTimeOf, humanDuration, humanSize, naturalCompare } from './human.ts'
import { indentJson } from './json-indent.ts'
import { alignTabs, formatTable } from './tabwriter.ts'

const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

test('durations read as in Docker, at every border', () => {
  const cases: readonly [number, string][] = [
    [-5, 'Less than a second'],
    [999, 'Less than a second'],
    [SECOND, '1 second'],
    [2 * SECOND, '2 seconds'],
    [59 * SECOND, '59 seconds'],
    [MINUTE, 'About a minute'],
    [2 * MINUTE - 1, 'About a minute'],
    [2 * MINUTE, '2 minutes'],
    [59 * MINUTE, '59 minutes'],
    [HOUR, 'About an hour'],
    [89 * MINUTE, 'About an hour'],
    [90 * MINUTE, '2 hours'],
    [47 * HOUR, '47 hours'],
    [2 * DAY, '2 days'],
    [13 * DAY, '13 days'],
    [14 * DAY, '2 weeks'],
    [59 * DAY, '8 weeks'],
    [60 * DAY, '2 months'],
    [729 * DAY, '24 months'],
    [730 * DAY, '2 years'],
  ]
  for (const [ms, text] of cases) assert.equal(humanDuration(ms), text, String(ms))
  assert.equal(ago(0, 3 * MINUTE), '3 minutes ago')
})

test('sizes read as in Docker', () => {
  assert.equal(humanSize(0), '0B')
  assert.equal(humanSize(999), '999B')
  assert.equal(humanSize(1000), '1kB')
  assert.equal(humanSize(1_984_321), '1.984MB')
  assert.equal(humanSize(1_984_321, 3), '1.98MB')
  assert.equal(humanSize(1390, 3), '1.39kB')
  assert.equal(bytesSize(25_276_000_000), '23.54GiB')
  assert.equal(bytesSize(327_680), '320KiB')
})

test('times of the engine keep their nanoseconds', () => {
  assert.equal(goTimeOf('2026-11-21T00:19:57.71825954Z'), '2026-11-21 00:19:57.71825954 +0000 UTC')
  assert.equal(goTimeOf('2026-11-21T00:19:57Z'), '2026-11-21 00:19:57 +0000 UTC')
  assert.equal(goTimeOf('2026-11-21T00:19:57.100+02:00'), '2026-11-21 00:19:57.1 +0200 +0200')
})

test('names sort as people count', () => {
  assert.deepEqual(['n10', 'n2', 'a', 'n1', 'N1', 'n02'].sort(naturalCompare), ['N1', 'a', 'n1', 'n2', 'n02', 'n10'])
})

test('an ellipsis counts as one column, and characters are not cut in two', () => {
  assert.equal(ellipsis('abcdef', 6), 'abcdef')
  assert.equal(ellipsis('abcdefg', 6), 'abcde…')
  assert.equal(ellipsis('🙂🙂🙂', 2), '🙂…')
})

test('table: columns are at least ten wide, three apart, and the last one is not padded', () => {
  assert.equal(
    formatTable(['NETWORK ID', 'NAME', 'X'], [['d04f856b67bf', 'bridge', 'a']]),
    'NETWORK ID     NAME      X\nd04f856b67bf   bridge    a',
  )
})

test('table: a line without a cell ends the column above and below it', () => {
  assert.equal(alignTabs('a\tb\nnone\nlongest cell\tb', { minWidth: 0, padding: 1 }), 'a b\nnone\nlongest cell b')
  assert.equal(alignTabs('a\tb\nlongest cell\tb', { minWidth: 0, padding: 1 }), 'a            b\nlongest cell b')
})

test('JSON is re-indented without touching numbers, strings or order', () => {
  const text = '{"b":12345678901234567890,"a":[],"c":{},"d":[1,{"x":"a,b:{\\"}"}],"e":1.0e5}'
  const expected = [
    '{',
    '    "b": 12345678901234567890,',
    '    "a": [],',
    '    "c": {},',
    '    "d": [',
    '        1,',
    '        {',
    '            "x": "a,b:{\\"}"',
    '        }',
    '    ],',
    '    "e": 1.0e5',
    '}',
  ]
  assert.equal(indentJson(text, '    '), expected.join('\n'))
})

test('JSON indentation agrees with the standard one on random values', () => {
  let seed = 3
  const next = (n: number) => {
    seed = (seed * 1103515245 + 12345) % 2147483648
    return seed % n
  }
  const value = (depth: number): unknown => {
    const kind = next(depth > 3 ? 3 : 5)
    if (kind === 0) return next(1000)
    if (kind === 1) return ['', 'a"b', '{', '\\', 'ü\n', ']'][next(6)]
    if (kind === 2) return [null, true, false][next(3)]
    if (kind === 3) return Array.from({ length: 1 + next(3) }, () => value(depth + 1))
    return Object.fromEntries(Array.from({ length: 1 + next(3) }, (_, i) => [`k${i}`, value(depth + 1)]))
  }
  for (let i = 0; i < 500; i++) {
    const v = value(0)
    assert.equal(indentJson(JSON.stringify(v), '  '), JSON.stringify(v, undefined, 2))
  }
})

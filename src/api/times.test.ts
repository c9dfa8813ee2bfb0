import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseDuration, parseTime, roughSpan, timeParam, unixSeconds } from './times.ts'

test('durations are read as Go writes them', () => {
  assert.equal(parseDuration('1h30m'), 5400)
  assert.equal(parseDuration('1.5s'), 1.5)
  assert.equal(parseDuration('250ms'), 0.25)
  assert.equal(parseDuration('-10s'), -10)
  for (const text of ['', '10', '1x', 'h', '1h 2m']) assert.equal(parseDuration(text), undefined, text)
})

test('times are unix, RFC 3339 or a duration before now', () => {
  assert.equal(parseTime('since', '1700000000.5', 0), 1_700_000_000.5)
  assert.equal(parseTime('since', '10m', 1_000_000), 400)
  assert.equal(parseTime('since', '2023-11-14T22:13:20Z', 0), 1_700_000_000)
  assert.equal(parseTime('since', '2023-11-14T23:13:20+01:00', 0), 1_700_000_000)
  assert.equal(parseTime('since', '2023-11-14T22:13:20', 0), 1_700_000_000)
  assert.equal(parseTime('since', '2023-11-14', 0), 1_699_920_000)
  assert.throws(() => parseTime('since', 'yesterday', 0), { code: 'invalid' })
})

test('an absent, empty or zero time is none', () => {
  for (const query of ['', 'since=', 'since=0']) assert.equal(timeParam(new URLSearchParams(query), 'since', 0), undefined)
})

test('the zero time is 0 seconds', () => {
  assert.equal(unixSeconds('0001-01-01T00:00:00Z'), 0)
  assert.equal(unixSeconds('1970-01-01T00:00:09.9Z'), 9)
})

test('spans read as docker ps prints them', () => {
  const spans: [number, string][] = [
    [0, 'Less than a second'],
    [1, '1 second'],
    [59, '59 seconds'],
    [60, 'About a minute'],
    [150, '2 minutes'],
    [3600, 'About an hour'],
    [7200, '2 hours'],
    [86_400 * 3, '3 days'],
    [86_400 * 21, '3 weeks'],
    [86_400 * 100, '3 months'],
    [86_400 * 365 * 3, '3 years'],
  ]
  for (const [seconds, text] of spans) assert.equal(roughSpan(seconds), text)
})

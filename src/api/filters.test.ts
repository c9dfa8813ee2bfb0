import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Filters, networkTypeMatches, safePattern } from './filters.ts'

const parse = (value: unknown, allowed = ['name', 'id', 'label', 'label!', 'dangling', 'type', 'until']): Filters =>
  Filters.parse(typeof value === 'string' ? value : JSON.stringify(value), allowed)

test('both encodings mean the same', () => {
  assert.deepEqual(parse({ name: { a: true, b: true } }).get('name'), ['a', 'b'])
  assert.deepEqual(parse({ name: ['a', 'b'] }).get('name'), ['a', 'b'])
  assert.equal(parse('').has('name'), false)
})

test('an unknown key is refused by name', () => {
  assert.throws(() => parse({ xxx: ['1'] }), { code: 'invalid', message: "invalid filter 'xxx'" })
})

test('garbage is refused', () => {
  for (const text of ['x', '[]', '1', 'null', '{"name":1}', '{"name":[1]}', '{"name":null}', '{']) {
    assert.throws(() => parse(text), { code: 'invalid', message: 'invalid filter' }, text)
  }
})

test('a name matches exactly or as an unanchored expression', () => {
  assert.equal(parse({ name: ['dge'] }).matches('name', 'bridge'), true)
  assert.equal(parse({ name: ['^dge'] }).matches('name', 'bridge'), false)
  assert.equal(parse({ name: ['^/?web$'] }).matches('name', 'web', '/web'), true)
  assert.equal(parse({ name: ['a[b'] }).matches('name', 'a[b'), true, 'an invalid expression still matches literally')
  assert.equal(parse({ name: ['a[b'] }).matches('name', 'a'), false)
})

test('every label is wanted, no absent one', () => {
  const labels = { a: '1', b: '' }
  assert.equal(parse({ label: ['a', 'b'] }).labels(labels), true)
  assert.equal(parse({ label: ['a=1'] }).labels(labels), true)
  assert.equal(parse({ label: ['a=2'] }).labels(labels), false)
  assert.equal(parse({ label: ['a', 'c'] }).labels(labels), false)
  assert.equal(parse({ 'label!': ['a'] }).labels(labels), false)
  assert.equal(parse({ 'label!': ['c'] }).labels(labels), true)
  assert.equal(parse({ label: ['toString'] }).labels(labels), false)
})

test('a boolean filter says what is wrong with it', () => {
  assert.equal(parse({ dangling: ['1'] }).bool('dangling'), true)
  assert.equal(parse({ dangling: ['false'] }).bool('dangling'), false)
  assert.throws(() => parse({ dangling: ['true', 'false'] }).bool('dangling'), {
    message: 'got more than one value for filter key "dangling"',
  })
  assert.throws(() => parse({ dangling: ['x'] }).bool('dangling'), {
    message: 'invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")',
  })
})

test('the type filter takes builtin, custom or both', () => {
  assert.equal(networkTypeMatches(parse({ type: ['builtin'] }), true), true)
  assert.equal(networkTypeMatches(parse({ type: ['custom'] }), true), false)
  assert.equal(networkTypeMatches(parse({ type: ['custom', 'builtin'] }), true), true)
  assert.throws(() => networkTypeMatches(parse({ type: ['x'] }), true), { code: 'internal', message: "invalid filter: 'type'='x'" })
})

test('until is one time or duration', () => {
  assert.equal(parse({ until: ['10s'] }).until(100_000), 90)
  assert.equal(parse({ until: ['1970-01-01T00:01:00Z'] }).until(0), 60)
  assert.throws(() => parse({ until: ['1s', '2s'] }).until(0), { message: 'more than one until filter specified' })
})

test('an expression that could run for exponential time never runs', () => {
  for (const text of ['(a+)+$', '(a|a)*$', '((a*)b)*', 'a*a*a*$', '(.*)\\1', '(?=a)']) assert.equal(safePattern(text), undefined, text)
  for (const text of ['^web_\\d+$', '(a|b)', '^/?proj[-_]web[-_]1$', '[(a+)+]', 'a.*b']) assert.notEqual(safePattern(text), undefined, text)
  const started = process.hrtime.bigint()
  parse({ name: ['(a+)+$', 'a+a+b'] }).matches('name', 'a'.repeat(250))
  assert.ok(process.hrtime.bigint() - started < 500_000_000n)
})

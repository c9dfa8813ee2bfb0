import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseJson } from './body.ts'
import { anyObject, bool, cidrText, int, ipText, list, mapOf, nullable, object, str, strMap, strOrList } from './decode.ts'

const shape = object({ Name: str, Internal: bool, Count: int, Tags: list(str), Options: strMap, Inner: object({ A: str }) })

test('known fields are typed, unknown ones dropped, null is unset', () => {
  assert.deepEqual(shape({ Name: 'n', Internal: null, Other: 1, Inner: { A: 'x', B: 2 } }, ''), { Name: 'n', Inner: { A: 'x' } })
})

test('a field is found in another capitalisation unless its exact spelling is there', () => {
  assert.deepEqual(shape({ name: 'low', COUNT: 3 }, ''), { Name: 'low', Count: 3 })
  assert.deepEqual(shape({ name: 'low', Name: 'exact' }, ''), { Name: 'exact' })
  assert.deepEqual(shape({ Name: 'exact', name: 'low' }, ''), { Name: 'exact' })
})

for (const [body, message] of [
  [{ Name: 1 }, 'invalid JSON: Name: expected a string, found number 1'],
  [{ Internal: 'yes' }, 'invalid JSON: Internal: expected a boolean, found a string'],
  [{ Count: 1.5 }, 'invalid JSON: Count: expected an integer, found number 1.5'],
  [{ Count: 1e300 }, 'invalid JSON: Count: expected an integer, found number 1e+300'],
  [{ Tags: ['a', {}] }, 'invalid JSON: Tags[1]: expected a string, found an object'],
  [{ Options: { a: [] } }, 'invalid JSON: Options.a: expected a string, found a list'],
  [{ Inner: 'x' }, 'invalid JSON: Inner: expected an object, found a string'],
  [[], 'invalid JSON: the body: expected an object, found a list'],
] as const) {
  test(`${JSON.stringify(body)} is refused with its place`, () => {
    assert.throws(() => shape(body, ''), { code: 'invalid', message })
  })
}

for (const [decode, text, problem] of [
  [ipText, 'bogus', 'ParseAddr("bogus"): unable to parse IP'],
  [ipText, '10.0.0.300', 'ParseAddr("10.0.0.300"): IPv4 field has value >255'],
  [ipText, '10.0.0.01', 'ParseAddr("10.0.0.01"): IPv4 field has octet with leading zero'],
  [ipText, '10.0.0', 'ParseAddr("10.0.0"): unable to parse IP'],
  [cidrText, '10.16.0.0/33', 'netip.ParsePrefix("10.16.0.0/33"): prefix length out of range'],
  [cidrText, 'fd00::/129', 'netip.ParsePrefix("fd00::/129"): prefix length out of range'],
  [cidrText, '10.16.0.0', `netip.ParsePrefix("10.16.0.0"): no '/'`],
  [cidrText, '10.16.0.0/08', 'netip.ParsePrefix("10.16.0.0/08"): bad bits after slash: "08"'],
  [cidrText, 'any/8', 'netip.ParsePrefix("any/8"): ParseAddr("any"): unable to parse IP'],
] as const) {
  test(`the address text ${text} is refused in Go's words`, () => {
    assert.throws(() => decode(text, 'X'), { code: 'invalid', message: `invalid JSON: ${problem}` })
  })
}

test('addresses and subnets pass as they were written, nothing included', () => {
  for (const text of ['', '10.0.0.1', 'FD00::1']) assert.equal(ipText(text, ''), text)
  for (const text of ['', '10.0.0.1/8', '0.0.0.0/24', 'fd00::/64']) assert.equal(cidrText(text, ''), text)
})

test('a key __proto__ stays a key and changes no prototype', () => {
  const map = strMap(JSON.parse('{"__proto__":"x"}'), '')
  assert.deepEqual(Object.keys(map), ['__proto__'])
  assert.equal(Object.getPrototypeOf(map), Object.prototype)
  const kept = object({}, 'keep')(JSON.parse('{"__proto__":{"polluted":1},"a":1}'), '') as Record<string, unknown>
  assert.equal(kept['polluted'], undefined)
  assert.equal(kept['a'], 1)
})

test('kept values may not be nested without end', () => {
  const deep = JSON.parse(`${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`) as unknown
  assert.throws(() => object({}, 'keep')({ x: deep }, ''), { code: 'invalid' })
  assert.throws(() => anyObject(deep, 'x'), { code: 'invalid' })
})

test('a command is a string or a list, a binding list may be null', () => {
  assert.deepEqual(strOrList('sh', ''), ['sh'])
  assert.deepEqual(strOrList(['sh', '-c'], ''), ['sh', '-c'])
  assert.deepEqual(mapOf(nullable(list(str)))({ a: null, b: ['x'] }, ''), { a: null, b: ['x'] })
})

test('JSON errors use the documented sentences', () => {
  for (const [text, message] of [
    ['{', 'invalid JSON: unexpected EOF'],
    ['{"a":"b', 'invalid JSON: unexpected EOF'],
    ['{"a":', 'invalid JSON: unexpected EOF'],
    ['{} {}', 'unexpected content after JSON'],
    ['{}x', 'unexpected content after JSON'],
  ] as const) {
    assert.throws(() => parseJson(text), { code: 'invalid', message }, text)
  }
  assert.throws(() => parseJson('xyz'), { message: /^invalid JSON: invalid character 'x'/ })
  assert.throws(() => parseJson('{"a":y}'), { message: /^invalid JSON: invalid character 'y'/ })
})

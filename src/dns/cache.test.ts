import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type DnsRecord, decodeMessage, encodeMessage, encodeName, FLAG, optRecord, TYPE } from '../wire/dns.ts'
import { findOpt, indexMessage, type MessageIndex } from '../wire/dns-scan.ts'
import { answerLimit, prepareAnswer, writeError, writeForwarded, writeLocal } from './answers.ts'
import { DnsCache, lifetimeOf } from './cache.ts'

const a = (ttl: number, last = 1): DnsRecord => ({ name: 'x.example', type: TYPE.A, class: 1, ttl, data: Uint8Array.of(192, 0, 2, last) })
const soa = (ttl: number, minimum: number): DnsRecord => {
  const tail = Buffer.alloc(20)
  tail.writeUInt32BE(minimum, 16)
  return {
    name: 'example',
    type: TYPE.SOA,
    class: 1,
    ttl,
    data: Uint8Array.of(...encodeName('ns.example'), ...encodeName('root.example'), ...tail),
  }
}
function response(parts: { rcode?: number; flags?: number; answers?: DnsRecord[]; authorities?: DnsRecord[]; additionals?: DnsRecord[] }) {
  const bytes = encodeMessage({
    id: 77,
    flags: FLAG.QR | FLAG.RD | FLAG.AA | (parts.flags ?? 0),
    opcode: 0,
    rcode: parts.rcode ?? 0,
    questions: [{ name: 'x.example', type: TYPE.A, class: 1 }],
    answers: parts.answers ?? [],
    authorities: parts.authorities ?? [],
    additionals: parts.additionals ?? [],
  })
  return { bytes, index: indexMessage(bytes) as MessageIndex }
}
const query = (additionals: DnsRecord[] = []) => {
  const bytes = encodeMessage({
    id: 4242,
    flags: FLAG.RD,
    opcode: 0,
    rcode: 0,
    questions: [{ name: 'X.eXample', type: TYPE.A, class: 1 }],
    answers: [],
    authorities: [],
    additionals,
  })
  const buffer = Buffer.alloc(65_535)
  buffer.set(bytes)
  return { buffer, end: 12 + 11 + 4, opt: findOpt(bytes, 27, bytes.length) ?? undefined }
}

test('answers live as long as their shortest record, negative ones as long as the SOA allows', () => {
  const cases: readonly [ReturnType<typeof response>, number, string][] = [
    [response({ answers: [a(300), a(60)] }), 60, 'shortest'],
    [response({ answers: [a(0)] }), 0, 'zero means: not at all'],
    [response({ answers: [a(2 ** 31)] }), 0, 'the top bit set counts as zero'],
    [response({ answers: [a(10 ** 7)] }), 86_400, 'a day at most'],
    [response({ rcode: 3, authorities: [soa(600, 30)] }), 30, 'NXDOMAIN: the minimum'],
    [response({ rcode: 3, authorities: [soa(20, 30)] }), 20, 'NXDOMAIN: the TTL of the SOA'],
    [response({ rcode: 0, authorities: [soa(3600, 7200)] }), 900, 'NODATA: 15 minutes at most'],
    [response({ rcode: 3 }), 0, 'no SOA: not at all'],
    [response({ rcode: 2 }), 0, 'SERVFAIL'],
    [response({ answers: [a(60)], flags: FLAG.TC }), 0, 'truncated'],
  ]
  for (const [{ index }, seconds, why] of cases) assert.equal(lifetimeOf(index), seconds, why)
})

test('an entry is found until it expires', () => {
  const cache = new DnsCache(10_000)
  const { bytes, index } = response({ answers: [a(10)] })
  cache.put('k', bytes, index, 1000)
  assert.equal(cache.get('k', 10_999)?.message, bytes)
  assert.equal(cache.get('k', 11_000), undefined)
  assert.equal(cache.size, 0)
  assert.equal(cache.bytes, 0)
})

test('when it is full, what was not used for longest goes first', () => {
  const cache = new DnsCache(2000)
  const { bytes, index } = response({ answers: [a(600)] })
  cache.put('a', bytes, index, 0)
  cache.put('b', bytes, index, 0)
  cache.put('c', bytes, index, 0)
  assert.ok(cache.get('a', 5000))
  cache.put('d', bytes, index, 5000)
  cache.put('e', bytes, index, 5000)
  assert.ok(cache.bytes <= 2000)
  assert.ok(cache.get('a', 5000), 'used lately')
  assert.equal(cache.get('b', 5000), undefined)
})

test('a forwarded answer gets the client’s id and spelling, and its time to live goes down', () => {
  const { bytes, index } = response({ answers: [a(300)], authorities: [soa(100, 5)], additionals: [optRecord(1232)] })
  const { buffer, opt } = query([optRecord(4096)])
  const length = writeForwarded(buffer, bytes, index, 120, answerLimit(false, opt), opt)
  const got = decodeMessage(buffer.subarray(0, length))
  assert.equal(got.id, 4242)
  assert.equal(got.questions[0]?.name, 'X.eXample')
  assert.equal(got.answers[0]?.name, 'X.eXample', 'the owner points to the question')
  assert.equal(got.answers[0]?.ttl, 180)
  assert.equal(got.authorities[0]?.ttl, 0)
  assert.equal(got.additionals[0]?.ttl, 0, 'the fields of OPT are no time to live')
  assert.equal(got.flags & (FLAG.AA | FLAG.RA | FLAG.QR | FLAG.RD), FLAG.RA | FLAG.QR | FLAG.RD, 'from the cache it is not authoritative')
  assert.equal(bytes[7], 1, 'the cached message is not touched')
})

test('an answer that is too long for the client is cut between records and says so', () => {
  const answers = Array.from({ length: 100 }, (_, i) => a(60, i))
  const { bytes, index } = response({ answers, authorities: [soa(1, 1)] })
  for (const [additionals, limit] of [
    [[], 512],
    [[optRecord(900)], 900],
    [[optRecord(100)], 512],
  ] as [DnsRecord[], number][]) {
    const { buffer, opt } = query(additionals)
    const length = writeForwarded(buffer, bytes, index, 0, answerLimit(false, opt), opt)
    assert.ok(length <= limit && length > limit - 32, `${length} of ${limit}`)
    const got = decodeMessage(buffer.subarray(0, length))
    assert.ok((got.flags & FLAG.TC) !== 0)
    assert.equal(got.authorities.length, 0)
    assert.equal(got.additionals.length, additionals.length)
    assert.deepEqual(
      got.answers.map((r) => r.data[3]),
      answers.slice(0, got.answers.length).map((r) => r.data[3]),
    )
  }
  const { buffer } = query()
  assert.equal(writeForwarded(buffer, bytes, index, 0, answerLimit(true, undefined), undefined), bytes.length, 'TCP takes all of it')
})

test('a local answer is a real message: flags, spelling, TTL 600, every order of several addresses', () => {
  const addresses = ['10.0.0.1', '10.0.0.2', '10.0.0.3'] as never[]
  const prepared = prepareAnswer({ kind: 'addresses', family: 4, addresses })
  assert.ok(prepared)
  let state = 1
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0)
  const orders = new Map<string, number>()
  for (let i = 0; i < 600; i++) {
    const { buffer, end, opt } = query()
    const got = decodeMessage(buffer.subarray(0, writeLocal(buffer, end, prepared, 512, opt, random)))
    assert.equal(got.flags, FLAG.QR | FLAG.RD | FLAG.RA)
    assert.equal(got.answers[0]?.name, 'X.eXample')
    assert.equal(got.answers[0]?.ttl, 600)
    const order = got.answers.map((r) => r.data[3]).join()
    orders.set(order, (orders.get(order) ?? 0) + 1)
  }
  assert.equal(orders.size, 6)
  for (const [order, count] of orders) assert.ok(count > 60, `${order}: ${count} of 600`)
})

test('a local answer with more addresses than fit is cut and says so', () => {
  const addresses = Array.from({ length: 200 }, (_, i) => `10.0.0.${i}`) as never[]
  const prepared = prepareAnswer({ kind: 'addresses', family: 4, addresses })
  assert.ok(prepared)
  const { buffer, end, opt } = query([optRecord(1232)])
  const length = writeLocal(buffer, end, prepared, answerLimit(false, opt), opt, () => 5)
  const got = decodeMessage(buffer.subarray(0, length))
  assert.ok(length <= 1232 && (got.flags & FLAG.TC) !== 0 && got.answers.length === 74, `${length} bytes, ${got.answers.length} answers`)
  assert.equal(new Set(got.answers.map((r) => r.data[3])).size, 74, 'none twice')
})

test('SERVFAIL has the flags of Docker’s', () => {
  const { buffer, end } = query()
  const length = writeError(buffer, end, 2, undefined)
  assert.equal(buffer.readUInt16BE(2), 0x8102)
  assert.equal(length, end)
})

test('a PTR whose network name is no DNS name is left to upstreams', () => {
  assert.equal(prepareAnswer({ kind: 'ptr', target: `c1.${'n'.repeat(64)}` }), undefined)
})

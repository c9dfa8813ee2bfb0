import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seeded } from '../../testkit/random.ts'
import { hasCode } from '../base/errors.ts'
import {
  CLASS_IN,
  type DnsMessage,
  type DnsRecord,
  decodeMessage,
  decodeName,
  encodeMessage,
  encodeName,
  FLAG,
  optRecord,
  TYPE,
} from './dns.ts'
import { findOpt, indexMessage, questionEnd, sameQuestion, skipName } from './dns-scan.ts'

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(/\s/g, ''), 'hex'))

/** `dig @9.9.9.9 www.debian.org A` laid out by hand: compressed owner names, a CNAME, an OPT. */
const CAPTURED = bytes(`
  1a2b 8180 0001 0002 0000 0001
  03777777 0664656269616e 036f7267 00 0001 0001
  c00c 0005 0001 0000012c 0009 06737461746963 c010
  c02c 0001 0001 0000003c 0004 97650084
  00 0029 04d0 00000000 0000`)

test('an answer with compressed names is decoded', () => {
  const message = decodeMessage(CAPTURED)
  assert.equal(message.id, 0x1a2b)
  assert.equal(message.flags, FLAG.QR | FLAG.RD | FLAG.RA)
  assert.deepEqual(message.questions, [{ name: 'www.debian.org', type: TYPE.A, class: CLASS_IN }])
  assert.deepEqual(
    message.answers.map((r) => [r.name, r.type, r.ttl]),
    [
      ['www.debian.org', TYPE.CNAME, 300],
      ['static.debian.org', TYPE.A, 60],
    ],
  )
  assert.deepEqual([...(message.answers[1]?.data ?? [])], [151, 101, 0, 132])
  assert.equal(decodeName(message.answers[0]?.data as Uint8Array, 0).name, 'static.debian.org')
  assert.equal(message.additionals[0]?.class, 1232)
})

test('a decoded answer is encoded to the same bytes', () => {
  assert.deepEqual(encodeMessage(decodeMessage(CAPTURED)), CAPTURED)
})

test('a decoded message does not change with the buffer that it was read from', () => {
  const buffer = Buffer.from(CAPTURED)
  const message = decodeMessage(buffer)
  buffer.fill(0)
  assert.deepEqual(message, decodeMessage(CAPTURED))
})

test('names are written once and pointed to afterwards', () => {
  const record = (name: string): DnsRecord => ({ name, type: TYPE.A, class: 1, ttl: 1, data: Uint8Array.of(1, 2, 3, 4) })
  const answers = Array.from({ length: 20 }, (_, i) => record(`h${i}.a-long-domain-name.example.org`))
  const message: DnsMessage = { id: 1, flags: 0, opcode: 0, rcode: 0, questions: [], answers, authorities: [], additionals: [] }
  const encoded = encodeMessage(message)
  assert.ok(encoded.length < 12 + 50 + 20 * 22, `${encoded.length} bytes`)
  assert.deepEqual(decodeMessage(encoded).answers, answers)
})

test('a name that points at itself, forwards or in a circle is refused', () => {
  const tail = '0001 0001'
  for (const name of ['c00c', 'c00e', '0161c00c', 'c020', '0161c00e', 'ffff']) {
    const message = bytes(`0001 0100 0001 0000 0000 0000 ${name} ${tail}`)
    assert.throws(
      () => decodeMessage(message),
      (error) => hasCode(error, 'invalid'),
      name,
    )
  }
  // two pointers that point at each other
  const pair = bytes('0001 0100 0002 0000 0000 0000 c012 0001 0001 c00c 0001 0001')
  assert.throws(
    () => decodeMessage(pair),
    (error) => hasCode(error, 'invalid'),
  )
})

test('a message cut at any byte is refused, and never read past its end', () => {
  for (let length = 0; length < CAPTURED.length; length++) {
    const cut = CAPTURED.slice(0, length)
    assert.throws(
      () => decodeMessage(cut),
      (error) => hasCode(error, 'invalid'),
      `cut at ${length}`,
    )
    assert.equal(indexMessage(cut), undefined, `index cut at ${length}`)
  }
})

test('random messages survive a round trip', () => {
  const { below } = seeded(7)
  const int = (from: number, to: number): number => from + below(to - from + 1)
  const name = (): string => Array.from({ length: int(0, 5) }, () => label()).join('.')
  const label = (): string => {
    const raw = Uint8Array.from({ length: int(1, 12) }, () => int(0, 255))
    return decodeName(Uint8Array.of(raw.length, ...raw, 0), 0).name
  }
  const data = (type: number): Uint8Array => {
    if (type === TYPE.CNAME || type === TYPE.PTR || type === TYPE.NS) return encodeName(name())
    if (type === TYPE.MX) return Uint8Array.of(0, 10, ...encodeName(name()))
    if (type === TYPE.SOA) return Uint8Array.of(...encodeName(name()), ...encodeName(name()), ...new Uint8Array(20))
    return Uint8Array.from({ length: int(0, 40) }, () => int(0, 255))
  }
  const record = (): DnsRecord => {
    const type = [TYPE.A, TYPE.CNAME, TYPE.PTR, TYPE.NS, TYPE.MX, TYPE.SOA, TYPE.TXT, TYPE.SRV, 999][int(0, 8)] as number
    return { name: name(), type, class: 1, ttl: int(0, 2 ** 31), data: data(type) }
  }
  const records = () => Array.from({ length: int(0, 6) }, record)
  for (let i = 0; i < 500; i++) {
    const message: DnsMessage = {
      id: int(0, 65535),
      flags: FLAG.QR | FLAG.AD,
      opcode: int(0, 15),
      rcode: int(0, 15),
      questions: [{ name: name(), type: int(0, 65535), class: 1 }],
      answers: records(),
      authorities: records(),
      additionals: [...records(), optRecord(1232, true)],
    }
    const encoded = encodeMessage(message)
    assert.deepEqual(decodeMessage(encoded), message)
    const index = indexMessage(encoded)
    assert.equal(index?.end, encoded.length)
    assert.equal(index.answerEnds.length, message.answers.length)
    assert.equal(index.ttls.length, message.answers.length + message.authorities.length + message.additionals.length - 1)
  }
})

test('random bytes are decoded or refused, never anything else', () => {
  const { below } = seeded(11)
  const int = (from: number, to: number): number => from + below(to - from + 1)
  for (let i = 0; i < 4000; i++) {
    const noise = i % 2 === 0 ? CAPTURED.slice() : Uint8Array.from({ length: int(0, 80) }, () => int(0, 255))
    for (let n = 0; i % 2 === 0 && n < 3; n++) noise[int(0, noise.length - 1)] = int(0, 255)
    indexMessage(noise)
    if (noise.length >= 12) findOpt(noise, 12, noise.length)
    try {
      decodeMessage(noise)
    } catch (error) {
      assert.ok(hasCode(error, 'invalid'), String(error))
    }
  }
})

test('labels and names longer than the protocol allows are refused', () => {
  assert.throws(
    () => encodeName(`${'a'.repeat(64)}.b`),
    (error) => hasCode(error, 'invalid'),
  )
  assert.throws(
    () => encodeName(Array.from({ length: 5 }, () => 'a'.repeat(60)).join('.')),
    (error) => hasCode(error, 'invalid'),
  )
  assert.throws(
    () => encodeName('a..b'),
    (error) => hasCode(error, 'invalid'),
  )
  assert.deepEqual([...encodeName('')], [0])
  assert.equal(encodeName('a'.repeat(63)).length, 65)
})

test('a question is found in place, and compared without case but with its type', () => {
  const end = questionEnd(CAPTURED, CAPTURED.length)
  assert.equal(end, 12 + 16 + 4)
  const other = CAPTURED.slice()
  other[13] = 0x57
  assert.ok(sameQuestion(CAPTURED, other, end))
  other[end - 3] = TYPE.AAAA
  assert.ok(!sameQuestion(CAPTURED, other, end))
  assert.equal(questionEnd(CAPTURED, end - 1), -1)
  assert.equal(questionEnd(bytes('0001 0100 0001 0000 0000 0000 c00c 0001 0001'), 18), -1)
  assert.equal(skipName(CAPTURED, end, CAPTURED.length), end + 2)
})

test('the OPT record of a query tells size, version and the DO bit', () => {
  const query = encodeMessage({
    id: 1,
    flags: FLAG.RD,
    opcode: 0,
    rcode: 0,
    questions: [{ name: 'a', type: 1, class: 1 }],
    answers: [],
    authorities: [],
    additionals: [optRecord(4096, true)],
  })
  const end = questionEnd(query, query.length)
  assert.deepEqual(findOpt(query, end, query.length), { udpSize: 4096, version: 0, dnssecOk: true })
  for (let cut = end; cut < query.length; cut++) assert.equal(findOpt(query, end, cut), null)
  const two = Uint8Array.of(...query, ...query.slice(end))
  two[11] = 2
  assert.equal(findOpt(two, end, two.length), null, 'two OPT records are a format error')
})

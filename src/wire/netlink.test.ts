import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as captured from '../../testkit/captured-netlink.ts'
import { seeded } from '../../testkit/random.ts'
import { NetError } from '../base/errors.ts'
import {
  type Attr,
  AttrReader,
  decodeAck,
  decodeAttrs,
  MessageWriter,
  type NetlinkMessage,
  NLA_F_NESTED,
  NLMSG_DONE,
  NLMSG_ERROR,
  splitMessages,
} from './netlink.ts'

function only(bytes: Uint8Array): NetlinkMessage {
  const messages = splitMessages(bytes)
  assert.equal(messages.length, 1)
  return messages[0] as NetlinkMessage
}

/** Runs `read` on every prefix of `bytes`: it may succeed or throw NetError, nothing else. */
function survivesTruncation(bytes: Uint8Array, read: (bytes: Uint8Array) => unknown): void {
  for (let length = 0; length < bytes.length; length++) {
    try {
      read(bytes.slice(0, length))
    } catch (error) {
      assert.ok(error instanceof NetError, `${length} bytes: ${error}`)
    }
  }
}

test('an acknowledgement of success has no errno and no text', () => {
  const message = only(captured.ACK_SUCCESS)
  assert.equal(message.type, NLMSG_ERROR)
  assert.equal(message.seq, 77)
  assert.deepEqual(decodeAck(message), { errno: 0, text: '' })
})

test('a refusal carries errno and the sentence of the kernel', () => {
  assert.deepEqual(decodeAck(only(captured.ACK_REFUSAL)), { errno: 17, text: 'ipv4: Address already assigned' })
  assert.deepEqual(decodeAck(only(captured.ACK_REFUSAL_KIND)), { errno: 95, text: 'Unknown device type' })
})

test('a refusal names the offset of the attribute that was wrong', () => {
  const ack = decodeAck(only(captured.ACK_REFUSAL_OFFSET))
  assert.equal(ack.errno, 34)
  assert.equal(ack.text, 'Attribute failed policy validation')
  assert.equal(ack.offset, 40) // header, ifinfomsg, IFLA_IFNAME
})

test('a refusal that repeats the whole request is read past it', () => {
  const w = new MessageWriter()
  w.begin(NLMSG_ERROR, 0x200, 5) // ACK_TLVS without CAPPED
  w.u32(-17 >>> 0)
  w.u32(24) // the repeated request: header and 8 bytes
  w.u32(0)
  w.u32(0)
  w.u32(0)
  w.u32(1)
  w.u32(2)
  w.attrText(1, 'because')
  w.end()
  assert.deepEqual(decodeAck(only(w.bytes())), { errno: 17, text: 'because' })
})

test('the end of a dump carries an errno of its own', () => {
  const w = new MessageWriter()
  w.begin(NLMSG_DONE, 0x202)
  w.u32(-22 >>> 0)
  w.attrText(1, 'Invalid header')
  w.end()
  assert.deepEqual(decodeAck(only(w.bytes())), { errno: 22, text: 'Invalid header' })
})

test('several messages of one receive are cut apart, with their padding', () => {
  const w = new MessageWriter()
  for (const seq of [1, 2, 3]) {
    w.begin(16, 1, seq)
    w.u8(seq)
    w.end()
  }
  const messages = splitMessages(w.bytes())
  assert.deepEqual(
    messages.map((m) => [m.seq, ...m.payload]),
    [
      [1, 1],
      [2, 2],
      [3, 3],
    ],
  )
})

test('lengths that lie end in NetError, never in a loop', () => {
  const cases: [string, (bytes: Uint8Array) => unknown, number[]][] = [
    ['message of length 0', splitMessages, [0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
    ['message longer than the buffer', splitMessages, [200, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
    ['attribute of length 0', decodeAttrs, [0, 0, 1, 0]],
    ['attribute of length 3', decodeAttrs, [3, 0, 1, 0]],
    ['attribute longer than its level', decodeAttrs, [9, 0, 1, 0, 1, 2, 3, 4]],
  ]
  for (const [what, read, bytes] of cases) assert.throws(() => read(Uint8Array.from(bytes)), NetError, what)
})

test('a number shorter than its type is refused', () => {
  const r = new AttrReader(Uint8Array.from([6, 0, 1, 0, 7, 0, 0, 0]))
  assert.equal(r.next(), true)
  assert.equal(r.u16(), 7)
  assert.throws(() => r.u32(), NetError)
  assert.throws(() => r.u64(), NetError)
  assert.throws(() => r.nested(4), NetError)
})

test('acknowledgements cut off at any byte are refused', () => {
  for (const bytes of [captured.ACK_SUCCESS, captured.ACK_REFUSAL, captured.ACK_REFUSAL_OFFSET])
    survivesTruncation(bytes, (part) => splitMessages(part).map(decodeAck))
  const { payload, ...rest } = only(captured.ACK_REFUSAL_OFFSET)
  survivesTruncation(payload, (part) => decodeAck({ ...rest, payload: part }))
})

test('random trees of attributes survive writing, reading and writing again byte for byte', () => {
  const random = seeded(20_260_101)
  const tree = (depth: number): Attr[] =>
    Array.from({ length: random.below(6) }, () => {
      const nested = depth > 0 && random.below(3) === 0
      const type = 1 + random.below(200)
      if (!nested) return { type, flags: 0, data: Uint8Array.from({ length: random.below(20) }, () => random.below(256)) }
      const w = new MessageWriter(8) // grows while it is written
      w.attrs(tree(depth - 1))
      return { type, flags: NLA_F_NESTED, data: w.bytes().slice() }
    })
  for (let i = 0; i < 300; i++) {
    const attrs = tree(3)
    const w = new MessageWriter(16)
    w.attrs(attrs)
    const bytes = w.bytes().slice()
    const read = decodeAttrs(bytes)
    assert.deepEqual(read, attrs, `seed ${random.seed}, round ${i}`)
    w.reset()
    w.attrs(read)
    assert.deepEqual(w.bytes(), bytes)
    survivesTruncation(bytes, decodeAttrs)
  }
})

test('a writer that is used again leaves nothing of the last message in the padding', () => {
  const w = new MessageWriter()
  w.attrBytes(1, new Uint8Array(40).fill(0xff))
  w.reset()
  w.attrBytes(1, Uint8Array.from([1]))
  assert.deepEqual([...w.bytes()], [5, 0, 1, 0, 1, 0, 0, 0])
})

test('an attribute that cannot hold its value is refused instead of cut', () => {
  const w = new MessageWriter()
  assert.throws(() => w.attrBytes(1, new Uint8Array(70_000)), NetError)
  const nest = w.openNest(1)
  for (let i = 0; i < 20; i++) w.attrBytes(2, new Uint8Array(4000))
  assert.throws(() => w.closeNest(nest), NetError)
})

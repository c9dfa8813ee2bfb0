/** Bytes captured from Linux 6.18, payload of each message after the netlink header; the nft commands that made them stand beside. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readFlow, readFlowCount } from './ctnetlink.ts'
import { MessageWriter, type NetlinkMessage, splitMessages } from './netlink.ts'
import { beginBatch, endBatch, readElements, type SetElement, writeElements } from './nfnetlink.ts'
import { equals, load, loadHeader, loadL4Proto, readTableComment, storeHeader, writeBaseChain, writeRule } from './nft-expressions.ts'
import { readChain, readGeneration, readRule, readSet } from './nft-objects.ts'
import { readSocket } from './sockdiag.ts'

const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'))
const message = (payload: Uint8Array): NetlinkMessage => ({ type: 0, flags: 0, seq: 0, pid: 0, payload })

// map m { type inet_proto . inet_service : ipv4_addr . inet_service; elements = { tcp . 8080 comment "web" : 172.17.0.2 . 80 }; }
const MAP =
  '010000020d000100636175736577617900000000060002006d0000003400030030000100100001000c000100060000001f900000100002000c000100ac110002005000000a0006000004776562000000'
// map v { type ifname : verdict; elements = { "br-1" : goto pass, "br-2" : drop }; }
const VERDICTS =
  '010000020d0001006361757365776179000000000600020076000000680003002c000100180001001400010062722d32000000000000000000000000100002000c000200080001000000000038000100180001001400010062722d310000000000000000000000001c0002001800020008000100fffffffc090002007061737300000000'
// set r { type ipv4_addr . inet_proto . inet_service; flags interval; elements = { 10.0.0.2 . udp . 1000-1999 }; }
const RANGE =
  '010000020d000100636175736577617900000000060002007200000030000300' +
  '2c00010014000100100001000a0000021100000003e8000014000a00100001000a0000021100000007cf0000'
// chain forward { type filter hook forward priority -1; policy accept; iifname vmap @v; }
const CHAIN =
  '010000020d0001006361757365776179000000000c000300666f7277617264000c000200000000000000000214000400080001000000000208000200ffffffff08000500000000010b00070066696c746572000008000a00000000010800060000000001'
const RULE =
  '010000020d0001006361757365776179000000000c000200666f7277617264000c00030000000000000000065c00040024000100090001006d657461000000001400020008000200000000060800010000000001340001000b0001006c6f6f6b75700000240002000600010076000000080002000000000108000300000000000800050000000000'
const SET =
  '010000020d00010063617573657761790000000006000200720000000c00100000000000000000050800030000000084080004000000730d080005000000000c'
const GENERATION = '0000000208000100000000020800020000007b53090003006e6f646500000000'
// conntrack -I -p udp -s 198.51.100.7 -d 192.0.2.1 --sport 1000 --dport 53 -r 172.17.0.2 -q 198.51.100.7 --reply-port-src 5353 --reply-port-dst 1000 -t 100
const FLOW =
  '02000000340001801400018008000100c633640708000200c00002011c00028005000100110000000600020003e800000600030000350000340002801400018008000100ac11000208000200c63364071c00028005000100110000000600020014e900000600030003e800000800030000000008080008000000000008000c00cb4a311908000b000000000108000700000000631c001880080001000000000008000200000000000800030000000000'
// nc -l -p 8080 -s 127.0.0.1
const SOCKET =
  '020a00001f9000007f00000100000000000000000000000000000000000000000000000000000000000000001c00000000000000000000000000000001000000000000009fc00700050008000000000008000f00000000000c00150001000000000000000600160052000000'

const key = (text: string): Uint8Array => bytes(text)

test('nfnetlink: elements of a data map, a verdict map and an interval set are read as nft made them', () => {
  assert.deepEqual(readElements(message(bytes(MAP))), [{ key: key('060000001f900000'), data: key('ac11000200500000'), comment: 'web' }])
  assert.deepEqual(readElements(message(bytes(VERDICTS))), [
    { key: key('62722d32000000000000000000000000'), verdict: 'drop' },
    { key: key('62722d31000000000000000000000000'), verdict: { goto: 'pass' } },
  ])
  assert.deepEqual(readElements(message(bytes(RANGE))), [{ key: key('0a0000021100000003e80000'), keyEnd: key('0a0000021100000007cf0000') }])
})

test('nfnetlink: elements survive being written and read, in as many messages as they need', () => {
  const elements: SetElement[] = Array.from({ length: 3000 }, (_, i) => ({
    key: Uint8Array.of(i >> 8, i & 255, 0, 0),
    ...(i % 3 === 0
      ? { verdict: { jump: `chain${i}` } }
      : i % 3 === 1
        ? { verdict: 'accept' as const }
        : { data: Uint8Array.of(1, 2, 3, 4) }),
    ...(i % 2 === 0 ? { comment: `number ${i} ü` } : {}),
  }))
  const w = new MessageWriter(64)
  let messages = 0
  for (let at = 0; at < elements.length; messages++)
    at = writeElements(w, 'new', { family: 'inet', table: 'causeway', set: 's' }, elements, at, elements.length, 1, false)
  assert.ok(messages > 1)
  const read = splitMessages(w.bytes().slice())
  assert.equal(read.length, messages)
  assert.deepEqual(read.flatMap(readElements), elements)
})

test('nfnetlink: a comment that is too long is cut, not refused', () => {
  const w = new MessageWriter()
  writeElements(
    w,
    'new',
    { family: 'inet', table: 't', set: 's' },
    [{ key: Uint8Array.of(1, 2, 3, 4), comment: 'x'.repeat(1000) }],
    0,
    1,
    1,
    false,
  )
  const [element] = splitMessages(w.bytes().slice()).flatMap(readElements)
  assert.equal(element?.comment, 'x'.repeat(252))
})

test('nfnetlink: a batch begins and ends with the messages that mark a transaction', () => {
  const w = new MessageWriter()
  beginBatch(w, 1)
  endBatch(w, 2)
  assert.equal(
    Buffer.from(w.bytes()).toString('hex'),
    '14000000100001000100000000000000' + '0000000a' + '14000000110001000200000000000000' + '0000000a',
  )
})

test('nft objects: chain, rule, set and generation are read', () => {
  assert.deepEqual(readChain(message(bytes(CHAIN))), { table: 'causeway', name: 'forward', hook: '2 -1 1' })
  assert.deepEqual(readRule(message(bytes(RULE))), { table: 'causeway', chain: 'forward', handle: 6 })
  assert.deepEqual(readSet(message(bytes(SET))), { table: 'causeway', name: 'r', flags: 0x84 })
  assert.equal(readGeneration(message(bytes(GENERATION))), 2)
})

test('ctnetlink: an entry is read with both tuples, and its original tuple is kept as it came', () => {
  const { rawOrig, ...flow } = readFlow(message(bytes(FLOW)))
  assert.deepEqual(flow, {
    family: 4,
    proto: 'udp',
    orig: { src: '198.51.100.7', dst: '192.0.2.1', sport: 1000, dport: 53 },
    reply: { src: '172.17.0.2', dst: '198.51.100.7', sport: 5353, dport: 1000 },
    status: 8,
    timeoutSeconds: 99,
    mark: 0,
    zone: 0,
    id: 0xcb4a3119,
  })
  assert.equal(Buffer.from(rawOrig).toString('hex'), FLOW.slice(16, 16 + 96))
  assert.equal(readFlowCount(message(bytes('0000000008000100000000010800020000040000'))), 1)
})

test('sockdiag: a listener is read with its address and inode', () => {
  assert.deepEqual(readSocket(message(bytes(SOCKET)), 'tcp'), {
    proto: 'tcp',
    ip: '127.0.0.1',
    port: 8080,
    v6Only: false,
    ifindex: 0,
    uid: 0,
    inode: 508063,
  })
})

test('nfnetlink: a message cut at any place is read or refused with NetError, and never read for ever', () => {
  const readers: readonly [string, (m: NetlinkMessage) => unknown][] = [
    [MAP, readElements],
    [VERDICTS, readElements],
    [RANGE, readElements],
    [CHAIN, readChain],
    [RULE, readRule],
    [SET, readSet],
    [GENERATION, readGeneration],
    [FLOW, readFlow],
    [FLOW, readFlowCount],
    [SOCKET, (m) => readSocket(m, 'tcp')],
    [CHAIN, readTableComment],
  ]
  for (const [hex, read] of readers) {
    const whole = bytes(hex)
    for (let length = 0; length < whole.length; length++) {
      try {
        read(message(whole.slice(0, length)))
      } catch (error) {
        assert.equal((error as Error).name, 'NetError', `${read.name} at ${length}: ${String(error)}`)
      }
    }
    for (let at = 0; at < whole.length; at++) {
      const broken = whole.slice()
      broken[at] = (broken[at] as number) ^ 0xff
      try {
        read(message(broken))
      } catch (error) {
        assert.equal((error as Error).name, 'NetError', `${read.name} with byte ${at} broken: ${String(error)}`)
      }
    }
  }
})

test('nft expressions: a rule and a base chain are written as nft writes them', () => {
  const w = new MessageWriter()
  const table = { family: 'ip', table: 't' } as const
  writeBaseChain(w, { ...table, name: 'output', hook: 'output', priority: -300 }, 1)
  const [chain] = splitMessages(w.bytes().slice())
  assert.deepEqual(readChain(chain as NetlinkMessage), { table: 't', name: 'output', hook: '3 -300 1' })
  w.reset()
  writeRule(
    w,
    {
      ...table,
      chain: 'output',
      expressions: [
        loadHeader('network', 16, 4),
        equals(Uint8Array.of(127, 0, 0, 11)),
        loadL4Proto,
        load(Uint8Array.of(0x14, 0xb5)),
        storeHeader('transport', 2, 2, 6),
      ],
    },
    2,
  )
  const hex = Buffer.from(w.bytes()).toString('hex')
  assert.ok(hex.includes(Buffer.from('payload\0').toString('hex')))
  assert.ok(hex.includes('08000300000000100800040000000004'), 'offset 16, length 4')
  assert.ok(hex.includes('080001007f00000b'), 'the address')
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseIp } from '../base/address.ts'
import { decodePathProbe, encodePathProbe, shortestProbe } from './path-probe.ts'

const from = 'ab'.repeat(16)
const [a, b] = [parseIp('10.10.126.101'), parseIp('10.10.105.71')]

/** RFC 1071 over pseudo header and datagram: all ones when the checksum is right. */
function sum(datagram: Uint8Array, addresses: readonly number[]): number {
  let total = 17 + datagram.length
  const bytes = [...addresses, ...datagram, ...(datagram.length % 2 === 1 ? [0] : [])]
  for (let i = 0; i < bytes.length; i += 2) total += (bytes[i] as number) * 256 + (bytes[i + 1] as number)
  while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 65536)
  return total
}

test('a question is as long as it says, is VXLAN with an id that nobody has, and has a right checksum', () => {
  for (const size of [shortestProbe(4), 1499, 1500]) {
    const datagram = encodePathProbe({ kind: 'question', from, round: 0xfffffff0, survey: 7, size }, a, b, 4789)
    assert.equal(datagram.length, size - 20)
    assert.deepEqual([...datagram.subarray(0, 4), ...datagram.subarray(8, 16)], [0x12, 0xb5, 0x12, 0xb5, 8, 0, 0, 0, 0xff, 0xff, 0xff, 0])
    assert.equal(sum(datagram, [10, 10, 126, 101, 10, 10, 105, 71]), 0xffff)
    assert.deepEqual(decodePathProbe(datagram), { kind: 'question', from, round: 0xfffffff0, survey: 7, size })
  }
})

test('an answer is short whatever it speaks of; over IPv6 the header is longer', () => {
  assert.equal(encodePathProbe({ kind: 'answer', from, round: 1, survey: 0, size: 9000 }, a, b, 4789).length, shortestProbe(4) - 20)
  const six = encodePathProbe({ kind: 'question', from, round: 1, survey: 0, size: 1280 }, parseIp('fd00::1'), parseIp('fd00::2'), 4789)
  assert.equal(six.length, 1240)
})

test('what is no probe is none', () => {
  const datagram = encodePathProbe({ kind: 'question', from, round: 1, survey: 0, size: 200 }, a, b, 4789)
  assert.equal(decodePathProbe(datagram.subarray(0, 60)), undefined)
  for (const at of [12, 30, 34, 35]) {
    const wrong = Uint8Array.from(datagram)
    wrong[at] = 0x77
    assert.equal(decodePathProbe(wrong), undefined, `byte ${at}`)
  }
})

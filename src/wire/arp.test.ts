import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Ip, Mac } from '../base/address.ts'
import { decodeArpSender, encodeArpProbe } from './arp.ts'

const hex = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'))

test('a probe is what arping -D sends, and says nothing of an address of its own', () => {
  const probe = encodeArpProbe('02:00:00:00:00:01' as Mac, '192.168.60.100' as Ip)
  const expected = 'ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 00000000 000000000000 c0a83c64'
  assert.deepEqual(probe, hex(expected))
  assert.deepEqual(decodeArpSender(probe), { mac: '02:00:00:00:00:01', ip: '0.0.0.0' })
})

test('the sender is read from questions and answers; other frames have none', () => {
  const reply = 'ffffffffffff 4a0000000009 0806 0001 0800 06 04 0002 4a0000000009 c0a83c64 020000000001 00000000 000000000000'
  assert.deepEqual(decodeArpSender(hex(reply)), { mac: '4a:00:00:00:00:09', ip: '192.168.60.100' })
  assert.equal(decodeArpSender(hex(reply.replace('0806', '0800'))), undefined)
  assert.equal(decodeArpSender(hex(reply).subarray(0, 41)), undefined)
})

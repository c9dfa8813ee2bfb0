import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NetError } from '../base/errors.ts'
import { type DbusMessage, decodeMessage, encodeMessage, METHOD_CALL, messageLength, splitSignature } from './dbus.ts'

/** What libdbus 1.14 sends first on every connection. */
const HELLO =
  '6c01000100000000010000006e00000001016f00150000002f6f72672f667265656465736b746f702f4442757300000006017300140000006f72672e66726565' +
  '6465736b746f702e444275730000000002017300140000006f72672e667265656465736b746f702e4442757300000000030173000500000048656c6c6f000000'

const message: DbusMessage = {
  type: METHOD_CALL,
  serial: 7,
  path: '/org/fedoraproject/FirewallD1/config',
  interface: 'org.fedoraproject.FirewallD1.config',
  member: 'addPolicy',
  destination: 'org.fedoraproject.FirewallD1',
  signature: 'sa{sv}yqnbuixtd(sv)as',
  body: [
    'name',
    [
      ['target', { signature: 's', value: 'ACCEPT' }],
      ['ingress_zones', { signature: 'as', value: ['ANY'] }],
    ],
    255,
    65535,
    -2,
    true,
    0xffffffff,
    -3,
    -4n,
    5n,
    0.5,
    ['ü', { signature: 'ai', value: [1, -1] }],
    [],
  ],
}

test('dbus: what is written is read back, with every type', () => {
  const bytes = encodeMessage(message)
  assert.equal(messageLength(bytes), bytes.length)
  assert.deepEqual(decodeMessage(bytes), message)
})

test('dbus: a message of libdbus is read, and means the same when it is written', () => {
  const hello = decodeMessage(Uint8Array.from(Buffer.from(HELLO, 'hex')))
  assert.deepEqual(hello, {
    type: METHOD_CALL,
    serial: 1,
    path: '/org/freedesktop/DBus',
    destination: 'org.freedesktop.DBus',
    interface: 'org.freedesktop.DBus',
    member: 'Hello',
    body: [],
  })
  assert.deepEqual(decodeMessage(encodeMessage(hello)), hello)
  assert.equal(encodeMessage(hello).length, HELLO.length / 2)
})

test('dbus: a signature is split into complete types, a wrong one is refused', () => {
  assert.deepEqual(splitSignature('sa{sv}a(ii)aas'), ['s', 'a{sv}', 'a(ii)', 'aas'])
  for (const wrong of ['a', '(s', 'z', 'a{s'.repeat(100)]) assert.throws(() => splitSignature(wrong), NetError)
})

test('dbus: whatever the bytes, reading ends', () => {
  const bytes = encodeMessage(message)
  for (let n = 0; n < bytes.length; n++) assert.throws(() => decodeMessage(bytes.subarray(0, n)), NetError)
  for (let i = 0; i < bytes.length; i++)
    for (const value of [0, 1, 0x7f, 0xff]) {
      const broken = bytes.slice()
      broken[i] = value
      try {
        decodeMessage(broken)
      } catch (error) {
        assert.ok(error instanceof NetError, String(error))
      }
    }
})

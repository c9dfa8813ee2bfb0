import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { parseIp } from '../../src/base/address.ts'
import { indexOfLink, nameOfLink } from '../../src/sys/ifindex.ts'
import { NETLINK_ROUTE, type NetlinkRequest, NetlinkSocket } from '../../src/sys/netlink-socket.ts'
import { NLM_F_CREATE, NLM_F_EXCL } from '../../src/wire/netlink.ts'
import { RTM_NEWADDR } from '../../src/wire/rtnetlink.ts'
import { writeAddress } from '../../src/wire/rtnetlink-addr.ts'

const socket = NetlinkSocket.open(NETLINK_ROUTE)
assert.equal(spawnSync('ip', ['link', 'add', 'br0', 'type', 'bridge']).status, 0)
const index = indexOfLink(socket.fd, 'br0')

function addAddress(text: string): NetlinkRequest {
  const address = { family: 2, prefixLength: 32, index, scope: 0, flags: 0, local: parseIp(text) }
  return { type: RTM_NEWADDR, flags: NLM_F_CREATE | NLM_F_EXCL, write: (w) => writeAddress(w, address) }
}

test('a batch tells for each request whether it was refused, over several sends', () => {
  const texts = Array.from({ length: 300 }, (_, n) => `10.0.${n >> 8}.${n & 255}`)
  const acks = socket.batch([...texts, '10.0.0.7', '10.2.0.1', '10.0.0.9'].map(addAddress))
  assert.equal(acks.length, 303)
  assert.deepEqual(
    acks.flatMap((ack, i) => (ack.errno === 0 ? [] : [[i, ack.errno, ack.text]])),
    [
      [300, 17, 'ipv4: Address already assigned'],
      [302, 17, 'ipv4: Address already assigned'],
    ],
  )
  const seen = JSON.parse(spawnSync('ip', ['-j', '-4', 'addr', 'show', 'dev', 'br0'], { encoding: 'utf8' }).stdout)
  assert.equal(seen[0].addr_info.length, 301)
})

test('a batch of refusals alone does not run out of buffer', () => {
  const acks = socket.batch(Array.from({ length: 2000 }, () => addAddress('10.0.0.7')))
  assert.ok(acks.every((ack) => ack.errno === 17))
  assert.equal(acks.length, 2000)
})

test('a batch of nothing sends nothing', () => {
  assert.deepEqual(socket.batch([]), [])
})

test('names and indexes are asked in the namespace of the socket', () => {
  assert.equal(nameOfLink(socket.fd, index), 'br0')
  assert.equal(indexOfLink(socket.fd, 'lo'), 1)
  for (const name of ['', 'nope', 'a-name-that-is-too-long']) assert.equal(indexOfLink(socket.fd, name), 0)
  assert.equal(nameOfLink(socket.fd, 4242), '')
  socket.close()
})

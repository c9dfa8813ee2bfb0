import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hasCode } from '../../base/errors.ts'
import { silentLogger } from '../../base/ports.ts'
import { StoreFault } from './http.ts'
import { renewalMs } from './lease-keeper.ts'
import { type CallKind, StoreMembers } from './members.ts'
import { parseStoreUrl } from './url.ts'

const SILENT = new StoreFault('no answer within 2500 ms', { sent: true, silent: true })
const REFUSED = new StoreFault('connect ECONNREFUSED')

/** Members at a moved clock; `lost` counts what they tell of. */
function lab() {
  let now = 0
  const clock = {
    now: () => now,
    async sleep(ms: number) {
      now += ms
    },
    after: () => () => {},
  }
  const members = new StoreMembers(parseStoreUrl('etcd://10.0.0.1', { 'kv.patience': '6' }), {
    clock,
    rng: { bytes: (n) => new Uint8Array(n) },
    logger: silentLogger,
  })
  const told = { lost: 0 }
  members.onLost(() => void told.lost++)
  /** One call whose every attempt takes 2.5 s and ends so. */
  const fail = (kind: CallKind, fault: StoreFault) =>
    assert.rejects(
      members.call(kind, async () => {
        now += 2500
        throw fault
      }),
      (error) => hasCode(error, 'unavailable'),
    )
  const answer = () => members.call('background', async () => 'answered')
  return { members, told, fail, answer }
}

test('one late answer in the background is no outage, a silence that lasts is, and neither has the store lost anything', async () => {
  const { members, told, fail, answer } = lab()
  await answer()
  await fail('background', SILENT)
  assert.equal(members.status().state, 'up')
  await fail('background', SILENT)
  assert.equal(members.status().state, 'down')
  await answer()
  assert.equal(members.status().state, 'up')
  await fail('background', SILENT)
  assert.equal(members.status().state, 'up', 'an answer has ended the first silence')
  assert.equal(told.lost, 0)
})

test('whoever waited as long as the user wants is told that the store is down', async () => {
  const { members, fail, answer } = lab()
  await answer()
  await fail('write', SILENT)
  assert.equal(members.status().state, 'down')
})

test('nobody there is an outage at once, in which the store may be replaced: told once', async () => {
  const { members, told, fail, answer } = lab()
  await answer()
  await fail('background', REFUSED)
  assert.deepEqual([members.status().state, told.lost], ['down', 1])
  await fail('background', SILENT)
  await fail('background', REFUSED)
  assert.equal(told.lost, 1)
  await answer()
  await fail('background', REFUSED)
  assert.equal(told.lost, 2)
})

test('a silence in which the store goes away after all is told, too', async () => {
  const { members, told, fail, answer } = lab()
  await answer()
  await fail('background', SILENT)
  await fail('background', SILENT)
  assert.deepEqual([members.status().state, told.lost], ['down', 0])
  members.failed(members.current(), new StoreFault('the connection was closed in the middle of an answer', { sent: true }))
  assert.equal(told.lost, 1)
})

test('a renewal may take a sixth of the lease, and never less than other questions', () => {
  assert.equal(renewalMs(60, 2500), 10_000)
  assert.equal(renewalMs(10, 2500), 2500)
})

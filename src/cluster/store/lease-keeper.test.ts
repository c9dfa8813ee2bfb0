import assert from 'node:assert/strict'
import { test } from 'node:test'
import { movedClock } from '../../../testkit/moved-clock.ts'
import { silentLogger } from '../../base/ports.ts'
import { LeaseKeeper } from './lease-keeper.ts'

function lab(answer: () => boolean) {
  const time = movedClock()
  const lost: string[] = []
  const renewals: number[] = []
  let revoked = 0
  const keeper = new LeaseKeeper(time.clock, silentLogger)
  const renew = async () => {
    renewals.push(time.clock.now())
    return answer()
  }
  const lease = keeper.keep({ id: 'l', seconds: 30, renew, revoke: async () => void revoked++ }, 0, (why) => lost.push(why))
  return { ...time, keeper, lease, lost, renewals, revoked: () => revoked }
}

test('lease keeper: renews three times per length, and leaves no timer when it is closed', async () => {
  const { move, renewals, lost, keeper, timers } = lab(() => true)
  await move(100_000)
  assert.deepEqual(
    renewals,
    [10, 20, 30, 40, 50, 60, 70, 80, 90, 100].map((s) => s * 1000),
  )
  assert.equal(lost.length, 0)
  keeper.close()
  assert.equal(timers.size, 0)
})

test('lease keeper: asked again at once it finds out at once that the store ended it', async () => {
  let alive = true
  const { move, keeper, lost, lease } = lab(() => alive)
  await move(1000)
  alive = false
  keeper.pokeAll()
  await move(0)
  assert.deepEqual(lost, ['the store ended it'])
  assert.ok(lease.ended())
})

test('lease keeper: a store that is away is asked every second, and the lease is lost after its length, not before', async () => {
  let away = false
  const { move, lost, renewals } = lab(() => {
    if (away) throw new Error('nobody there')
    return true
  })
  await move(10_000)
  away = true
  await move(29_000)
  assert.equal(lost.length, 0)
  away = false
  await move(1500)
  away = true
  const before = renewals.length
  await move(29_000)
  assert.equal(lost.length, 0)
  assert.ok(renewals.length - before > 10)
  await move(12_000)
  assert.deepEqual(lost, ['it could not be renewed for 30 s: nobody there'])
})

test('lease keeper: revoked once, and never lost after that', async () => {
  const { move, lease, revoked, lost, keeper } = lab(() => false)
  await lease.revoke()
  await lease.revoke()
  keeper.pokeAll()
  await move(100_000)
  assert.equal(revoked(), 1)
  assert.deepEqual(lost, [])
})

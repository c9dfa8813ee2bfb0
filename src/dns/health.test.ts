import assert from 'node:assert/strict'
import { test } from 'node:test'
import { orderByHealth, UpstreamHealth } from './health.ts'
import { LoopTimers } from './timers.ts'

test('a server that does not answer for a while is asked last, and comes back with its first answer', () => {
  const silent = { name: 'first', health: new UpstreamHealth() }
  const other = { name: 'second', health: new UpstreamHealth() }
  const order = (now: number) => orderByHealth([silent, other], now).map(({ name }) => name)
  silent.health.noteSent(1000)
  assert.deepEqual(order(1200), ['first', 'second'], 'patience of 250 ms')
  assert.deepEqual(order(1251), ['second', 'first'])
  silent.health.noteAnswer(5000, 10)
  assert.deepEqual(order(5000), ['first', 'second'])
})

test('silence is not counted from an old question that was answered', () => {
  const health = new UpstreamHealth()
  health.noteSent(0)
  health.noteAnswer(5, 5)
  health.noteSent(100_000)
  assert.ok(health.isHealthy(100_200))
})

test('a slow server is given the time that it usually needs', () => {
  const health = new UpstreamHealth()
  for (let i = 0; i < 30; i++) {
    health.noteSent(i * 1000)
    health.noteAnswer(i * 1000 + 400, 400)
  }
  health.noteSent(50_000)
  assert.ok(health.isHealthy(50_390))
  assert.ok(!health.isHealthy(52_000))
  assert.ok(health.expectedMs() >= 400)
  assert.equal(new UpstreamHealth().expectedMs(), 90)
})

test('a server that is down is probed less and less often, every 10 s at least', () => {
  const health = new UpstreamHealth()
  health.noteSent(0)
  const probes: number[] = []
  for (let now = 300; now < 60_000; now += 100) if (health.takeProbe(now)) probes.push(now)
  assert.deepEqual(probes.slice(0, 4), [300, 1300, 3300, 7300])
  assert.ok(
    probes.slice(1).every((at, i) => at - (probes[i] as number) <= 10_000),
    probes.join(),
  )
})

test('a refused connection counts at once, and one answer forgives it', () => {
  const health = new UpstreamHealth()
  health.noteUnreachable(10)
  assert.ok(!health.isHealthy(10))
  health.noteAnswer(20, 1)
  assert.ok(health.isHealthy(20))
})

test('timers run in order of their time, cancelled ones never, one that throws does not stop the others', () => {
  const timers = new LoopTimers()
  const ran: number[] = []
  const due = [50, 10, 40, 20, 30, 60]
  const made = due.map((at) => timers.at(at, () => ran.push(at)))
  timers.at(15, () => {
    throw new Error('on purpose')
  })
  made[2]?.cancel()
  const errors: unknown[] = []
  assert.equal(timers.waitMs(0, 250), 10)
  timers.runDue(50, (error) => errors.push(error))
  assert.deepEqual(ran, [10, 20, 30, 50])
  assert.equal(errors.length, 1)
  assert.equal(timers.waitMs(50, 250), 10)
  timers.runDue(60, () => {})
  assert.equal(timers.waitMs(60, 250), 250)
  assert.equal(timers.size, 0)
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { movedClock } from '../../testkit/moved-clock.ts'
import type { Ip } from '../base/address.ts'
import { type Logger, silentLogger } from '../base/ports.ts'
import { systemRng } from '../base/rng.ts'
import { memoryStore } from '../store/memory-store.ts'
import { BadValues } from './bad-values.ts'
import { HostTable } from './host-table.ts'
import { Membership } from './membership.ts'
import { MemoryStoreServer } from './store/memory.ts'

const HOSTS = 20

function crowd(leaseSeconds = 10) {
  const time = movedClock()
  const { clock } = time
  const server = new MemoryStoreServer(clock)
  let refused = 0
  const log: Logger = {
    ...silentLogger,
    warn: (message) => {
      if (message === 'cannot join the cluster yet') refused++
    },
  }
  const members = Array.from({ length: HOSTS }, (_, n) => {
    const store = server.open({ clock, logger: silentLogger })
    const hosts = new HostTable({ store, cache: memoryStore(), bad: new BadValues(log), onChange: () => {} })
    hosts.start()
    return new Membership({
      store,
      hosts,
      clock,
      rng: systemRng,
      log,
      hostId: n.toString(16).padStart(32, '0'),
      hostName: `h${n}`,
      advertise: { address: `10.0.0.${n + 1}` as Ip, port: 2377 },
      version: '0',
      instance: `${n}`,
      leaseSeconds,
      mtu: () => 1500,
      routes: () => [],
      onJoined: () => {},
    })
  })
  for (const member of members) void member.join()
  return { ...time, server, members, refused: () => refused }
}

test('membership: after a long outage of the store all hosts are members again within a second of its return', async () => {
  const { move, members, server } = crowd()
  await move(1)
  assert.ok(members.every((m) => m.isJoined))
  server.stop()
  await move(600_000)
  assert.ok(members.every((m) => !m.isJoined))
  server.start()
  await move(1000)
  assert.deepEqual(
    members.map((m) => m.isJoined),
    members.map(() => true),
  )
})

test('membership: a host that the store does not take says why, also when something is to be changed', async () => {
  const { move, members } = crowd(5)
  await move(1)
  const [member] = members as [Membership]
  assert.match(member.problem, /^a lease of 5 s: the cluster store takes whole seconds from 10 to 86400$/)
  assert.throws(() => member.check(), { code: 'unavailable', message: /^this host has not joined the cluster yet \(a lease of 5 s: / })
})

test('membership: a store that is away is asked by each host every few seconds, not more, and not by all at one moment', async () => {
  const { clock, move, server, refused } = crowd()
  await move(1)
  server.stop()
  await move(60_000)
  const before = refused()
  let most = 0
  for (let ms = 0; ms < 60_000; ms += 100) {
    const asked = refused()
    await move(100)
    most = Math.max(most, refused() - asked)
  }
  assert.equal(clock.now(), 120_001)
  const perHost = (refused() - before) / HOSTS
  assert.ok(perHost >= 9 && perHost <= 16, `${perHost} attempts of a host in a minute`)
  assert.ok(most < HOSTS / 2, `${most} of ${HOSTS} within 100 ms`)
})

/**
 * Random deaths of members while transactions, leases and watches run; at the end everybody has seen the same. Short by default:
 * CAUSEWAY_SOAK_SECONDS makes it long, CAUSEWAY_SOAK_SEED repeats a sequence of deaths.
 */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ClusterStore } from '../../src/cluster/store/types.ts'
import { consulMissing, startConsul } from '../../testkit/consul.ts'
import { startEtcd } from '../../testkit/etcd.ts'
import { deadline, Mirror } from './store-conformance.ts'
import { addOne, converges } from './store-faults.ts'
import { opener } from './store-openers.ts'

const SECONDS = Number(process.env['CAUSEWAY_SOAK_SECONDS'] ?? 6)
const SEED = Number(process.env['CAUSEWAY_SOAK_SEED'] ?? Date.now() % 1_000_000)
const HOSTS = 3

/** Park and Miller's generator: the same deaths for the same seed. */
function chance(seed: number): (below: number) => number {
  let state = (seed % 2_147_483_646) + 1
  return (below) => {
    state = (state * 48_271) % 2_147_483_647
    return state % below
  }
}

for (const [kind, start, missing] of [
  ['etcd', startEtcd, undefined],
  ['consul', startConsul, consulMissing()],
] as const)
  test(`${kind}: random deaths, seed ${SEED}`, { timeout: (SECONDS + 100) * 1000, skip: missing ?? false }, async () => {
    const lab = await start({ members: 3 })
    const { open, closeAll } = opener(() => lab)
    const pick = chance(SEED)
    const counts = new Map<string, number>()
    let going = true
    try {
      const hosts = Array.from({ length: HOSTS }, (_, i) => ({
        name: `host${i}`,
        store: open('soak', { 'kv.patience': '60' }),
        mirror: new Mirror(),
      }))
      for (const { store, mirror } of hosts) store.watch('', mirror)
      const work = hosts.map(async ({ name, store }, i) => {
        for (let n = 0; going; n++) {
          const key = `counter/${(n + i) % 4}`
          await addOne(store, key, `${name} ${n}`)
          counts.set(key, (counts.get(key) ?? 0) + 1)
          await claim(store, name, n)
        }
      })
      const until = Date.now() + SECONDS * 1000
      let deaths = 0
      while (Date.now() < until) {
        const member = lab.members[pick(3)]
        assert.ok(member)
        const way = pick(3)
        if (way === 0) await member.kill9()
        else if (way === 1) member.pause()
        else await Promise.all(lab.members.map((each) => each.kill9()))
        deaths++
        await new Promise((resolve) => setTimeout(resolve, 200 + pick(1500)))
        member.resume()
        for (const each of lab.members) each.start()
        await lab.ready()
        await new Promise((resolve) => setTimeout(resolve, pick(800)))
      }
      going = false
      await Promise.all(work)
      assert.ok(deaths > 0)
      const { store } = hosts[0] as { store: ClusterStore }
      await deadline('all answer', () => hosts.every((host) => host.store.status().state === 'up'))
      for (const { mirror } of hosts) await converges(store, mirror)
      // nothing lost, nothing doubled
      for (const [key, count] of counts) assert.equal((await store.get(key))?.value.split(' ')[0], String(count), key)
    } finally {
      going = false
      for (const member of lab.members) member.resume()
      await closeAll()
      await lab.close()
    }
  })

/** Takes two names at once, as an endpoint takes its address and its name, and gives them back. */
async function claim(store: ClusterStore, who: string, n: number): Promise<void> {
  const keys = [`name/${n % 3}`, `address/${n % 5}`]
  const taken = await store.txn({
    checks: keys.map((key) => ({ key, absent: true }) as const),
    puts: keys.map((key) => ({ key, value: `${who} ${n}` })),
  })
  if (!taken.ok) return
  const checks = keys.map((key) => ({ key, version: taken.versions.get(key) as string }))
  const freed = await store.txn({ checks, deletes: keys })
  if (freed.ok) return
  // versions from before an outage match nothing; but nobody else may have it either
  for (const key of keys) assert.equal(freed.current.get(key)?.value, `${who} ${n}`, `${key} was taken from its owner`)
  await store.txn({ deletes: keys })
}

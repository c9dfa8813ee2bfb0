import assert from 'node:assert/strict'
import { test } from 'node:test'
import { movedClock } from '../../testkit/moved-clock.ts'
import type { Ip, Mac } from '../base/address.ts'
import { silentLogger } from '../base/ports.ts'
import { memoryStore } from '../store/memory-store.ts'
import { BadValues } from './bad-values.ts'
import { EndpointTable } from './endpoint-table.ts'
import { CACHE_KEY, CLUSTER_KEY } from './keys.ts'
import type { ClusterEndpoint } from './model.ts'
import { MemoryStoreServer } from './store/memory.ts'

const [HERE, THERE, DOWN] = ['a'.repeat(32), 'b'.repeat(32), 'c'.repeat(32)] as const
const NETWORK = 'd'.repeat(64)

const endpoint = (digit: string, hostId: string): ClusterEndpoint => ({
  id: digit.repeat(64),
  networkId: NETWORK,
  containerId: digit.repeat(64),
  name: `c${digit}`,
  dnsNames: [`c${digit}`],
  ipv4: `10.0.0.${digit}` as Ip,
  ipv6: '',
  mac: `02:42:0a:00:00:0${digit}` as Mac,
  hostId,
  hostAddress: '192.0.2.1' as Ip,
  active: true,
})
const [own, gone, other, kept] = [endpoint('2', HERE), endpoint('3', THERE), endpoint('4', DOWN), endpoint('5', THERE)]

/** A host that was away knows four endpoints; the store has lost all of them but the last. */
async function returned() {
  const time = movedClock()
  const server = new MemoryStoreServer(time.clock)
  const store = server.open({ clock: time.clock, logger: silentLogger })
  await store.txn({ puts: [{ key: CLUSTER_KEY.endpoint(NETWORK, kept.id), value: JSON.stringify(kept) }] })
  const cache = memoryStore()
  for (const e of [own, gone, other, kept]) cache.put(CACHE_KEY.endpoint(NETWORK, e.id), JSON.stringify(e))
  const table = new EndpointTable({
    store,
    cache,
    bad: new BadValues(silentLogger),
    clock: time.clock,
    hostId: HERE,
    network: () => undefined,
    isHeld: (id) => id === own.id,
    isUp: (id) => id !== DOWN,
    onChange: () => {},
    onLost: () => {},
  })
  table.use(NETWORK)
  await time.move(1)
  const names = () =>
    table
      .list(NETWORK)
      .map(({ name }) => name)
      .toSorted()
  return { ...time, store, names }
}

test('endpoint table: what a store has lost is kept while its hosts write it again, of hosts that are up for seconds, of others for a minute', async () => {
  const { move, store, names } = await returned()
  assert.deepEqual(names(), ['c2', 'c3', 'c4', 'c5'])
  await move(9_000)
  assert.deepEqual(names(), ['c2', 'c3', 'c4', 'c5'])
  await move(1_500)
  assert.deepEqual(names(), ['c2', 'c4', 'c5'], 'a host that is up would have written it again')
  await move(48_000)
  assert.deepEqual(names(), ['c2', 'c4', 'c5'])
  await move(2_000)
  assert.deepEqual(names(), ['c2', 'c5'])
  await store.close()
})

test('endpoint table: what is written again in time stays', async () => {
  const { move, store, names } = await returned()
  await store.txn({ puts: [gone, other].map((e) => ({ key: CLUSTER_KEY.endpoint(NETWORK, e.id), value: JSON.stringify(e) })) })
  await move(120_000)
  assert.deepEqual(names(), ['c2', 'c3', 'c4', 'c5'])
  await store.close()
})

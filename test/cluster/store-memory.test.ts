import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/ports.ts'
import { MemoryStoreServer } from '../../src/cluster/store/memory.ts'
import type { ClusterStore } from '../../src/cluster/store/types.ts'
import { deadline, Mirror, put, storeConformance } from './store-conformance.ts'

const ports = { clock: systemClock, logger: silentLogger }
const opened: ClusterStore[] = []
const server = new MemoryStoreServer(systemClock)
const open = (path?: string) => {
  const store = server.open(ports, path)
  opened.push(store)
  return store
}
after(() => Promise.all(opened.map((store) => store.close())))

storeConformance('memory', () => ({
  open,
  rawPut: async (key, value) => {
    // as the real ones give it: the port's rules for foreign bytes
    server.write([{ key, value: value.length > 256 * 1024 ? '' : Buffer.from(value).toString('utf8') }], [])
  },
  endLease: async (id) => server.endLease(id),
  stop: async () => server.stop(),
  start: async () => server.start(),
}))

test('memory: restored to an older state, watches read everything and old versions match nothing', async () => {
  const store = open('restored')
  await put(store, 'a', 'kept')
  const snapshot = server.snapshot()
  const stale = await put(store, 'b', 'lost')
  const mirror = new Mirror()
  store.watch('', mirror)
  await deadline('snapshot', () => mirror.state.size === 2)
  server.restore(snapshot)
  await deadline('resync', () => mirror.resyncs === 2)
  assert.deepEqual([...mirror.state], [['a', 'kept']])
  // the same revision is given out a second time
  await put(open('restored'), 'b', 'another')
  assert.ok(!(await store.txn({ checks: [{ key: 'b', version: stale }], deletes: ['b'] })).ok)
})

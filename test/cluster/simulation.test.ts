/**
 * Twenty hosts with the real member, store client and planner on a real etcd and kernels in memory: a change costs hosts that are not
 * concerned nothing, and whatever happens to the store, all kernels end up as it says. `bench/cluster-sim.ts` is the large version.
 */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { silentLogger } from '../../src/base/ports.ts'
import { parseStoreUrl } from '../../src/cluster/store/url.ts'
import { type EtcdLab, startEtcd } from '../../testkit/etcd.ts'
import { difference, SimCluster } from '../../testkit/sim-cluster.ts'
import { startWatchdog } from '../../testkit/watchdog.ts'

const HOSTS = 20
const PER_NETWORK = 5
const watchdog = startWatchdog(5000, (lines) => console.log(lines.join('\n')))
let etcd: EtcdLab
let cluster: SimCluster

before(async () => {
  etcd = await startEtcd()
  cluster = new SimCluster(parseStoreUrl(etcd.storeUrl('/sim')), PER_NETWORK, silentLogger, watchdog)
  await cluster.join(HOSTS)
  await cluster.createNetworks()
  await cluster.startAll(2)
})

after(async () => {
  await cluster?.crash()
  await etcd?.close()
  watchdog.stop()
})

test('every kernel leads to every member, and verify says so', async () => {
  assert.equal(await cluster.agreed(), HOSTS * 2)
  const verdict = await cluster.hosts[0]?.member.service.verify(20_000)
  assert.ok(verdict?.ok, JSON.stringify(verdict))
})

test('changes of one network: hosts on it hear of each, the others get nothing over their watches', async () => {
  await cluster.agreed()
  const [on, off] = [cluster.traffic(cluster.concerned), cluster.traffic(cluster.unconcerned)]
  await cluster.replace(10)
  await cluster.agreed()
  const heard = difference(on, cluster.traffic(cluster.concerned))
  assert.equal(heard.events, 10 * 3 * PER_NETWORK)
  assert.ok(heard.steps > 10 * PER_NETWORK, `${heard.steps} steps`)
  assert.deepEqual(difference(off, cluster.traffic(cluster.unconcerned)), { events: 0, bytes: 0, changes: 0, steps: 0 })
})

test('somebody’s mischief in a kernel is seen by the judge, and gone after the next change', async () => {
  const host = cluster.hosts[1]
  assert.ok(host)
  const [space] = [...host.kernel.mounted.values()]
  const entry = space?.rtnl.neighbours({ dev: 'vxlan0' })[0]
  assert.ok(space !== undefined && entry !== undefined)
  space.rtnl.apply([{ op: 'neigh.delete', neigh: entry }])
  assert.ok(host.differences(await cluster.endpoints()).length > 0)
  await cluster.replace(1)
  await cluster.agreed()
})

test('an etcd that stands still for a while is not read again by anybody', async () => {
  const readings = cluster.hosts.map((host) => host.readings)
  const server = etcd.members[0]
  assert.ok(server)
  server.pause()
  const late = cluster.start(2, 'late')
  await cluster.eventually('a host notices', () => (cluster.hosts.some((h) => h.member.store.counters().retries > 0) ? undefined : 'none'))
  server.resume()
  await late
  await cluster.agreed()
  assert.deepEqual(
    cluster.hosts.map((host) => host.readings),
    readings,
  )
  assert.deepEqual(
    cluster.hosts.filter((host) => !host.member.service.membership.isJoined).map((host) => host.name),
    [],
  )
})

test('an etcd that is killed and started again is read again by everybody, and all agree', async () => {
  const server = etcd.members[0]
  assert.ok(server)
  await server.kill9()
  await cluster.eventually('all hosts know', () =>
    cluster.hosts.every((h) => h.member.store.status().state === 'down') ? undefined : 'no',
  )
  const readings = cluster.hosts.map((host) => host.readings)
  server.start()
  await cluster.eventually('all have read again', () =>
    cluster.hosts.every((host, i) => host.readings > (readings[i] as number)) ? undefined : 'some have not',
  )
  await cluster.replace(2)
  await cluster.agreed()
})

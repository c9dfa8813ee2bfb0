/** The cluster as people meet it: three whole engines, a real etcd, the commands. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { etcdMissing } from '../../testkit/etcd.ts'
import { type Lab, startLab } from '../../testkit/lab.ts'
import { until } from './model-lab.ts'

const skip = etcdMissing() ?? false
let lab: Lab

before(async () => {
  if (!skip) lab = await startLab({ hosts: 3, flags: ['--cluster-store-opt', 'kv.patience=1', '--cluster-store-opt', 'discovery.ttl=10'] })
})
after(async () => {
  if (!skip) assert.deepEqual(await lab.close(), [], 'nothing is left behind')
})

const engine = (n: number) => lab.engines[n - 1] as Lab['engines'][number]
const ok = async (n: number, ...args: string[]): Promise<string> => {
  const ran = await engine(n).causeway(...args)
  assert.equal(ran.code, 0, `causeway ${args.join(' ')}: ${ran.out}${ran.err}`)
  return ran.out
}
const names = (n: number) => ok(n, 'network', 'ls', '--format', '{{.Name}} {{.Driver}} {{.Scope}}')

test('networks, members, names, events and refusals are the cluster’s on every host', { skip }, async () => {
  const info = await engine(1).api('GET', '/info')
  assert.equal(info.json.ClusterAdvertise, `${engine(1).host.ip}:2377`)
  assert.match(info.json.ClusterStore, /^etcd:\/\//)
  await ok(1, 'network', 'create', '-d', 'overlay', 'net1')
  for (const n of [2, 3]) await until(`host ${n} lists net1`, async () => (await names(n)).includes('net1 overlay global'))
  const again = await engine(2).causeway('network', 'create', '-d', 'overlay', 'net1')
  assert.match(again.err, /network with name net1 already exists/)
  assert.equal(again.code, 1)
  await engine(1).run('net1c1', { networks: ['net1'] })
  const id2 = await engine(2).run('net1c2', { networks: ['net1'] })
  const taken = await engine(2).api('POST', '/containers/create?name=net1c1', {
    Image: 'busybox',
    Cmd: ['sleep', '9'],
    HostConfig: { NetworkMode: 'net1' },
  })
  const refused = await engine(2).api('POST', `/containers/${taken.json.Id}/start`)
  assert.match(refused.json.message, /endpoint with name net1c1 already exists in network net1$/)
  await ok(2, 'rm', 'net1c1')
  for (const n of [1, 2, 3]) {
    const members = Object.values((await engine(n).api('GET', '/networks/net1')).json.Containers) as { Name: string; IPv4Address: string }[]
    assert.deepEqual(
      members.map((m) => `${m.Name} ${m.IPv4Address}`).toSorted(),
      ['net1c1 10.0.0.2/24', 'net1c2 10.0.0.3/24'],
      `on host ${n}`,
    )
  }
  const ping = await engine(1).exec('net1c1', 'ping', '-c', '1', '-W', '2', 'net1c2')
  assert.equal(ping.code, 0, ping.out)
  const inUse = await engine(3).api('DELETE', '/networks/net1')
  assert.equal(inUse.status, 403)
  assert.match(
    inUse.json.message,
    /^error while removing network: network net1 id [0-9a-f]{64} has active endpoints \(.*name:"net1c2" id:"\w{12}" on host /,
  )
  // the same from a host that has a member itself: both are named, with their hosts
  const stillInUse = await engine(1).api('DELETE', '/networks/net1')
  assert.equal(stillInUse.status, 403)
  assert.match(
    stillInUse.json.message,
    /^error while removing network: network net1 id [0-9a-f]{64} has active endpoints \(name:"net1c1" id:"\w{12}" on host host1, name:"net1c2" id:"\w{12}" on host host2\)$/,
  )
  await ok(2, 'rename', 'net1c2', 'two')
  await until('the new name is known on the other host', async () => (await engine(1).exec('net1c1', 'nslookup', 'two')).code === 0)
  const now = Math.floor(Date.now() / 1000) + 1
  const events = (await engine(1).api('GET', `/events?since=1&until=${now}`)).text
  assert.match(events, new RegExp(`"Action":"connect".*"container":"${id2}".*"host":"host2"`), 'a container elsewhere has joined')
})

test('cluster ls, inspect and verify', { skip }, async () => {
  const hosts = JSON.parse(await ok(1, 'cluster', 'ls', '--format', 'json')) as {
    hosts: { name: string; state: string; address: string }[]
  }
  assert.deepEqual(hosts.hosts.map((h) => `${h.address} ${h.state}`).toSorted(), [1, 2, 3].map((n) => `${engine(n).host.ip} up`).toSorted())
  const table = await ok(1, 'cluster', 'ls')
  assert.match(table, /^HOST +ID +ADDRESS +STATE +VERSION\n/)
  assert.match(table, / \* +[0-9a-f]{12} +\S+:2377 +up/)
  const own = engine(1).host
  assert.match(
    await ok(1, 'cluster', 'ls', '--format', '{{.Name}} {{.Address}} {{.State}} {{.Self}}'),
    new RegExp(`^${own.name} ${own.ip}:2377 up true$`, 'm'),
  )
  assert.equal(await ok(1, 'cluster', 'inspect', '--format', '{{.name}} {{len .endpoints}}', own.name), `${own.name} 1\n`)
  assert.equal(await ok(1, 'cluster', 'verify', '--format', '{{.ok}}'), 'true\n')
  const verified = await ok(3, 'cluster', 'verify')
  assert.match(verified, /^NETWORK +ENTRIES +HASH +HOST +STATE +REVISION +REPAIRS\n(net1 +2 +[0-9a-f]{16} +\S+ +agrees +\d+ +0\n){2}/)
  assert.match(verified, /All hosts agree with the store\.\n$/)
  const self = JSON.parse(await ok(2, 'cluster', 'ls', '--format', 'json')) as { self: string }
  assert.match(await ok(1, 'cluster', 'inspect', self.self.slice(0, 10)), /\n {2}net1 +two +10\.0\.0\.3 +02:42:0a:00:00:03 /)
  const unknown = await engine(1).causeway('cluster', 'inspect', 'nobody')
  assert.match(unknown.err, /host nobody not found in the cluster/)
})

test('the store away: traffic and names go on, changes are refused with 503, an engine starts; it all goes on when it is back', {
  skip,
}, async () => {
  await lab.etcd.stop()
  assert.equal((await engine(1).exec('net1c1', 'ping', '-c', '1', '-W', '2', 'two')).code, 0)
  const create = await engine(1).api('POST', '/networks/create', { Name: 'no', Driver: 'overlay' })
  assert.equal(create.status, 503, create.text)
  assert.match(create.json.message, /etcd/)
  // somebody else may have made it: that it does not exist would be a guess
  for (const [method, path, body] of [
    ['GET', '/networks/unheard'],
    ['DELETE', '/networks/unheard'],
    ['POST', '/networks/unheard/connect', { Container: 'net1c1' }],
  ] as const) {
    const unheard = await engine(1).api(method, path, body)
    assert.equal(unheard.status, 503, unheard.text)
    assert.match(unheard.json.message, /^network unheard not found on this host, and the cluster cannot be asked: The cluster store etcd:/)
  }
  const listed = await engine(1).causeway('network', 'ls', '-q')
  assert.equal(listed.code, 0)
  assert.match(listed.err, /^WARNING: The cluster store etcd:\S+ does not answer .* are not shown as they are$/m)
  assert.match((await engine(1).api('GET', '/info')).json.Warnings[0], /^WARNING: The cluster store etcd:\S+ does not answer /)
  const removed = engine(2).api('DELETE', '/containers/two?force=1')
  await engine(1).kill9()
  await engine(1).start()
  assert.match(await names(1), /net1 overlay global/)
  assert.equal((await removed).status, 204)
  assert.match((await engine(1).causeway('cluster', 'ls')).out, /store etcd:\S+ is down: /)
  await lab.etcd.start()
  await until(
    'what was removed meanwhile is gone everywhere',
    async () => {
      const found = (await engine(3).api('GET', '/networks/net1')).json
      return Object.keys(found?.Containers ?? { x: 1, y: 1 }).length === 1
    },
    30_000,
  )
  await until(
    'changes work again',
    async () => (await engine(1).api('POST', '/networks/create', { Name: 'yes', Driver: 'overlay' })).status === 201,
    20_000,
  )
  assert.equal((await engine(1).api('GET', '/networks/unheard')).status, 404)
  assert.equal((await engine(1).causeway('network', 'ls')).err, '')
  await engine(3).kill9()
  await engine(3).start()
  assert.match(await names(3), /yes overlay global/, 'an engine that answers knows the networks of its cluster')
})

test('a host that died is down, keeps what it has, and is evicted', { skip }, async () => {
  await engine(2).run('lost', { networks: ['net1'] })
  const { self } = JSON.parse(await ok(2, 'cluster', 'ls', '--format', 'json')) as { self: string }
  const up = await engine(1).causeway('cluster', 'evict', '-f=false', self)
  assert.notEqual(up.code, 0)
  await engine(2).kill9()
  await until('its lease ends', async () => /\bdown\b/.test(await ok(1, 'cluster', 'ls')), 30_000)
  assert.match(await ok(1, 'cluster', 'verify'), /All hosts that are up agree with the store; not asked, because down: host2\.\n$/)
  const held = await engine(3).api('DELETE', '/networks/net1')
  assert.match(held.json.message, /which is down: `causeway cluster evict /)
  const evicted = await engine(1).api('POST', `/causeway/v1/cluster/hosts/${self}/evict`)
  assert.deepEqual([evicted.status, evicted.json.endpoints], [200, 1], evicted.text)
  await engine(1).run('lost', { networks: ['net1'] })
  await engine(2).start()
  const status = async () =>
    JSON.parse(await ok(2, 'cluster', 'ls', '--format', 'json')) as { joined: boolean; conflicts: { name: string }[] }
  await until('it is back, and says what it lost', async () => (await status()).conflicts.some((c) => c.name === 'lost'), 20_000)
})

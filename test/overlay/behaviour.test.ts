/**
 * What everyone may expect of overlay networks between whole engines, and is not shown by the experiment of the seeds: names of every kind,
 * isolation also on the legs outside, the way out and published ports, options, live changes, what goes with the last container, and a host
 * that is cut off or dies. `docs/overlay.md` says which test shows what.
 */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { etcdMissing } from '../../testkit/etcd.ts'
import { type Lab, startLab } from '../../testkit/lab.ts'
import { until } from '../../testkit/until.ts'

const skip = etcdMissing() ?? false
let lab: Lab

const engine = (n: number) => lab.engines[n - 1] as Lab['engines'][number]
const inspect = async (n: number, name: string) => (await engine(n).api('GET', `/containers/${name}/json`)).json
const networkOf = async (name: string) => (await engine(1).api('GET', `/networks/${name}`)).json
const outputOf = async (n: number, container: string, ...cmd: string[]) => (await engine(n).exec(container, ...cmd)).out
const pings = async (n: number, container: string, to: string) =>
  (await engine(n).exec(container, 'ping', '-c', '1', '-W', '1', to)).code === 0
/** A command in the network's namespace on a host. */
const inside = async (n: number, network: string, command: string) =>
  (await engine(n).sh(`nsenter --net=${engine(n).dir}/run/netns/1-${(await networkOf(network)).Id.slice(0, 10)} ${command}`)).out

async function create(name: string, ...args: string[]): Promise<void> {
  const made = await engine(1).causeway('network', 'create', '-d', 'overlay', ...args, name)
  assert.equal(made.code, 0, made.err)
  for (const { api } of lab.engines) await until('the network is known', async () => (await api('GET', `/networks/${name}`)).status === 200)
}

/** `causeway run` with options; containers sleep. */
async function run(n: number, name: string, ...options: string[]): Promise<void> {
  const ran = await engine(n).causeway('run', '-d', '--name', name, '--stop-signal', 'KILL', ...options, 'busybox', 'sleep', '600')
  assert.equal(ran.code, 0, ran.err)
}

before(async () => {
  if (skip) return
  lab = await startLab({ hosts: 3, flags: ['--cluster-store-opt', 'kv.patience=1', '--cluster-store-opt', 'discovery.ttl=10'] })
  await create('net')
  await create('other')
  await run(1, 'aa', '--network', 'net', '--network-alias', 'web', '-p', '8088:80')
  await run(2, 'bb', '--network', 'net', '--network-alias', 'web')
  await run(1, 'stranger', '--network', 'other')
})
after(async () => {
  if (!skip) assert.deepEqual(await lab.close(), [], 'nothing is left behind')
})

test('names: the container’s, with the network’s, its short id, aliases of several, and back from the address', { skip }, async () => {
  const { Id } = await inspect(2, 'bb')
  for (const name of ['bb', 'bb.net', Id.slice(0, 12), 'web']) assert.ok(await pings(1, 'aa', name), name)
  const addresses = (await outputOf(1, 'aa', 'nslookup', 'web', '127.0.0.11')).match(/^Address.*10\.0\.0\.\d+$/gm)
  assert.deepEqual(addresses?.map((line) => line.split(' ').at(-1)).toSorted(), ['10.0.0.2', '10.0.0.3'])
  assert.match(await outputOf(1, 'aa', 'nslookup', '10.0.0.3', '127.0.0.11'), /bb\.net/)
  assert.equal(await outputOf(1, 'aa', 'cat', '/etc/resolv.conf').then((text) => /^nameserver 127\.0\.0\.11$/m.test(text)), true)
  const { Id: own } = await inspect(1, 'aa')
  assert.match(await outputOf(1, 'aa', 'cat', '/etc/hosts'), new RegExp(`^10\\.0\\.0\\.2\\s+${own.slice(0, 12)}$`, 'm'))
  assert.doesNotMatch(await outputOf(1, 'stranger', 'nslookup', 'bb', '127.0.0.11'), /^Address.*10\.0\.0\./m)
})

test('another network is not reached, neither by its addresses nor by the legs on docker_gwbridge', { skip }, async () => {
  const legOf = async (name: string) => /inet (172\.\d+\.\d+\.\d+)/.exec(await outputOf(1, name, 'ip', '-4', 'addr', 'show', 'eth1'))?.[1]
  const leg = await legOf('stranger')
  assert.ok(leg !== undefined && leg !== (await legOf('aa')))
  const { IPAddress } = (await inspect(1, 'stranger')).NetworkSettings.Networks.other
  for (const to of [leg, IPAddress]) assert.equal(await pings(1, 'aa', to), false, to)
})

test('the way out is masqueraded, a published port answers from outside, and docker0 has no part in it', { skip }, async () => {
  assert.ok(await pings(1, 'aa', '10.10.117.31'), 'another host')
  await engine(1).exec('aa', 'sh', '-c', 'mkdir -p /tmp/w && echo here >/tmp/w/index.html && httpd -p 80 -h /tmp/w')
  const answer = () => lab.net.router.sh('curl -s -m 3 http://10.10.126.101:8088/')
  await until('the published port answers', async () => (await answer()).out === 'here\n')
  assert.equal((await engine(1).sh('ip -o link show master docker0')).out, '')
})

test('options: internal has no way out, an MTU of the underlay, subnet, range, reserved and fixed addresses', { skip }, async () => {
  await create('inner', '--internal')
  await run(2, 'closed', '--network', 'inner')
  assert.doesNotMatch(await outputOf(2, 'closed', 'ip', 'route'), /default|eth1/)
  assert.match((await engine(2).exec('closed', 'ping', '-c', '1', '-W', '1', '10.10.126.101')).err, /Network is unreachable/)
  const range = ['--subnet', '10.50.0.0/24', '--ip-range', '10.50.0.128/25', '--aux-address', 'r=10.50.0.128', '--gateway', '10.50.0.254']
  await create('chosen', ...range, '-o', 'com.docker.network.driver.mtu=1400')
  await run(1, 'first', '--network', 'chosen')
  await run(2, 'fixed', '--network', 'chosen', '--ip', '10.50.0.9')
  assert.equal((await inspect(1, 'first')).NetworkSettings.Networks.chosen.IPAddress, '10.50.0.129')
  assert.match(await outputOf(1, 'first', 'ip', 'link', 'show', 'eth0'), / mtu 1350 /)
  for (const to of ['10.50.0.9', 'fixed', '10.50.0.254']) assert.ok(await pings(1, 'first', to), to)
  for (const name of ['closed', 'fixed']) await engine(2).api('DELETE', `/containers/${name}?force=1`)
  await engine(1).api('DELETE', '/containers/first?force=1')
})

test('connect and disconnect of a running container are seen on the other host at once', { skip }, async () => {
  assert.equal((await engine(1).causeway('network', 'connect', '--alias', 'guest', 'net', 'stranger')).code, 0)
  assert.ok(await pings(2, 'bb', 'guest'))
  assert.ok(await pings(1, 'stranger', 'bb'))
  assert.equal((await engine(1).causeway('network', 'disconnect', 'net', 'stranger')).code, 0)
  await until('its name is gone', async () => !(await pings(2, 'bb', 'guest')))
  assert.doesNotMatch(await inside(2, 'net', 'bridge fdb show dev vxlan0'), /02:42:0a:00:00:04/)
})

test('with the last container of a host its namespace goes, with the network its subnet and VXLAN id are free again', {
  skip,
}, async () => {
  await create('brief')
  const { Id, IPAM } = await networkOf('brief')
  await run(3, 'only', '--network', 'brief')
  const vni = /vxlan id (\d+)/.exec(await inside(3, 'brief', 'ip -d link show vxlan0'))?.[1]
  await engine(3).api('DELETE', '/containers/only?force=1')
  const place = `${engine(3).dir}/run/netns/1-${Id.slice(0, 10)}`
  await until('the namespace is gone', async () => (await engine(3).sh(`ls ${place}`)).code !== 0)
  assert.equal((await engine(2).causeway('network', 'rm', 'brief')).code, 0)
  await create('later')
  assert.deepEqual((await networkOf('later')).IPAM.Config, IPAM.Config)
  await run(3, 'again', '--network', 'later')
  assert.equal(/vxlan id (\d+)/.exec(await inside(3, 'later', 'ip -d link show vxlan0'))?.[1], vni)
})

test('a host that is cut off altogether and comes back: paths are there at once, what was made meanwhile follows', { skip }, async () => {
  const cut = `nft 'add table ip cut; add chain ip cut f { type filter hook forward priority 0; }; add rule ip cut f ip saddr 10.10.105.71 drop; add rule ip cut f ip daddr 10.10.105.71 drop'`
  assert.equal((await lab.net.router.sh(cut)).code, 0)
  assert.equal(await pings(1, 'aa', 'bb'), false)
  assert.match(await outputOf(2, 'bb', 'nslookup', 'aa', '127.0.0.11'), /10\.0\.0\.2$/m, 'known names stay known')
  await run(1, 'meanwhile', '--network', 'net')
  assert.equal((await lab.net.router.sh('nft delete table ip cut')).code, 0)
  assert.ok(await pings(1, 'aa', 'bb'), 'the first packet')
  await until('what was made meanwhile is known', () => pings(2, 'bb', 'meanwhile'), 20_000)
})

test('the last remote member’s host dies: its ways stay until it is evicted, then nothing of it is left anywhere', { skip }, async () => {
  await create('lonely')
  await run(1, 'stays', '--network', 'lonely')
  await run(3, 'dies', '--network', 'lonely')
  const { ip } = engine(3).host
  const ways = async () =>
    (await inside(1, 'lonely', 'bridge fdb show dev vxlan0')).split('\n').filter((line) => line.includes(` dst ${ip} `))
  assert.equal((await ways()).length, 2, 'its MAC, and everybody')
  const { self } = (await engine(3).api('GET', '/causeway/v1/cluster')).json as { self: string }
  await engine(3).kill9()
  assert.equal((await ways()).length, 2, 'a dead engine cuts nobody off')
  assert.ok(await pings(1, 'stays', 'dies'))
  const refused = await engine(2).causeway('network', 'rm', 'lonely')
  assert.match(refused.err, /has active endpoints \(.*name:"dies" id:"\w{12}" on host host3/)
  assert.equal((await engine(1).causeway('cluster', 'evict', '-f', self)).code, 0)
  await until('its ways are gone', async () => (await ways()).length === 0)
  assert.equal(await inside(1, 'lonely', 'ip neigh show dev vxlan0 nud permanent'), '')
  assert.doesNotMatch(await outputOf(1, 'stays', 'nslookup', 'dies', '127.0.0.11'), /^Address.*10\.\d+\.\d+\.3$/m)
  assert.equal((await engine(1).causeway('cluster', 'verify')).code, 0)
  await engine(1).api('DELETE', '/containers/stays?force=1')
  assert.equal((await engine(2).causeway('network', 'rm', 'lonely')).code, 0, 'nothing keeps the network')
  await engine(3).start()
})

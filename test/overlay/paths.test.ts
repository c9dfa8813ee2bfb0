/** Paths between whole engines: UDP port 4789 and the largest packet, probed both ways; a bad one is named; networks keep to the smallest. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { etcdMissing } from '../../testkit/etcd.ts'
import { type Lab, startLab } from '../../testkit/lab.ts'
import { until } from '../../testkit/until.ts'

const skip = etcdMissing() ?? false
let lab: Lab

before(async () => {
  if (!skip) lab = await startLab({ hosts: 2 })
})
after(async () => {
  if (!skip) assert.deepEqual(await lab.close(), [], 'nothing is left behind')
})

interface Path {
  readonly from: string
  readonly to: string
  readonly state: string
  readonly mtu: number
  readonly need: number
}

const engine = (i: number) => lab.engines[i] as Lab['engines'][number]
const verify = async (i = 0): Promise<Path[]> => (await engine(i).api('GET', '/causeway/v1/cluster/verify')).json.paths
const short = (paths: readonly Path[]) => paths.map(({ from, to, state, mtu }) => `${from} ${to} ${state} ${mtu}`)
const mtuOf = async (i: number, container: string) =>
  / mtu (\d+) /.exec((await engine(i).exec(container, 'ip', 'link', 'show', 'eth0')).out)?.[1]
const towardsHost2 = (mtu: string) => lab.net.router.sh(`ip route replace 10.10.105.0/24 dev h1 ${mtu}`)
const GOOD = ['host1 host2 ok 1500', 'host2 host1 ok 1500']

test('paths that are good', { skip }, async () => {
  assert.deepEqual(short(await verify()), GOOD)
  const { code, out } = await engine(1).causeway('cluster', 'verify')
  assert.equal(code, 0, out)
  assert.match(out, /^host1 +host2 +1500 +1500 +ok$/m)
  assert.match((await engine(1).causeway('info')).out, /^ Cluster Store: etcd:\/\/.*\n Cluster Advertise: 10\.10\.105\.71:2377$/m)
})

test('a firewall on the receiving host, one way; then both ways: named in verify and in the log', { skip }, async () => {
  const rules = (i: number) =>
    engine(i).sh('nft "add table ip t; add chain ip t in { type filter hook input priority 0; }; add rule ip t in udp dport 4789 drop"')
  assert.equal((await rules(1)).err, '')
  assert.deepEqual(short(await verify()), ['host1 host2 blocked 0', 'host2 host1 ok 1500'])
  const one = await engine(0).causeway('cluster', 'verify')
  assert.equal(one.code, 1)
  assert.match(one.out, /^UDP port 4789 is blocked from host1 to host2, not back: /m)
  assert.match(engine(0).log(), /UDP port 4789 does not pass between this host and host2/)
  assert.equal((await rules(0)).err, '')
  assert.deepEqual(short(await verify(1)), ['host1 host2 blocked 0', 'host2 host1 blocked 0'])
  assert.match((await engine(0).causeway('cluster', 'verify')).out, /^UDP port 4789 is blocked both ways between host\d and host\d: /m)
  for (const i of [0, 1]) await engine(i).sh('nft delete table ip t')
  assert.deepEqual(short(await verify()), GOOD)
})

test('a router with a small MTU: found to the byte, named for running containers, kept to by new ones', { skip }, async () => {
  await engine(0).api('POST', '/networks/create', { Name: 'net1', Driver: 'overlay' })
  await until('the network is there', async () => (await engine(1).api('GET', '/networks/net1')).status === 200)
  await engine(0).run('old1', { networks: ['net1'] })
  await engine(1).run('old2', { networks: ['net1'] })
  assert.equal(await mtuOf(0, 'old1'), '1450')
  await towardsHost2('mtu lock 1404')
  assert.deepEqual(short(await verify()), ['host1 host2 mtu 1404', 'host2 host1 ok 1500'])
  assert.match(
    (await engine(0).causeway('cluster', 'verify')).out,
    /^packets from host1 to host2 pass up to 1404 bytes and containers make 1500: /m,
  )
  // host2 has heard it from host1's record
  await until('host1 says its path', async () => {
    const hosts = (await engine(1).api('GET', '/causeway/v1/cluster')).json.hosts as { name: string; mtu: number }[]
    return hosts.find(({ name }) => name === 'host1')?.mtu === 1404
  })
  await engine(1).run('new2', { networks: ['net1'] })
  assert.equal(await mtuOf(1, 'new2'), '1354')
  await towardsHost2('')
  assert.deepEqual(short(await verify()), GOOD)
})

test('hosts with different interfaces: containers anywhere keep to the smallest', { skip }, async () => {
  await engine(0).stop()
  await lab.net.router.sh('ip link set h0 mtu 1300')
  await engine(0).sh('ip link set eth0 mtu 1300')
  await engine(0).start()
  await until('host1 says its MTU', async () => {
    const hosts = (await engine(1).api('GET', '/causeway/v1/cluster')).json.hosts as { name: string; mtu: number; state: string }[]
    return hosts.some(({ name, mtu, state }) => name === 'host1' && mtu === 1300 && state === 'up')
  })
  await engine(1).run('small2', { networks: ['net1'] })
  assert.equal(await mtuOf(1, 'small2'), '1250')
  await engine(1).run('small1', { networks: ['net1'] })
  assert.equal((await engine(1).exec('small2', 'ping', '-c', '1', '-W', '2', '-s', '1222', 'old1')).code, 0)
})

test('namespaces of containers and of networks are listed and entered', { skip }, async () => {
  const cw = (command: string) => engine(0).sh(`${process.execPath} ${new URL('../../bin/causeway', import.meta.url).pathname} ${command}`)
  const { out } = await cw('netns ls')
  assert.match(out, /^old1 +[0-9a-f]{12} +net1 +\S+\/netns\/[0-9a-f]{12}$/m)
  assert.match(out, /^- +- +net1 +\S+\/netns\/1-[0-9a-f]{10}$/m)
  assert.match((await cw('netns exec net1 ip -br link')).out, /^vxlan0\b/m)
  assert.match((await cw('netns exec net1 brctl show')).out, /^br0\t+8000\.\w+\t+no\t+veth\d+\n(\t+veth\d+\n)*\t+vxlan0\n$/m)
  assert.match((await cw('netns exec old1 ip -br link')).out, /^eth0@/m)
  assert.equal((await cw("netns exec old1 sh -c 'exit 7'")).code, 7)
  assert.equal((await cw('netns exec old1 no-such-program')).code, 127)
  assert.match((await cw('netns exec docker_gwbridge ip link')).err, /has no namespace of its own on this host/)
})

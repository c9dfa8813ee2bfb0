/** Paths between whole engines whose underlay is IPv6: probed as those over IPv4 are, and what containers get from it. */
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
  if (!skip) lab = await startLab({ hosts: 2, ipv6Underlay: true })
})
after(async () => {
  if (!skip) assert.deepEqual(await lab.close(), [], 'nothing is left behind')
})

interface Path {
  readonly from: string
  readonly to: string
  readonly state: string
  readonly mtu: number
}

const engine = (i: number) => lab.engines[i] as Lab['engines'][number]
const verify = async (i = 0): Promise<string[]> => {
  const { text, json } = await engine(i).api('GET', '/causeway/v1/cluster/verify')
  assert.ok(Array.isArray(json?.paths), text)
  return (json.paths as Path[]).map(({ from, to, state, mtu }) => `${from} ${to} ${state} ${mtu}`)
}
const mtuOf = async (i: number, container: string) =>
  / mtu (\d+) /.exec((await engine(i).exec(container, 'ip', 'link', 'show', 'eth0')).out)?.[1]
const towardsHost2 = (mtu: string) => lab.net.router.sh(`ip -6 route replace fd10:10:105::/64 dev h1 metric 256 ${mtu}`)
const GOOD = ['host1 host2 ok 1500', 'host2 host1 ok 1500']

test('good paths over IPv6, and containers that talk by them', { skip }, async () => {
  await until('both are members', async () => (await engine(0).api('GET', '/causeway/v1/cluster')).json.hosts.length === 2)
  assert.deepEqual(await verify(), GOOD)
  const { hosts } = (await engine(1).api('GET', '/causeway/v1/cluster')).json as { hosts: { address: string }[] }
  assert.deepEqual(hosts.map(({ address }) => address).toSorted(), ['fd10:10:105::71', 'fd10:10:126::101'])
  await engine(0).api('POST', '/networks/create', { Name: 'net1', Driver: 'overlay' })
  await until('the network is there', async () => (await engine(1).api('GET', '/networks/net1')).status === 200)
  await engine(0).run('old1', { networks: ['net1'] })
  await engine(1).run('old2', { networks: ['net1'] })
  assert.equal(await mtuOf(0, 'old1'), '1430')
  const ping = await engine(0).exec('old1', 'ping', '-c', '1', '-W', '2', '-s', '1402', 'old2')
  assert.equal(ping.code, 0, ping.out)
  assert.deepEqual(await verify(1), GOOD, 'with tunnels on the same port')
})

test('a firewall on the receiving host: one way, and named in the log', { skip }, async () => {
  const rules = 'add table ip6 t; add chain ip6 t in { type filter hook input priority 0; }; add rule ip6 t in udp dport 4789 drop'
  assert.equal((await engine(1).sh(`nft "${rules}"`)).err, '')
  assert.deepEqual(await verify(), ['host1 host2 blocked 0', 'host2 host1 ok 1500'])
  assert.match(engine(0).log(), /UDP port 4789 does not pass between this host and host2/)
  await engine(1).sh('nft delete table ip6 t')
  assert.deepEqual(await verify(), GOOD)
})

test('a router with a small MTU: found to the byte, kept to by new containers; at IPv6’s least too', { skip }, async () => {
  for (const mtu of [1404, 1280]) {
    assert.equal((await towardsHost2(`mtu lock ${mtu}`)).err, '')
    assert.deepEqual(await verify(), [`host1 host2 mtu ${mtu}`, 'host2 host1 ok 1500'])
    await until('host1 says its path', async () => {
      const hosts = (await engine(1).api('GET', '/causeway/v1/cluster')).json.hosts as { name: string; mtu: number }[]
      return hosts.find(({ name }) => name === 'host1')?.mtu === mtu
    })
    await engine(1).run(`new${mtu}`, { networks: ['net1'] })
    assert.equal(await mtuOf(1, `new${mtu}`), String(mtu - 70))
    const ping = await engine(1).exec(`new${mtu}`, 'ping', '-c', '1', '-W', '2', '-s', String(mtu - 70 - 28), 'old1')
    assert.equal(ping.code, 0, ping.out)
  }
  await towardsHost2('')
  assert.deepEqual(await verify(), GOOD)
})

/**
 * A host that is cut off from the store, evicted, and comes back when names and addresses of its containers belong to others: they leave
 * their places, and come back with other addresses where they may. Its containers run on all the while.
 */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { etcdMissing } from '../../testkit/etcd.ts'
import { type Lab, startLab } from '../../testkit/lab.ts'
import { until } from '../../testkit/until.ts'
import { judgeState, judgeTraffic } from './cluster-judge.ts'

const skip = etcdMissing() ?? false
let lab: Lab

const engine = (n: number) => lab.engines[n - 1] as Lab['engines'][number]
const inspect = async (n: number, name: string) => (await engine(n).api('GET', `/containers/${name}/json`)).json
const placeOf = async (n: number, name: string, network: string) => (await inspect(n, name)).NetworkSettings.Networks[network]

async function run(n: number, name: string, network: string, ip?: string): Promise<void> {
  const settings = ip === undefined ? {} : { IPAMConfig: { IPv4Address: ip } }
  await engine(n).run(name, { networks: [network], body: { NetworkingConfig: { EndpointsConfig: { [network]: settings } } } })
}

/** Of host1's tables, every line that was seen for the address and its MAC. */
async function waysTo(networkId: string, mac: string): Promise<string> {
  return (await engine(1).sh(`nsenter --net=${engine(1).dir}/run/netns/1-${networkId.slice(0, 10)} bridge fdb show | grep ${mac}`)).out
}

before(async () => {
  if (skip) return
  lab = await startLab({ hosts: 3, flags: ['--cluster-store-opt', 'kv.patience=1'] })
  const create = (body: object) => engine(1).api('POST', '/networks/create', { Driver: 'overlay', ...body })
  assert.equal((await create({ Name: 'net' })).status, 201)
  assert.equal((await create({ Name: 'chosen', IPAM: { Config: [{ Subnet: '10.40.0.0/24' }] } })).status, 201)
  for (const { api } of lab.engines) await until('chosen is known', async () => (await api('GET', '/networks/chosen')).status === 200)
  await run(1, 'witness', 'net')
  await run(2, 'plain', 'net')
  await run(2, 'named', 'net')
  await run(2, 'lucky', 'net')
  await run(2, 'fixed', 'chosen', '10.40.0.40')
})
after(async () => {
  if (!skip) assert.deepEqual(await lab.close(), [], 'nothing is left behind')
})

test('a host comes back after its eviction: no address has two owners, every container runs on, and it is said what became of it', {
  skip,
}, async () => {
  const pids = await Promise.all(['plain', 'named', 'lucky', 'fixed'].map(async (name) => (await inspect(2, name)).State.Pid))
  const lost = await placeOf(2, 'plain', 'net')
  const { NetworkID: networkId, MacAddress: mac } = lost
  const cut = await engine(2).sh(
    `nft 'add table inet cut; add chain inet cut in { type filter hook input priority -300; }; add chain inet cut out { type filter hook output priority -300; };
      add rule inet cut in tcp sport 2379 drop; add rule inet cut out tcp dport 2379 drop'`,
  )
  assert.equal(cut.code, 0, cut.err)
  const self = (await engine(2).api('GET', '/causeway/v1/cluster')).json.self as string
  const evicted = await engine(1).api('POST', `/causeway/v1/cluster/hosts/${self}/evict?force=1`)
  assert.deepEqual([evicted.status, evicted.json.endpoints], [200, 4], evicted.text)
  await run(3, 'taker', 'net')
  assert.equal((await placeOf(3, 'taker', 'net')).IPAddress, lost.IPAddress, 'the lowest free address')
  await run(3, 'named', 'net')
  await run(3, 'owner', 'chosen', '10.40.0.40')
  const isTakers = async () => !(await waysTo(networkId, mac)).includes(` dst ${engine(2).host.ip} `)
  await until('the way leads to the new owner', isTakers)
  const since = Math.floor(Date.now() / 1000)
  assert.equal((await engine(2).sh('nft delete table inet cut')).code, 0)
  let strayed = 0
  await until(
    'it is back, and has said what became of its containers',
    async () => {
      if (!(await isTakers())) strayed++
      const { conflicts } = (await engine(2).api('GET', '/causeway/v1/cluster')).json as { conflicts: { outcome: string }[] }
      return conflicts.length === 3 && conflicts.every(({ outcome }) => outcome !== '')
    },
    20_000,
  ).finally(async () => {
    if (process.env['DEBUG']) console.error(await (await engine(2).api('GET', '/causeway/v1/cluster')).text, engine(2).log().slice(-9000))
  })
  assert.equal(strayed, 0, 'times that the address led to the host that had lost it')
  const { conflicts } = (await engine(2).api('GET', '/causeway/v1/cluster')).json as { conflicts: { name: string; outcome: string }[] }
  const outcomes = new Map(conflicts.map(({ name, outcome }) => [name, outcome]))
  const { IPAddress: now } = await placeOf(2, 'plain', 'net')
  assert.notEqual(now, lost.IPAddress)
  assert.equal(outcomes.get('plain'), `it has ${now} now`)
  assert.match(outcomes.get('named') ?? '', /^it was taken off network net: rename it, then "causeway network connect net named"/)
  assert.match(
    outcomes.get('fixed') ?? '',
    /^it was taken off network chosen: "causeway network connect chosen fixed" .* with another address$/,
  )
  assert.equal(await placeOf(2, 'named', 'net'), undefined)
  assert.equal(await placeOf(2, 'fixed', 'chosen'), undefined)
  for (const [i, name] of ['plain', 'named', 'lucky', 'fixed'].entries())
    assert.equal((await inspect(2, name)).State.Pid, pids[i], `${name} runs on`)
  const text = (await engine(2).api('GET', `/events?since=${since - 1}&until=${Math.floor(Date.now() / 1000) + 1}`)).text
  for (const name of ['plain', 'named', 'fixed']) {
    const { Id } = await inspect(2, name)
    assert.match(text, new RegExp(`"Action":"disconnect".*"container":"${Id}"`), name)
  }
  assert.match(engine(2).log(), /its place on the network belongs to another one/)
  assert.match(
    (await engine(2).causeway('cluster', 'ls')).out,
    /^conflict: plain: .* belongs to another container now; it has [\d.]+ now$/m,
  )
})

test('what was taken off comes back as it was told to', { skip }, async () => {
  assert.equal((await engine(2).causeway('rename', 'named', 'renamed')).code, 0)
  const renamed = await engine(2).causeway('network', 'connect', 'net', 'renamed')
  assert.equal(renamed.code, 0, renamed.err)
  const fixed = await engine(2).causeway('network', 'connect', '--ip', '10.40.0.41', 'chosen', 'fixed')
  assert.equal(fixed.code, 0, fixed.err)
  assert.equal((await engine(2).exec('renamed', 'ping', '-c', '1', '-W', '2', 'named')).code, 0)
  assert.equal((await engine(2).exec('fixed', 'ping', '-c', '1', '-W', '2', 'owner')).code, 0)
})

test('afterwards engines, store and kernels agree, and everyone reaches everyone', { skip }, async () => {
  let last: Awaited<ReturnType<typeof judgeState>> | undefined
  await until(
    'all is well',
    async () => {
      last = await judgeState(lab)
      return last.wrong.length === 0
    },
    15_000,
  ).catch((error: Error) => assert.fail(`${error.message}: ${last?.wrong.join('\n')}`))
  const { truth } = last as NonNullable<typeof last>
  assert.deepEqual(truth.attached.map((a) => `${a.container}@host${a.host + 1}`).toSorted(), [
    'fixed@host2',
    'lucky@host2',
    'named@host3',
    'owner@host3',
    'plain@host2',
    'renamed@host2',
    'taker@host3',
    'witness@host1',
  ])
  assert.deepEqual(await judgeTraffic(lab, truth), [])
})

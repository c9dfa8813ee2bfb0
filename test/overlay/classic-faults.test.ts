/**
 * Faults of the overlay that Docker had until 20.10, which must not come back. Shown here: names before paths, and the first second lost;
 * entries deleted by hand; threads left in a container's namespace. The others stand where their circumstances are made:
 *
 *   an owner that dies without goodbye         test/cluster/model-engines.test.ts, mesh.test.ts
 *   removals while the store is away, a wiped
 *   store, store errors said as such           store-away.test.ts
 *   addresses that move                        mesh.test.ts, sandboxes.test.ts
 *   duplicate names                            races.test.ts
 *   store operations, parallel starts, own
 *   containers in vxlan0's table               crowd.test.ts (cluster-judge.ts compares the tables entry by entry)
 *   figures                                    bench/overlay.ts
 */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { readdirSync, readlinkSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { etcdMissing } from '../../testkit/etcd.ts'
import { type Lab, startLab } from '../../testkit/lab.ts'
import { until } from '../../testkit/until.ts'
import { judgeState } from './cluster-judge.ts'

const skip = etcdMissing() ?? false
let lab: Lab

const engine = (n: number) => lab.engines[n - 1] as Lab['engines'][number]

/** What a host has published of its kernel. */
async function kernelOf(n: number): Promise<{ entries: number; repairs: number } | undefined> {
  const { json } = await engine(1).api('GET', `/causeway/v1/cluster/hosts/host${n}`)
  return json.kernel[0]
}

/** A container whose own first pings were answered has gone on to sleep; else it has ended. */
const hasPinged = (n: number, name: string) =>
  until(`${name} has pinged`, async () => (await engine(n).exec(name, 'cat', '/proc/1/cmdline')).out.startsWith('sleep'))

before(async () => {
  if (skip) return
  lab = await startLab({ hosts: 3 })
  assert.equal((await engine(1).api('POST', '/networks/create', { Name: 'net', Driver: 'overlay' })).status, 201)
  for (const { api } of lab.engines) await until('the network is known', async () => (await api('GET', '/networks/net')).status === 200)
  await engine(1).run('first', { networks: ['net'] })
  await engine(2).run('eager', { networks: ['net'] })
})
after(async () => {
  if (!skip) assert.deepEqual(await lab.close(), [], 'nothing is left behind')
})

test('a name is told when its path is there: who asks all the time has its very first ping answered, and the way back too', {
  skip,
}, async () => {
  for (let round = 0; round < 5; round++) {
    const name = `comes${round}`
    // a lost first packet is repeated after a second by ARP: then this ping fails
    const script = `i=0; while ! nslookup ${name} 127.0.0.11 2>/dev/null | sed 1,2d | grep -q ^Address; do i=$((i+1)); [ $i -gt 3000 ] && exit 9; done
      ping -c 1 -W 1 ${name}`
    const eager = engine(2).exec('eager', 'sh', '-c', script)
    await engine(1).run(name, { networks: ['net'], cmd: ['sh', '-c', 'ping -c 1 -W 1 eager && exec sleep 600'] })
    const { code, out, err } = await eager
    assert.equal(code, 0, out + err)
    assert.equal((await engine(1).exec(name, 'ping', '-c', '1', '-W', '1', 'eager')).code, 0)
    await hasPinged(1, name)
  }
})

test('a host that joins late reaches everyone with its first packet', { skip }, async () => {
  await engine(3).run('late', { networks: ['net'], cmd: ['sh', '-c', 'ping -c 1 -W 1 first && ping -c 1 -W 1 comes0 && exec sleep 600'] })
  assert.equal((await engine(3).exec('late', 'ping', '-c', '1', '-W', '1', 'comes1')).code, 0)
  await hasPinged(3, 'late')
})

test('neighbour and tunnel entries deleted by hand come back', { skip }, async () => {
  const id = (await engine(2).api('GET', '/networks/net')).json.Id as string
  const inside = (command: string) => engine(2).sh(`nsenter --net=${engine(2).dir}/run/netns/1-${id.slice(0, 10)} sh -c '${command}'`)
  const flushed = await inside(
    'ip neigh flush dev vxlan0 nud permanent; for m in $(bridge fdb show dev vxlan0 | grep " dst " | cut -d" " -f1); do bridge fdb del $m dev vxlan0 self; done',
  )
  assert.equal(flushed.code, 0, flushed.err)
  await until('everything is as the cluster says', async () => (await judgeState(lab)).wrong.length === 0, 10_000)
  assert.equal((await engine(2).exec('eager', 'ping', '-c', '1', '-W', '1', 'first')).code, 0)
  assert.match((await engine(2).causeway('repairs')).out, /Z +\S+ of network net +neighbour is missing on vxlan0 +put right$/m)
  await until('the repair is published', async () => ((await kernelOf(2))?.repairs ?? 0) > 0, 10_000)
  const table = await engine(1).causeway('cluster', 'inspect', 'host2')
  assert.match(table.out, /^ {2}NETWORK +ENTRIES +HASH +REVISION +PUBLISHED +REPAIRS\n {2}net +\d+ +[0-9a-f]{16} +\d+ +\S+Z +[1-9]\d*$/m)
})

test('entries that are gone while nobody can repair them: verify does not say that all is well, and does when they are back', {
  skip,
}, async () => {
  const id = (await engine(2).api('GET', '/networks/net')).json.Id as string
  await until('host2 has published', async () => (await kernelOf(2))?.entries === 8, 10_000)
  process.kill(engine(2).pid(), 'SIGSTOP')
  try {
    const flushed = await engine(2).sh(
      `nsenter --net=${engine(2).dir}/run/netns/1-${id.slice(0, 10)} ip neigh flush dev vxlan0 nud permanent`,
    )
    assert.equal(flushed.code, 0, flushed.err)
    const verified = await engine(1).causeway('cluster', 'verify', '--timeout', '2')
    assert.equal(verified.code, 1)
    assert.match(verified.out, /^net +\d+ +[0-9a-f]{16} +host2 +silent +- +0$/m)
    assert.match(verified.out, /^net +\d+ +[0-9a-f]{16} +host1 +agrees +\d+ +0$/m)
  } finally {
    process.kill(engine(2).pid(), 'SIGCONT')
  }
  await until('it is put right', async () => (await engine(1).causeway('cluster', 'verify')).code === 0, 15_000)
  assert.equal((await engine(1).causeway('cluster', 'verify', '--full')).code, 0)
})

test('no thread of an engine has stayed in a namespace of containers', { skip }, () => {
  for (const { pid, host } of lab.engines) {
    const own = readlinkSync(host.netns)
    const threads = readdirSync(`/proc/${pid()}/task`)
    assert.ok(threads.length > 3)
    for (const thread of threads) assert.equal(readlinkSync(`/proc/${pid()}/task/${thread}/ns/net`), own)
  }
})

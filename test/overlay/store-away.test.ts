/**
 * The store in trouble, seen from whole engines: quorum lost, one host cut off from it, history compacted meanwhile, restored from an old
 * snapshot, wiped. One pair of containers talks all the while and must not lose a packet.
 */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { etcdMissing } from '../../testkit/etcd.ts'
import { type Lab, startLab } from '../../testkit/lab.ts'
import { systemEnv } from '../../testkit/lab-net.ts'
import { until } from '../../testkit/until.ts'
import { judgeState, judgeTraffic } from './cluster-judge.ts'

const skip = etcdMissing() ?? false
let lab: Lab
let pinging: ChildProcess
let pinged = ''

const engine = (n: number) => lab.engines[n - 1] as Lab['engines'][number]
const start = (n: number, name: string) => engine(n).run(name, { networks: ['net'] })
const remove = async (n: number, name: string) =>
  assert.equal((await engine(n).api('DELETE', `/containers/${name}?force=1`)).status, 204, `rm ${name}`)

before(async () => {
  if (skip) return
  const flags = ['--cluster-store-opt', 'kv.patience=1', '--cluster-store-opt', 'discovery.ttl=10']
  lab = await startLab({ hosts: 3, etcdMembers: 3, flags })
  assert.equal((await engine(1).api('POST', '/networks/create', { Name: 'net', Driver: 'overlay' })).status, 201)
  for (const { api } of lab.engines) await until('the network is known', async () => (await api('GET', '/networks/net')).status === 200)
  await start(1, 'talks')
  await start(2, 'listens')
  await start(3, 'third')
  const { json } = await engine(1).api('GET', '/containers/talks/json')
  const target = (await engine(2).api('GET', '/containers/listens/json')).json.NetworkSettings.Networks['net'].IPAddress as string
  const argv = [`--net=/proc/${json.State.Pid}/ns/net`, 'ping', '-n', '-q', '-i', '0.05', target]
  pinging = spawn('nsenter', argv, { env: systemEnv, stdio: ['ignore', 'pipe', 'ignore'] })
  pinging.stdout?.on('data', (chunk: Buffer) => {
    pinged += chunk.toString()
  })
})
after(async () => {
  if (skip) return
  pinging.kill('SIGKILL')
  assert.deepEqual(await lab.close(), [], 'nothing is left behind')
})

/** Running names are known and answer, whatever the store does. */
async function namesGoOn(): Promise<void> {
  for (const [n, from, to] of [
    [1, 'talks', 'listens'],
    [2, 'listens', 'third'],
    [3, 'third', 'talks'],
  ] as const) {
    const { code, out } = await engine(n).exec(from, 'ping', '-c', '1', '-W', '2', to)
    assert.equal(code, 0, `${from} to ${to}: ${out}`)
  }
}

/** A network, a container and a connection are refused with a sentence about the store, and leave nothing. */
async function isRefused(n: number): Promise<void> {
  const network = await engine(n).api('POST', '/networks/create', { Name: 'never', Driver: 'overlay' })
  assert.equal(network.status, 503, network.text)
  assert.match(network.json.message, /cluster store etcd:/)
  await assert.rejects(start(n, `refused${n}`), /: 503 .*cluster store/)
  await remove(n, `refused${n}`)
  // and it is no reason to hide what is there
  assert.match((await engine(n).causeway('network', 'ls')).out, /\bnet +overlay +global/)
}

/** Engines, store and kernels say the same again, and these are the containers. */
async function converges(containers: readonly string[], gone: readonly string[] = []): Promise<void> {
  let last: Awaited<ReturnType<typeof judgeState>> | undefined
  await until(
    'all is well again',
    async () => {
      last = await judgeState(lab).catch(() => undefined)
      return last?.wrong.length === 0
    },
    40_000,
  ).catch((error: Error) => assert.fail(`${error.message}: ${last?.wrong.join('\n')}`))
  const { truth } = last as NonNullable<typeof last>
  assert.deepEqual(truth.attached.map((a) => a.container).toSorted(), [...containers].toSorted())
  assert.deepEqual(await judgeTraffic(lab, truth, gone), [])
}

test('quorum lost: what runs goes on, changes are refused with 503, removals are made up for, an engine starts', { skip }, async () => {
  const [one, two] = lab.etcd.members
  await start(2, 'leaves')
  await start(3, 'half')
  await Promise.all([one?.kill9(), two?.kill9()])
  const stopped = await engine(2).api('POST', '/containers/leaves/stop?t=0')
  assert.equal(stopped.status, 204, stopped.text)
  await isRefused(1)
  await namesGoOn()
  await remove(2, 'leaves')
  // killed while the store is asked to forget the endpoint, whose interface has gone already
  const disconnecting = engine(3)
    .api('POST', '/networks/net/disconnect', { Container: 'half' })
    .catch(() => undefined)
  await until('the interface has gone', async () => !/eth0/.test((await engine(3).exec('half', 'ip', 'addr')).out))
  await engine(3).kill9()
  await disconnecting
  await engine(3).start()
  assert.deepEqual((await engine(3).api('GET', '/containers/half/json')).json.NetworkSettings.Networks, {})
  await namesGoOn()
  await lab.etcd.start()
  await converges(['talks', 'listens', 'third'], ['leaves', 'half'])
})

test('a host that cannot reach the store, while history is compacted: it is refused, the others go on, and it makes up for all of it', {
  skip,
}, async () => {
  const cut = await engine(3).sh(
    `nft 'add table inet cut; add chain inet cut in { type filter hook input priority -300; }; add chain inet cut out { type filter hook output priority -300; };
      add rule inet cut in tcp sport 2379 drop; add rule inet cut out tcp dport 2379 drop'`,
  )
  assert.equal(cut.code, 0, cut.err)
  await isRefused(3)
  await start(1, 'comes')
  await start(2, 'passes')
  await remove(2, 'passes')
  assert.equal((await engine(2).api('POST', '/networks/create', { Name: 'other', Driver: 'overlay' })).status, 201)
  const [status] = JSON.parse(await lab.etcd.ctl('endpoint', 'status', '-w', 'json'))
  await lab.etcd.ctl('compact', String(status.Status.header.revision))
  await namesGoOn()
  assert.equal((await engine(3).sh('nft delete table inet cut')).code, 0)
  await converges(['talks', 'listens', 'third', 'comes'], ['passes'])
})

test('restored from an old snapshot: what runs is written again, what was removed since does not come back', { skip }, async () => {
  const file = `${engine(1).dir}/snapshot`
  await start(3, 'old')
  await lab.etcd.save(file)
  await start(2, 'new')
  await remove(3, 'old')
  await lab.etcd.restore(file)
  await namesGoOn()
  await converges(['talks', 'listens', 'third', 'comes', 'new'], ['old'])
  rmSync(file)
})

test('wiped: networks, endpoints and names are written again by those that have them', { skip }, async () => {
  await lab.etcd.wipe()
  await namesGoOn()
  await converges(['talks', 'listens', 'third', 'comes', 'new'])
  await start(3, 'after')
  await converges(['talks', 'listens', 'third', 'comes', 'new', 'after'])
})

test('not one packet between running containers was lost meanwhile', { skip }, async () => {
  pinging.kill('SIGINT')
  await until('ping has summed up', () => /packet loss/.test(pinged))
  assert.match(pinged, /\d{3,} packets transmitted.* 0% packet loss/, pinged)
})

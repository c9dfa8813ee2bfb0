/**
 * An encrypted network of two whole engines: what is on the wire, and a change of keys under traffic. Needs ESP and AES-GCM in the kernel:
 * `test/vm/overlay.test.ts` runs it in one that has them. Where they are missing, the refusal is what is tested.
 */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { after, before, test } from 'node:test'
import { ipsecMissing } from '../../src/kernel/xfrm.ts'
import { etcdMissing } from '../../testkit/etcd.ts'
import { type Lab, startLab } from '../../testkit/lab.ts'
import { systemEnv } from '../../testkit/lab-net.ts'
import { until } from '../../testkit/until.ts'

const noStore = etcdMissing() ?? false
const missing = ipsecMissing()
const skip = noStore || (missing ?? false)
/** Emulated machines are slow. */
const PATIENT = { ms: 90_000 }
const SECRET = '/network/causeway/encryption/secret'
let lab: Lab

before(async () => {
  if (!noStore) lab = await startLab({ hosts: missing === undefined ? 2 : 1, flags: ['--cluster-store-opt', 'kv.patience=20'] })
})
after(async () => {
  if (!noStore) assert.deepEqual(await lab.close(), [], 'nothing is left behind')
})

const engine = (i: number) => lab.engines[i] as Lab['engines'][number]
const createNetwork = () => engine(0).api('POST', '/networks/create', { Name: 'net1', Driver: 'overlay', Options: { encrypted: '' } })

/** A program that runs until it is interrupted; what it has printed. */
function running(argv: readonly string[]): { readonly child: ChildProcess; readonly out: () => string; end(): Promise<string> } {
  const child = spawn(argv[0] as string, argv.slice(1), { env: systemEnv, stdio: ['ignore', 'pipe', 'pipe'] })
  let out = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      out += chunk.toString()
    })
  const gone = new Promise<void>((resolve) => child.once('close', () => resolve()))
  return {
    child,
    out: () => out,
    async end() {
      child.kill('SIGINT')
      await gone
      return out
    },
  }
}

/** The SPI that a host sends under. */
async function spiOf(i: number): Promise<string> {
  const [from, to] = [lab.net.hosts[i]?.ip, lab.net.hosts[1 - i]?.ip]
  const { out } = await engine(i).sh('ip xfrm state')
  return new RegExp(`src ${from} dst ${to}\\n\\tproto esp spi (0x[0-9a-f]+)`).exec(out)?.[1] ?? ''
}

test('without ESP in the kernel the network is refused with the reason, and nothing of it is left', {
  skip: noStore || (missing === undefined ? 'this kernel has ESP' : false),
}, async () => {
  const made = await createNetwork()
  assert.equal(made.status, 501, made.text)
  assert.match(made.json.message, /^network net1 cannot be encrypted on host 10\.10\.126\.101: this kernel (cannot encrypt|has no IPsec)/)
  assert.equal((await engine(0).api('GET', '/networks/net1')).status, 404)
  assert.equal(await lab.etcd.ctl('get', '--prefix', '/network/causeway/networks/', '--keys-only'), '')
})

test('containers of two engines talk, there is ESP on the wire, and new keys lose no packet', { skip }, async (t) => {
  const made = await createNetwork()
  assert.equal(made.status, 201, made.text)
  await until('the network is known', async () => (await engine(1).api('GET', '/networks/net1')).status === 200, PATIENT)
  await Promise.all([engine(0).run('c1x', { networks: ['net1'] }), engine(1).run('c2x', { networks: ['net1'] })])
  const [one, two] = await Promise.all(
    [0, 1].map(async (i) => (await engine(i).api('GET', `/containers/c${i + 1}x/json`)).json.NetworkSettings),
  )
  const inside = (command: string) => engine(0).host.enter('nsenter', `--net=${one.SandboxKey}`, ...command.split(' '))
  const address = two.Networks.net1.IPAddress as string
  await until(
    'the first answer',
    async () => (await engine(0).sh(`nsenter --net=${one.SandboxKey} ping -n -c 1 -W 2 ${address}`)).code === 0,
    PATIENT,
  )

  // etcd's own connections are TCP, path probes are UDP to another port
  const capture = running(
    lab.net.router.enter('tcpdump', '-nn', '-l', '--immediate-mode', '-i', 'h0', 'esp or icmp or udp port 4790 or udp port 500'),
  )
  await until('tcpdump listens', () => capture.out().includes('listening on'), PATIENT)
  const pinging = running(inside(`ping -n -i 0.25 ${address}`))
  await until('pings are answered', () => pinging.out().includes('icmp_seq=4'), PATIENT)
  const before = [await spiOf(0), await spiOf(1)]
  assert.ok(
    before.every((spi) => spi !== ''),
    `associations: ${before}`,
  )

  const { secrets } = JSON.parse(await lab.etcd.ctl('get', SECRET, '--print-value-only')) as { secrets: string[] }
  await lab.etcd.ctl('put', SECRET, JSON.stringify({ secrets: [randomBytes(32).toString('hex'), secrets[0]] }))
  for (const i of [0, 1]) await until(`host${i + 1} sends under its new key`, async () => (await spiOf(i)) !== before[i], PATIENT)
  const seen = pinging.out().length
  await until('pings go on', () => / time=.* time=/s.test(pinging.out().slice(seen)), PATIENT)

  const summary = /(\d+) packets transmitted, (\d+) received/.exec(await pinging.end())
  assert.equal(summary?.[1], summary?.[2], `no packet is lost: ${summary?.[0]}`)
  const wire = await capture.end()
  t.diagnostic(`${summary?.[0]}, ${wire.match(/ESP\(/g)?.length} ESP packets seen`)
  for (const spi of [...before, await spiOf(0), await spiOf(1)]) assert.ok(wire.includes(`ESP(spi=${spi}`), `${spi} is on the wire`)
  assert.doesNotMatch(wire, /UDP|VXLAN|ICMP/)
})

test('with the last container the associations and policies go', { skip }, async () => {
  await Promise.all([0, 1].map((i) => engine(i).api('DELETE', `/containers/c${i + 1}x?force=1`)))
  for (const i of [0, 1])
    await until(`host${i + 1} has none`, async () => (await engine(i).sh('ip xfrm state; ip xfrm policy')).out === '', PATIENT)
  assert.equal((await engine(1).api('DELETE', '/networks/net1')).status, 204)
})

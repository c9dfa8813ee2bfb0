/**
 * Two real dockerds and a Causeway host on one LAN, with macvlan networks of the same subnet and the IPAM driver `causeway`: one pool, one
 * owner of each address, whatever dies meanwhile.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { etcdMissing } from '../../testkit/etcd.ts'
import { isolate } from '../../testkit/isolated.ts'
import { type Lab, startLab } from '../../testkit/lab.ts'
import { type Dockerd, findDockerd, startDockerd } from './dockerd.ts'

isolate()
const root = findDockerd()
const missing = root === undefined ? 'no packages docker.io and containerd to unpack' : etcdMissing()
if (missing !== undefined && process.env['CI'] === '1') throw new Error(missing)
const options = missing === undefined ? {} : { skip: missing }

const SUBNET = '192.168.50.0/24'
const LAN = ['-o', 'parent=eth0', '--ipam-driver', 'causeway', '--subnet', SUBNET]

let lab: Lab
let docker: Dockerd[] = []

before(async () => {
  if (missing !== undefined) return
  lab = await startLab({ hosts: 3, flat: true, flags: ['--docker-plugins', '/run/docker/plugins', '--bridge', 'none'] })
  docker = await Promise.all([0, 1].map((n) => startDockerd(root as string, lab.engines[n]?.host.enter)))
})

after(async () => {
  if (missing !== undefined) return
  await Promise.all(docker.map((d) => d.close()))
  assert.deepEqual(
    (await lab.close()).filter((line) => !/docker0|nft: /.test(line)),
    [],
  )
})

const engine = (n: number) => lab.engines[n] as Lab['engines'][number]
/** `docker` of a host: of its dockerd (0, 1), or of the Causeway engine (2). */
const run = (n: number, ...args: string[]) => (n === 2 ? engine(2).docker(...args) : (docker[n] as Dockerd).docker(...args))

async function must(n: number, ...args: string[]): Promise<string> {
  const { code, out, err } = await run(n, ...args)
  assert.equal(code, 0, `docker ${args.join(' ')} on host ${n + 1}: ${err}\n${engine(n).log().slice(-2000)}`)
  return out.trim()
}

const start = (n: number, name: string, ...more: string[]) =>
  must(n, 'run', '-d', '--name', name, '--network', 'lan', ...more, 'busybox', 'sleep', '3600')
const addressOf = (n: number, name: string) => must(n, 'inspect', '-f', '{{.NetworkSettings.Networks.lan.IPAddress}}', name)

async function pings(n: number, from: string, to: string): Promise<boolean> {
  for (let i = 0; i < 5; i++) if ((await run(n, 'exec', from, 'ping', '-c1', '-W1', to)).code === 0) return true
  return false
}

interface Pool {
  readonly subnet: string
  readonly gateway: string
  readonly networks: readonly { readonly host: string }[]
  readonly addresses: readonly { readonly ip: string; readonly host: string; readonly name: string }[]
}

/** The pool as any host shows it. */
async function pool(): Promise<Pool | undefined> {
  const { json } = await engine(2).api('GET', '/causeway/v1/cluster/pools')
  return (json as Pool[]).find(({ subnet }) => subnet === SUBNET)
}

async function until(isTrue: () => boolean | Promise<boolean>, what: string, ms = 20_000): Promise<void> {
  const end = Date.now() + ms
  while (!(await isTrue())) {
    if (Date.now() > end) throw new Error(`waited ${ms / 1000} s for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

test(
  'the same subnet on three hosts is one pool: containers started at once have addresses of their own and reach each other',
  options,
  async () => {
    await must(0, 'network', 'create', '-d', 'causeway-macvlan', ...LAN, '--gateway', '192.168.50.1', 'lan')
    await must(1, 'network', 'create', '-d', 'macvlan', ...LAN, 'lan')
    await engine(2).run('image', { host: { NetworkMode: 'none' } }) // brings busybox
    await must(2, 'network', 'create', '-d', 'macvlan', ...LAN, 'lan')
    const all = [0, 1, 2].flatMap((n) => ['a', 'b'].map((letter) => ({ n, name: `${letter}${n}` })))
    await Promise.all(all.map(({ n, name }) => start(n, name)))
    const addresses = await Promise.all(all.map(({ n, name }) => addressOf(n, name)))
    assert.equal(new Set(addresses).size, 6, addresses.join(' '))
    const ring = await Promise.all(all.map(({ n, name }, i) => pings(n, name, addresses[(i + 3) % 6] as string)))
    assert.deepEqual(ring, Array(6).fill(true))
    const found = await pool()
    assert.deepEqual([found?.networks.length, found?.gateway, found?.addresses.length], [3, '192.168.50.1', 6])
    assert.deepEqual(found?.addresses.map(({ ip }) => ip).toSorted(), addresses.toSorted())
    assert.match((await engine(0).causeway('ipam', 'ls')).out, /192\.168\.50\.0\/24 +192\.168\.50\.1 +3 +host1 host2 host3 +6/)
    assert.match((await engine(0).causeway('ipam', 'ls', SUBNET)).out, /192\.168\.50\.\d+ +b2 +lan +host3/)
  },
)

test('an address of another host is refused with Docker’s text; given back it can be had', options, async () => {
  const taken = await addressOf(0, 'a0')
  for (const n of [1, 2])
    assert.match(
      (await run(n, 'run', '-d', '--network', 'lan', '--ip', taken, 'busybox', 'true')).err,
      new RegExp(`Address already in use: ${taken}`),
    )
  await must(0, 'rm', '-f', 'a0')
  await start(1, 'a1x', '--ip', taken)
  assert.equal(await addressOf(1, 'a1x'), taken)
  assert.match((await run(2, 'run', '-d', '--network', 'lan', '--ip', taken, 'busybox', 'true')).err, /Address already in use/)
  await must(1, 'rm', '-f', 'a1x')
  await start(2, 'a2x', '--ip', taken)
  assert.ok(await pings(1, 'a1', taken))
  await must(2, 'rm', '-f', 'a2x')
})

test('default pools of different hosts are different ones, and go with their networks', options, async () => {
  await Promise.all([
    must(0, 'network', 'create', '-d', 'causeway', '--ipam-driver', 'causeway', 'p0'),
    must(1, 'network', 'create', '--ipam-driver', 'causeway', 'p1'),
  ])
  await must(2, 'network', 'create', '--ipam-driver', 'causeway', 'p2')
  const subnetOf = (n: number) => must(n, 'network', 'inspect', '-f', '{{(index .IPAM.Config 0).Subnet}}', `p${n}`)
  const subnets = await Promise.all([0, 1, 2].map(subnetOf))
  assert.equal(new Set(subnets).size, 3, subnets.join(' '))
  assert.match(
    (await run(0, 'network', 'create', '-d', 'causeway', '--ipam-driver', 'causeway', '--subnet', subnets[0] as string, 'again')).err,
    /overlapping IPv4|Pool overlaps/,
  )
  await Promise.all([0, 1, 2].map((n) => must(n, 'network', 'rm', `p${n}`)))
  const { json } = await engine(2).api('GET', '/causeway/v1/cluster/pools')
  assert.deepEqual(
    (json as Pool[]).map(({ subnet }) => subnet),
    [SUBNET],
  )
})

test('kill -9 of the plugin while containers start: never two owners, and nothing is left over', options, async () => {
  const names = Array.from({ length: 4 }, (_, i) => `k${i}`)
  const starting = Promise.all(
    [0, 1].flatMap((n) =>
      names.map((name) => run(n, 'run', '-d', '--name', `${name}${n}`, '--network', 'lan', 'busybox', 'sleep', '3600')),
    ),
  )
  await until(async () => ((await pool())?.addresses.filter(({ host }) => host === 'host1').length ?? 0) > 2, 'the first starts')
  await engine(0).kill9()
  await engine(0).start()
  const ran = await starting
  assert.ok(ran.filter(({ code }) => code === 0).length >= 4, ran.map(({ err }) => err).join(' '))
  const of = async (n: number) => (await must(n, 'ps', '-q')).split('\n').filter((id) => id !== '')
  const addresses = (await Promise.all([0, 1, 2].map(async (n) => Promise.all((await of(n)).map((id) => addressOf(n, id))))))
    .flat()
    .filter((ip) => ip.startsWith('192.168.50.'))
  assert.equal(new Set(addresses).size, addresses.length, addresses.join(' '))
  const held = new Set((await pool())?.addresses.map(({ ip }) => ip))
  assert.deepEqual(
    addresses.filter((ip) => !held.has(ip)),
    [],
  )
  for (const n of [0, 1]) await must(n, 'rm', '-f', ...names.map((name) => `${name}${n}`))
  const left = async () => (await pool())?.addresses.length
  await until(
    async () => (await left()) === 5,
    `what the killed plugin was giving out to come back: ${JSON.stringify((await pool())?.addresses)}`,
  )
})

test('dockerd started anew, and killed: its pool stays, what its containers had comes back', options, async () => {
  const d = docker[1] as Dockerd
  await d.kill9()
  assert.equal((await pool())?.addresses.filter(({ host }) => host === 'host2').length, 2, 'as long as it is dead')
  await d.start()
  assert.equal((await pool())?.networks.length, 3, 'Docker asks for no pool again')
  await until(async () => (await pool())?.addresses.filter(({ host }) => host === 'host2').length === 0, 'what its containers had')
  await must(1, 'start', 'a1', 'b1')
  assert.equal((await pool())?.addresses.filter(({ host }) => host === 'host2').length, 2)
  assert.ok(await pings(0, 'b0', await addressOf(1, 'a1')))
})

test('the store away: traffic goes on, starts are refused with a sentence, what stops is given back later', options, async () => {
  const [a, b] = [await addressOf(1, 'a1'), await addressOf(0, 'b0')]
  await lab.etcd.stop()
  assert.ok(await pings(0, 'b0', a))
  const refused = await run(0, 'run', '-d', '--name', 'late', '--network', 'lan', 'busybox', 'true')
  assert.match(refused.err, /cluster store .*(changes have to wait|does not answer|unreachable|cannot be reached)/)
  await must(0, 'rm', '-f', 'late', 'b0')
  await lab.etcd.start()
  await until(async () => (await engine(2).api('GET', '/causeway/v1/cluster/pools')).status === 200, 'the store')
  await until(async () => !((await pool())?.addresses.some(({ ip }) => ip === b) ?? true), 'the address given back')
  await start(0, 'b0', '--ip', b)
  assert.ok(await pings(1, 'a1', await addressOf(0, 'b0')))
})

test('a host that is dead keeps its addresses until it is evicted, and takes part again when it is back', options, async () => {
  const b1 = await addressOf(1, 'b1')
  await engine(1).kill9()
  assert.match((await run(2, 'run', '-d', '--network', 'lan', '--ip', b1, 'busybox', 'true')).err, /Address already in use/)
  const inspected = await engine(0).causeway('cluster', 'inspect', 'host2')
  assert.match(inspected.out, new RegExp(`${SUBNET} +${b1.replaceAll('.', '\\.')}`), inspected.err)
  const evicted = await engine(0).causeway('cluster', 'evict', '--force', 'host2')
  assert.match(evicted.out, /2 addresses of pools freed/, evicted.err)
  await start(2, 'heir', '--ip', b1)
  await engine(1).start()
  await until(async () => (await pool())?.addresses.filter(({ host }) => host === 'host2').length === 1, 'the one that is free')
  assert.match((await engine(1).causeway('cluster', 'ls')).out, /conflict/)
  await start(1, 'd1')
  const all = (await pool())?.addresses.map(({ ip }) => ip) ?? []
  assert.equal(new Set(all).size, all.length)
  await must(2, 'rm', '-f', 'heir')
})

test('the pool goes with the last network on the last host', options, async () => {
  await Promise.all([must(0, 'rm', '-f', 'b0'), must(1, 'rm', '-f', 'a1', 'b1', 'd1'), must(2, 'rm', '-f', 'a2', 'b2', 'image')])
  await must(0, 'network', 'rm', 'lan')
  await must(2, 'network', 'rm', 'lan')
  assert.deepEqual([(await pool())?.networks.length, (await pool())?.addresses], [1, []])
  await must(1, 'network', 'rm', 'lan')
  assert.equal(await pool(), undefined)
})

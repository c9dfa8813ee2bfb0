/** Two real dockerds and a Causeway host on one overlay network: by address, with published ports, and with the plugin killed. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { etcdMissing } from '../../testkit/etcd.ts'
import { isolate } from '../../testkit/isolated.ts'
import { type Lab, startLab } from '../../testkit/lab.ts'
import { until } from '../../testkit/until.ts'
import { type Dockerd, findDockerd, startDockerd } from './dockerd.ts'

isolate()
const root = findDockerd()
const missing = root === undefined ? 'no packages docker.io and containerd to unpack' : etcdMissing()
if (missing !== undefined && process.env['CI'] === '1') throw new Error(missing)
const options = missing === undefined ? {} : { skip: missing }

let lab: Lab
let docker: Dockerd[] = []

before(async () => {
  if (missing !== undefined) return
  lab = await startLab({ hosts: 3, flags: ['--docker-plugins', '/run/docker/plugins', '--bridge', 'none'] })
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

async function must(n: number, ...args: string[]): Promise<string> {
  const { code, out, err } = await (docker[n] as Dockerd).docker(...args)
  assert.equal(code, 0, `docker ${args.join(' ')}: ${err}\n${engine(n).log().slice(-2000)}`)
  return out.trim()
}

const addressOf = (n: number, name: string, network = 'net1') =>
  must(n, 'inspect', '-f', `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`, name)

/** From a container of a dockerd (0, 1) or of the Causeway host (2). True as soon as one of five packets is answered. */
async function pings(n: number, from: string, to: string): Promise<boolean> {
  const args = ['exec', from, 'ping', '-c1', '-W1', to]
  for (let i = 0; i < 5; i++)
    if ((n === 2 ? await engine(2).docker(...args) : await (docker[n] as Dockerd).docker(...args)).code === 0) return true
  return false
}

/** A call of Docker's to the IPAM driver on a host. */
async function ipam(n: number, method: string, body: object): Promise<{ PoolID?: string; Address?: string; Error?: string }> {
  const { out } = await engine(n).host.sh(
    `curl -s -m 20 --unix-socket /run/docker/plugins/causeway.sock -d '${JSON.stringify(body)}' http://plugin/IpamDriver.${method}`,
  )
  return JSON.parse(out)
}

const CREATE = ['network', 'create', '-d', 'causeway-overlay', '--ipam-driver', 'causeway', '--ipam-opt', 'causeway.network=net1']

test('one network of the cluster on two dockerds and a Causeway host: every container reaches every other', options, async () => {
  await must(0, ...CREATE, 'net1')
  await until('the network on host 1', async () => (await engine(1).api('GET', '/networks/net1')).status === 200, 15_000)
  await must(1, ...CREATE, 'net1')
  await must(
    0,
    'run',
    '-d',
    '--name',
    'aa',
    '--network',
    'net1',
    '-p',
    '8080:80',
    'busybox',
    'sh',
    '-c',
    'mkdir /w; echo hello >/w/index.html; httpd -f -p 80 -h /w',
  )
  await must(1, 'run', '-d', '--name', 'bb', '--network', 'net1', 'busybox', 'sleep', '3600')
  await until('the network on host 2', async () => (await engine(2).api('GET', '/networks/net1')).status === 200, 15_000)
  await engine(2).run('cc', { networks: ['net1'] })
  const a = await addressOf(0, 'aa')
  const b = await addressOf(1, 'bb')
  const c = (await engine(2).api('GET', '/containers/cc/json')).json.NetworkSettings.Networks.net1.IPAddress as string
  assert.equal(new Set([a, b, c]).size, 3, `${a} ${b} ${c}`)
  for (const [n, from, to] of [
    [0, 'aa', b],
    [1, 'bb', a],
    [0, 'aa', c],
    [1, 'bb', c],
    [2, 'cc', a],
    [2, 'cc', b],
  ] as const)
    assert.ok(await pings(n, from, to), `${from} to ${to}`)
})

test('a published port answers, from another host', options, async () => {
  const { out, err } = await engine(2).host.sh(`curl -s -m 5 http://${engine(0).host.ip}:8080/`)
  assert.equal(out, 'hello\n', err)
})

test('kill -9 of the plugin: traffic goes on, new containers come, and what went meanwhile is given back', options, async () => {
  const b = await addressOf(1, 'bb')
  // Docker has asked for an address and not yet made the endpoint
  const { PoolID } = await ipam(0, 'RequestPool', { Options: { 'causeway.network': 'net1' } })
  const { Address } = await ipam(0, 'RequestAddress', { PoolID })
  await engine(0).kill9()
  assert.ok(await pings(0, 'aa', b), 'while the plugin is dead')
  const removing = must(0, 'rm', '-f', 'aa') // dockerd waits for the plugin
  await engine(0).start()
  await removing
  await must(0, 'run', '-d', '--name', 'dd', '--network', 'net1', 'busybox', 'sleep', '3600')
  assert.ok(await pings(0, 'dd', b), 'a new one')
  const again = { PoolID, Address: Address?.replace(/\/.*/, '') }
  assert.match((await ipam(1, 'RequestAddress', again)).Error ?? '', /Address already in use/, 'the claim outlives the plugin')
  await ipam(0, 'ReleaseAddress', again)
  assert.equal((await ipam(1, 'RequestAddress', again)).Address, Address)
  await ipam(1, 'ReleaseAddress', again)
})

test('removal: nothing of Docker’s stays in the cluster', options, async () => {
  await must(0, 'rm', '-f', 'dd')
  await must(1, 'rm', '-f', 'bb')
  await must(1, 'network', 'rm', 'net1')
  await must(0, 'network', 'rm', 'net1')
  const { json } = await engine(2).api('GET', '/networks/net1')
  assert.deepEqual(
    Object.values(json.Containers as Record<string, { Name: string }>).map(({ Name }) => Name),
    ['cc'],
  )
  await engine(2).docker('rm', '-f', 'cc')
  assert.equal((await engine(2).docker('network', 'rm', 'net1')).code, 0)
})

test('`docker network create -d causeway-overlay net2` on both dockerds, and nothing more', options, async () => {
  await must(0, 'network', 'create', '-d', 'causeway-overlay', '--label', 'shop=1', 'net2')
  await until('the network on host 1', async () => (await engine(1).api('GET', '/networks/net2')).status === 200, 15_000)
  await must(1, 'network', 'create', '-d', 'causeway-overlay', '--label', 'shop=1', 'net2')
  const made = (n: number) => must(n, 'network', 'inspect', '-f', '{{.IPAM.Driver}} {{.Labels}}', 'net2').catch(() => '')
  await until('addresses of the cluster on the second host', async () => (await made(1)).startsWith('causeway'), 15_000)
  assert.equal(await made(1), 'causeway map[shop:1]')
  assert.equal(await made(0), 'default map[shop:1]', 'the first one keeps its network')
  for (const [n, name] of [
    [0, 'a2'],
    [0, 'b2'],
    [1, 'c2'],
    [1, 'd2'],
  ] as const)
    await must(n, 'run', '-d', '--name', name, '--network', 'net2', 'busybox', 'sleep', '3600')
  await engine(2).run('e2', { networks: ['net2'] })
  const a = await addressOf(0, 'a2', 'net2')
  const b = await addressOf(0, 'b2', 'net2')
  const c = await addressOf(1, 'c2', 'net2')
  const d = await addressOf(1, 'd2', 'net2')
  const e = (await engine(2).api('GET', '/containers/e2/json')).json.NetworkSettings.Networks.net2.IPAddress as string
  assert.equal(new Set([a, b, c, d, e]).size, 5, `${a} ${b} ${c} ${d} ${e}`)
  for (const [n, from, to] of [
    [0, 'a2', c],
    [1, 'd2', b],
    [1, 'c2', e],
    [2, 'e2', a],
  ] as const)
    assert.ok(await pings(n, from, to), `${from} to ${to}`)
  await Promise.all([must(0, 'rm', '-f', 'a2', 'b2'), must(1, 'rm', '-f', 'c2', 'd2'), engine(2).docker('rm', '-f', 'e2')])
  await must(1, 'network', 'rm', 'net2')
  await must(0, 'network', 'rm', 'net2')
  assert.equal((await engine(2).api('GET', '/networks/net2')).status, 404)
})

test('an address that is taken elsewhere is refused with the name of its holder', options, async () => {
  await must(0, 'network', 'create', '-d', 'causeway-overlay', '--subnet', '10.77.0.0/24', 'net3')
  await until('the network on host 2', async () => (await engine(2).api('GET', '/networks/net3')).status === 200, 15_000)
  await engine(2).run('e3', { networks: ['net3'] })
  const refused = await (docker[0] as Dockerd).docker('run', '--rm', '--network', 'net3', '--ip', '10.77.0.128', 'busybox', 'true')
  assert.match(refused.err, /Address already in use: 10\.77\.0\.128 of overlay network net3 belongs to e3 on host host3/)
  await must(0, 'run', '--rm', '--network', 'net3', 'busybox', 'true')
  await engine(2).docker('rm', '-f', 'e3')
  await must(0, 'network', 'rm', 'net3')
})

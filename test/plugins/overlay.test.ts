/** Two real dockerds and a Causeway host on one overlay network: by address, with published ports, and with the plugin killed. */
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

const addressOf = (n: number, name: string) => must(n, 'inspect', '-f', '{{(index .NetworkSettings.Networks "net1").IPAddress}}', name)

/** From a container of a dockerd (0, 1) or of the Causeway host (2). True as soon as one of five packets is answered. */
async function pings(n: number, from: string, to: string): Promise<boolean> {
  const args = ['exec', from, 'ping', '-c1', '-W1', to]
  for (let i = 0; i < 5; i++)
    if ((n === 2 ? await engine(2).docker(...args) : await (docker[n] as Dockerd).docker(...args)).code === 0) return true
  return false
}

async function until(isTrue: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const end = Date.now() + 15_000
  while (!(await isTrue())) {
    if (Date.now() > end) throw new Error(`waited 15 s for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

const CREATE = ['network', 'create', '-d', 'causeway-overlay', '--ipam-driver', 'causeway', '--ipam-opt', 'causeway.network=net1']

test('one network of the cluster on two dockerds and a Causeway host: every container reaches every other', options, async () => {
  await must(0, ...CREATE, 'net1')
  await until(async () => (await engine(1).api('GET', '/networks/net1')).status === 200, 'the network on host 1')
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
  await until(async () => (await engine(2).api('GET', '/networks/net1')).status === 200, 'the network on host 2')
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
  await engine(0).kill9()
  assert.ok(await pings(0, 'aa', b), 'while the plugin is dead')
  const removing = must(0, 'rm', '-f', 'aa') // dockerd waits for the plugin
  await engine(0).start()
  await removing
  await must(0, 'run', '-d', '--name', 'dd', '--network', 'net1', 'busybox', 'sleep', '3600')
  assert.ok(await pings(0, 'dd', b), 'a new one')
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

/** Containers on several networks, live connect and disconnect, the modes without a network of their own, and what is kept apart. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { Site, until } from './site.ts'

isolate()
const lab = await startEngineLab()
const site = new Site(lab)
const lan = site.machine('lan0', '192.0.2', '2001:db8:ff')
after(async () => {
  site.close()
  assert.deepEqual(await lab.close(), [])
})

async function network(name: string, subnets: string[] = [], body: Record<string, unknown> = {}): Promise<void> {
  const IPAM = { Config: subnets.map((Subnet) => ({ Subnet })) }
  const EnableIPv6 = subnets.some((s) => s.includes(':'))
  const reply = await lab.api('POST', '/networks/create', { Name: name, EnableIPv6, IPAM, ...body })
  assert.equal(reply.status, 201, reply.text)
}
async function connect(container: string, net: string, EndpointConfig: Record<string, unknown> = {}): Promise<void> {
  const reply = await lab.api('POST', `/networks/${net}/connect`, { Container: container, EndpointConfig })
  assert.equal(reply.status, 200, reply.text)
}
async function disconnect(container: string, net: string): Promise<void> {
  const reply = await lab.api('POST', `/networks/${net}/disconnect`, { Container: container })
  assert.equal(reply.status, 200, reply.text)
}
async function remove(containers: string[], networks: string[] = []): Promise<void> {
  for (const name of containers) await lab.api('DELETE', `/containers/${name}?force=1`)
  for (const name of networks) assert.equal((await lab.api('DELETE', `/networks/${name}`)).status, 204, name)
}
/** Gateways of the default routes, IPv4 and IPv6. */
async function defaults(container: string): Promise<string> {
  const place = await site.inside(container)
  const of = async (family: string) => (await site.ip(place, `${family} route show default`)).map((r) => `${r.gateway}@${r.dev}`).join(',')
  return `${await of('-4')} ${await of('-6')}`.trim()
}
/** A link that was disconnected may linger for a moment under another name, without addresses. */
const ifnames = async (container: string) => {
  const links = await site.ip(await site.inside(container), 'addr')
  return links
    .filter((l) => !l.ifname.startsWith('gone') || l.addr_info.length > 0)
    .map((l) => l.ifname)
    .sort()
}
const settings = (nets: Record<string, unknown>) => ({ NetworkingConfig: { EndpointsConfig: nets } })

test('interfaces take the lowest free ethN, and a freed number is used again', async () => {
  for (const n of ['a', 'b', 'c', 'd']) await network(`num-${n}`)
  await lab.run('num', { networks: ['num-a', 'num-b', 'num-c'] })
  assert.deepEqual(await ifnames('num'), ['eth0', 'eth1', 'eth2', 'lo'])
  await disconnect('num', 'num-b')
  assert.deepEqual(await ifnames('num'), ['eth0', 'eth2', 'lo'])
  await connect('num', 'num-d')
  assert.deepEqual(await ifnames('num'), ['eth0', 'eth1', 'eth2', 'lo'])
  await remove(['num'], ['num-a', 'num-b', 'num-c', 'num-d'])
})

test('the default route goes by gw-priority, then internal networks last, both families first, then by name; each family for itself', async () => {
  await network('gw-z4', ['10.110.1.0/24'])
  await network('gw-m4', ['10.110.2.0/24'])
  await network('gw-in', ['10.110.3.0/24'], { Internal: true })
  await network('gw-x46', ['10.110.4.0/24', 'fd10:4::/64'])
  await network('gw-b6', ['fd10:5::/64'], { EnableIPv4: false })
  await lab.run('gw', { networks: ['gw-in'] })
  assert.equal(await defaults('gw'), '')
  await connect('gw', 'gw-z4')
  assert.equal(await defaults('gw'), '10.110.1.1@eth1')
  await connect('gw', 'gw-m4')
  assert.equal(await defaults('gw'), '10.110.2.1@eth2', 'gw-m4 comes before gw-z4')
  await connect('gw', 'gw-b6')
  assert.equal(await defaults('gw'), '10.110.2.1@eth2 fd10:5::1@eth3', 'IPv6 by the only network that has it')
  await connect('gw', 'gw-x46')
  assert.equal(await defaults('gw'), '10.110.4.1@eth4 fd10:4::1@eth4', 'a network with both families comes first')
  await disconnect('gw', 'gw-z4')
  await connect('gw', 'gw-z4', { GwPriority: 1 })
  assert.equal(await defaults('gw'), '10.110.1.1@eth1 fd10:4::1@eth4', 'a priority wins, in the family it has')
  await disconnect('gw', 'gw-x46')
  assert.equal(await defaults('gw'), '10.110.1.1@eth1 fd10:5::1@eth3')
  await disconnect('gw', 'gw-z4')
  await disconnect('gw', 'gw-m4')
  await disconnect('gw', 'gw-b6')
  assert.equal(await defaults('gw'), '')
  await disconnect('gw', 'gw-in')
  // a disconnected interface has lost its name and goes a moment later
  assert.deepEqual(
    (await ifnames('gw')).filter((name) => !name.startsWith('gone')),
    ['lo'],
  )
  await remove(['gw'], ['gw-z4', 'gw-m4', 'gw-in', 'gw-x46', 'gw-b6'])
})

test('published ports move with the gateway, explicit and chosen numbers stay, and flows by other networks go on', async () => {
  await network('pm-m', ['10.111.1.0/24'])
  await network('pm-a', ['10.111.2.0/24', 'fd11:2::/64'])
  await lab.run('pm', { networks: ['pm-m'], host: { PortBindings: { '80/tcp': [{ HostPort: '8101' }], '81/tcp': [{ HostPort: '' }] } } })
  await lab.run('pmc', { networks: ['pm-m'] })
  const place = await site.inside('pm')
  await site.serve(place, [80, 81])
  const ports = async () => (await lab.api('GET', '/containers/pm/json')).json.NetworkSettings.Ports
  const before = await ports()
  const chosen = Number(before['81/tcp'][0].HostPort)
  const flow = await site.flow(await site.inside('pmc'), '10.111.1.2', 80)
  const target = async () =>
    (await lab.sh('nft list table inet causeway')).out.match(/tcp \. (8101|0x1fa5)[^,]*?: (10\.111\.\d+\.\d+)/)?.[2]
  assert.equal(await target(), '10.111.1.2')
  await connect('pm', 'pm-a')
  assert.equal(await target(), '10.111.2.2')
  assert.deepEqual(await ports(), before)
  for (const port of [8101, chosen])
    for (const ip of ['192.0.2.1', '2001:db8:ff::1']) assert.notEqual(await site.ask(lan, 'tcp', ip, port), '', `${ip} ${port}`)
  assert.equal(await flow.alive(), true, 'flow by the network that was there before')
  await disconnect('pm', 'pm-a')
  assert.equal(await target(), '10.111.1.2')
  assert.deepEqual(await ports(), before)
  assert.notEqual(await site.ask(lan, 'tcp', '192.0.2.1', 8101), '')
  assert.equal(await flow.alive(), true)
  flow.close()
  await remove(['pm', 'pmc'], ['pm-m', 'pm-a'])
})

test('an interface that is taken away stops at once; what runs over another network does not notice', async () => {
  await network('lv-a', ['10.112.1.0/24'])
  await network('lv-b', ['10.112.2.0/24'])
  await lab.run('lv1', { networks: ['lv-a', 'lv-b'] })
  await lab.run('lv2', { networks: ['lv-a', 'lv-b'] })
  await site.serve(await site.inside('lv2'), [80])
  const one = await site.inside('lv1')
  const overA = await site.flow(one, '10.112.1.3', 80)
  const overB = await site.flow(one, '10.112.2.3', 80)
  for (let i = 0; i < 3; i++) {
    await disconnect('lv1', 'lv-b')
    assert.equal(await overA.alive(), true)
    await connect('lv1', 'lv-b')
    assert.equal(await overA.alive(), true)
  }
  // the bridge's port may begin to forward a moment after the answer: then the second question for the address is answered, a second later
  assert.equal((await lab.exec('lv1', 'ping', '-c1', '-W3', '10.112.2.3')).code, 0)
  overA.close()
  overB.close()
  await remove(['lv1', 'lv2'], ['lv-a', 'lv-b'])
})

test('an address that moves to another container is reached there at once', async () => {
  await network('mv', ['10.113.0.0/24', 'fd13::/64'])
  const fixed = settings({ mv: { IPAMConfig: { IPv4Address: '10.113.0.50', IPv6Address: 'fd13::50' } } })
  await lab.run('mv-client', { networks: ['mv'] })
  const client = await site.inside('mv-client')
  for (let i = 0; i < 3; i++) {
    await lab.run(`mv${i}`, { networks: ['mv'], body: fixed })
    await site.serve(await site.inside(`mv${i}`), [80], `mv${i}`)
    for (const ip of ['10.113.0.50', 'fd13::50'])
      assert.match(await site.ask(client, 'tcp', ip, 80, { wait: 0.6 }), new RegExp(`mv${i}$`), `${ip} ${i}`)
    await remove([`mv${i}`])
  }
  await remove(['mv-client'], ['mv'])
})

test('host mode shares the engine namespace, none has lo alone', async () => {
  await lab.run('hm', { networks: ['host'] })
  await lab.run('nm', { networks: ['none'] })
  const own = (await lab.sh('readlink /proc/self/ns/net')).out
  assert.equal((await lab.exec('hm', 'readlink', '/proc/self/ns/net')).out, own)
  const place = await site.inside('nm')
  assert.deepEqual(
    (await site.ip(place, 'link')).map((l) => [l.ifname, l.operstate]),
    [['lo', 'UNKNOWN']],
  )
  assert.equal((await lab.exec('nm', 'ping', '-c1', '-W1', '127.0.0.1')).code, 0)
  assert.equal((await lab.exec('nm', 'ping', '-c1', '-W1', '::1')).code, 0)
  await network('hn')
  for (const [container, net, text] of [
    ['hm', 'hn', 'container sharing network namespace with another container or host cannot be connected to any other network'],
    ['nm', 'hn', 'container cannot be connected to multiple networks with one of the networks in private (none) mode'],
    ['nm', 'host', 'cannot connect container to host network - container must be created in host network mode'],
  ] as const) {
    const reply = await lab.api('POST', `/networks/${net}/connect`, { Container: container })
    assert.deepEqual([reply.status, reply.json?.message], [400, text])
  }
  const out = await lab.api('POST', '/networks/host/disconnect', { Container: 'hm' })
  assert.deepEqual(
    [out.status, out.json?.message],
    [400, 'cannot disconnect container from host network - container was created in host network mode'],
  )
  await remove(['hm', 'nm'], ['hn'])
})

test('container: mode shares namespace and files; the namespace lives while anybody runs in it', async () => {
  await network('pod', ['10.114.0.0/24'])
  const owner = await lab.run('pause', { networks: ['pod'], host: { PortBindings: { '80/tcp': [{ HostPort: '8140' }] } } })
  await lab.run('app', { networks: ['container:pause'], cmd: ['httpd', '-f', '-p', '80', '-h', '/etc'] })
  await lab.run('side', { networks: [`container:${owner}`] })
  const ns = async (name: string) => (await lab.exec(name, 'readlink', '/proc/self/ns/net')).out
  assert.equal(await ns('app'), await ns('pause'))
  assert.equal(await ns('side'), await ns('pause'))
  const hostname = (await lab.exec('pause', 'hostname')).out
  assert.equal((await lab.exec('side', 'wget', '-qO-', 'http://127.0.0.1/hostname')).out, hostname, 'one shared loopback')
  assert.equal((await lab.sh('curl -s -m2 http://127.0.0.1:8140/hostname')).out, hostname, 'the port of the owner')
  for (const file of ['/etc/hosts', '/etc/resolv.conf', '/etc/hostname'])
    assert.equal((await lab.exec('side', 'cat', file)).out, (await lab.exec('pause', 'cat', file)).out, file)
  await lab.exec('side', 'sh', '-c', 'echo 10.9.9.9 shared >> /etc/hosts')
  assert.match((await lab.exec('pause', 'cat', '/etc/hosts')).out, /10\.9\.9\.9 shared/)
  // live changes of the owner are seen by all, and the followers cannot be connected themselves
  await network('pod2', ['10.114.1.0/24'])
  await connect('pause', 'pod2')
  assert.match((await lab.exec('side', 'ip', '-o', 'addr')).out, /eth1 .*10\.114\.1\.2/)
  const refused = await lab.api('POST', '/networks/pod2/connect', { Container: 'side' })
  assert.equal(refused.status, 400)
  // the owner goes: what runs in its namespace stays connected and published; nothing new can join until it is back, then it is the same
  await lab.api('POST', '/containers/pause/stop?t=0')
  assert.equal((await lab.exec('side', 'wget', '-qO-', 'http://127.0.0.1/hostname')).out, hostname)
  assert.equal((await lab.sh('curl -s -m2 http://127.0.0.1:8140/hostname')).out, hostname)
  const before = await ns('side')
  const failed = await lab.api('POST', '/containers/side/restart?t=0')
  assert.deepEqual([failed.status, /cannot join network namespace of a non running container/.test(failed.text)], [409, true])
  await lab.api('POST', '/containers/pause/start')
  assert.equal((await lab.api('POST', '/containers/side/start')).status, 204)
  assert.deepEqual([await ns('pause'), await ns('side'), await ns('app')], [before, before, before])
  // the last one takes the namespace with it
  for (const name of ['pause', 'side', 'app']) await lab.api('POST', `/containers/${name}/stop?t=0`)
  assert.ok(await until(async () => (await lab.sh('curl -s -m1 http://127.0.0.1:8140/')).code === 7), 'the port is free')
  await remove(['app', 'side', 'pause'], ['pod', 'pod2'])
})

test('containers of different bridges do not meet, by address or by gateway, in either family; one on both meets both', async () => {
  await network('is-a', ['10.115.1.0/24', 'fd15:1::/64'])
  await network('is-b', ['10.115.2.0/24', 'fd15:2::/64'])
  await lab.run('is1', { networks: ['is-a'] })
  await lab.run('is2', { networks: ['is-b'] })
  await lab.run('is12', { networks: ['is-a', 'is-b'] })
  await lab.run('is0') // the default bridge
  const place: Record<string, string> = {}
  for (const name of ['is0', 'is1', 'is2', 'is12']) place[name] = await site.inside(name)
  for (const name of ['is1', 'is2', 'is0']) await site.serve(place[name] as string, [80])
  const default0 = (await site.endpoint('is0', 'bridge')).IPAddress
  const table: [string, string, boolean][] = [
    ['is1', '10.115.2.2', false],
    ['is1', 'fd15:2::2', false],
    ['is2', '10.115.1.2', false],
    ['is2', 'fd15:1::2', false],
    ['is0', '10.115.1.2', false],
    ['is1', default0, false],
    ['is12', '10.115.1.2', true],
    ['is12', 'fd15:1::2', true],
    ['is12', '10.115.2.2', true],
    ['is12', 'fd15:2::2', true],
  ]
  const answers = await Promise.all(table.map(([from, to]) => site.ask(place[from] as string, 'tcp', to, 80, { wait: 0.8 })))
  assert.deepEqual(
    table.map(([from, to], i) => `${from} ${to} ${answers[i] !== ''}`),
    table.map((row) => row.join(' ')),
  )
  const udp = await Promise.all(table.map(([from, to]) => site.ask(place[from] as string, 'udp', to, 80, { wait: 0.8 })))
  assert.deepEqual(
    udp.map((a) => a !== ''),
    table.map((row) => row[2]),
  )
  // by the other network's gateway: the way in is closed whatever the routes say
  await site.at(place['is1'] as string, 'ip route add 10.115.2.0/24 via 10.115.1.1; ip -6 route add fd15:2::/64 via fd15:1::1')
  for (const ip of ['10.115.2.2', 'fd15:2::2']) {
    assert.equal(await site.ask(place['is1'] as string, 'tcp', ip, 80, { wait: 0.5 }), '', ip)
    assert.notEqual((await site.at(place['is1'] as string, `ping -c1 -W0.5 ${ip}`)).code, 0, ip)
  }
  // a container on both does not carry packets for others
  await site.at(place['is1'] as string, 'ip route replace 10.115.2.0/24 via 10.115.1.3')
  assert.equal(await site.ask(place['is1'] as string, 'tcp', '10.115.2.2', 80, { wait: 0.5 }), '')
  await remove(['is1', 'is2', 'is12', 'is0'], ['is-a', 'is-b'])
})

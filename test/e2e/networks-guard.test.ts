/** The source guard with a privileged container that forges frames, its off switch, and legacy links on the default bridge. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { Site, until } from './site.ts'

isolate()
const lab = await startEngineLab(['--icc=false'])
const site = new Site(lab)
after(async () => {
  site.close()
  assert.deepEqual(await lab.close(), [])
})

const bytes = (text: string) => text.split(/[.:]/)
const mac = (text: string) => bytes(text).join('')
const ip4 = (text: string) =>
  bytes(text)
    .map((n) => Number(n).toString(16).padStart(2, '0'))
    .join('')
/** `fd40::9` with at most 16 bits in front and behind. */
const ip6 = (text: string) => {
  const [head = '', tail = ''] = text.split('::')
  const hex = (part: string) =>
    part
      .split(':')
      .filter((g) => g !== '')
      .map((g) => g.padStart(4, '0'))
      .join('')
  return hex(head) + hex(tail).padStart(32 - hex(head).length, '0')
}
const BROADCAST = 'ffffffffffff'
const arp = (op: 1 | 2, fromMac: string, fromIp: string, toIp: string, ether = fromMac) =>
  `${BROADCAST}${mac(ether)}0806000108000604000${op}${mac(fromMac)}${ip4(fromIp)}${'0'.repeat(12)}${ip4(toIp)}`
function checksum(hex: string): string {
  let sum = 0
  for (let i = 0; i < hex.length; i += 4) sum += Number.parseInt(hex.slice(i, i + 4).padEnd(4, '0'), 16)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16)
  return ((~sum & 0xffff) >>> 0).toString(16).padStart(4, '0')
}
/** UDP datagram "spoof" to port 9999 in IPv4, no UDP checksum. */
function udp4(etherFrom: string, to: string, fromIp: string, toIp: string): string {
  const head = (sum: string) => `4500002100000000ff11${sum}${ip4(fromIp)}${ip4(toIp)}`
  return `${mac(to)}${mac(etherFrom)}0800${head(checksum(head('0000')))}270f270f000d0000${Buffer.from('spoof').toString('hex')}`
}
function icmp6(etherFrom: string, to: string, fromIp: string, toIp: string, body: (sum: string) => string): string {
  const length = (body('0000').length / 2).toString(16).padStart(4, '0')
  const sum = checksum(`${ip6(fromIp)}${ip6(toIp)}0000${length}0000003a${body('0000')}`)
  return `${to}${mac(etherFrom)}86dd60000000${length}3aff${ip6(fromIp)}${ip6(toIp)}${body(sum)}`
}
const advertisement = (etherFrom: string, fromIp: string, target: string) =>
  icmp6(etherFrom, '333300000001', fromIp, 'ff02::1', (sum) => `8800${sum}20000000${ip6(target)}0201${mac(etherFrom)}`)
const routerAdvertisement = (etherFrom: string, fromIp: string) =>
  icmp6(etherFrom, '333300000001', fromIp, 'ff02::1', (sum) => `8600${sum}400007080000000000000000`)

async function scene(name: string, options: Record<string, string>, v4: string, v6: string) {
  const IPAM = { Config: [{ Subnet: `${v4}.0/24` }, { Subnet: `${v6}::/64` }] }
  assert.equal((await lab.api('POST', '/networks/create', { Name: name, EnableIPv6: true, IPAM, Options: options })).status, 201)
  for (const who of ['evil', 'victim', 'peer'])
    await lab.run(`${who}-${name}`, { networks: [name], host: who === 'evil' ? { Privileged: true } : {} })
  const of = async (who: string) => ({ place: await site.inside(`${who}-${name}`), ...(await site.endpoint(`${who}-${name}`, name)) })
  const [evil, victim, peer] = [await of('evil'), await of('victim'), await of('peer')]
  const frames = {
    'own datagram': udp4(evil.MacAddress, peer.MacAddress, evil.IPAddress, peer.IPAddress),
    'foreign address': udp4(evil.MacAddress, peer.MacAddress, victim.IPAddress, peer.IPAddress),
    'foreign MAC': udp4('02:de:ad:be:ef:01', peer.MacAddress, evil.IPAddress, peer.IPAddress),
    'victim altogether': udp4(victim.MacAddress, peer.MacAddress, victim.IPAddress, peer.IPAddress),
    'gateway address': udp4(evil.MacAddress, peer.MacAddress, `${v4}.1`, peer.IPAddress),
    'forged ARP answer': arp(2, evil.MacAddress, victim.IPAddress, peer.IPAddress),
    'forged ARP request': arp(1, evil.MacAddress, `${v4}.1`, peer.IPAddress),
    'ARP sender of another MAC': arp(2, victim.MacAddress, evil.IPAddress, peer.IPAddress, evil.MacAddress),
    'own ARP': arp(1, evil.MacAddress, evil.IPAddress, peer.IPAddress),
    'forged neighbour advertisement': advertisement(evil.MacAddress, evil.GlobalIPv6Address, victim.GlobalIPv6Address),
    'router advertisement': routerAdvertisement(evil.MacAddress, 'fe80::1'),
    'foreign IPv6 address': advertisement(evil.MacAddress, victim.GlobalIPv6Address, victim.GlobalIPv6Address),
    'own neighbour advertisement': advertisement(evil.MacAddress, evil.GlobalIPv6Address, evil.GlobalIPv6Address),
  }
  const passed: string[] = []
  // what the bridge has to say of its own about neighbours must not be counted
  await new Promise((resolve) => setTimeout(resolve, 2300))
  for (const [what, frame] of Object.entries(frames)) {
    const seen = await site.capture(
      peer.place,
      'eth0',
      // the victim may say something of its own at this moment: only datagrams like ours count
      `ether src ${frame.slice(12, 24).match(/../g)?.join(':')}${frame.slice(24, 28) === '0800' ? ' and udp port 9999' : ''}`,
      () => site.send(evil.place, 'eth0', frame),
      60,
    )
    if (seen.trim() !== '') passed.push(what)
  }
  for (const who of ['evil', 'victim', 'peer']) await lab.api('DELETE', `/containers/${who}-${name}?force=1`)
  assert.equal((await lab.api('DELETE', `/networks/${name}`)).status, 204)
  return { passed, all: Object.keys(frames) }
}

test('a privileged container cannot speak for others: forged MAC, address, ARP, neighbour and router advertisements do not pass', async () => {
  const { passed } = await scene('guarded', { 'com.docker.network.advertise_addr_nmsgs': '1' }, '10.140.0', 'fd40')
  assert.deepEqual(passed, ['own datagram', 'own ARP', 'own neighbour advertisement'])
})

test('causeway.source_guard=false lets all of it pass', async () => {
  const options = { 'causeway.source_guard': 'false', 'com.docker.network.advertise_addr_nmsgs': '1' }
  const { passed, all } = await scene('unguarded', options, '10.141.0', 'fd41')
  assert.deepEqual(passed, all)
})

test('--link on the default bridge: hosts, environment, exposed ports only, one way, and it follows the target', async () => {
  await lab.run('db', { body: { Env: ['PASSWORD=s3cret'], ExposedPorts: { '5432/tcp': {}, '5433/udp': {} }, Hostname: 'dbhost' } })
  const dbPlace = await site.inside('db')
  await site.serve(dbPlace, [5432, 5433, 22], 'db')
  await lab.run('app', { host: { Links: ['db:store'] }, body: { ExposedPorts: { '80/tcp': {} } } })
  await lab.run('alien')
  const place = await site.inside('app')
  await site.serve(place, [80], 'app')
  const db = (await site.endpoint('db', 'bridge')).IPAddress
  const app = (await site.endpoint('app', 'bridge')).IPAddress
  const line = async () => (await lab.exec('app', 'cat', '/etc/hosts')).out.split('\n').filter((l) => l.includes('store'))
  assert.deepEqual(await line(), [`${db}\tstore dbhost db`])
  const hosts = (await lab.exec('app', 'cat', '/etc/hosts')).out.trimEnd().split('\n')
  assert.deepEqual(
    hosts.slice(-2).map((l) => l.split('\t')[0]),
    [db, app],
    'the target stands before the container itself, as under Docker',
  )
  const env = (await lab.exec('app', 'sh', '-c', 'tr "\\\\0" "\\\\n" < /proc/1/environ')).out
  for (const wanted of [
    `STORE_NAME=/app/store`,
    `STORE_PORT=tcp://${db}:5432`,
    `STORE_PORT_5432_TCP_ADDR=${db}`,
    'STORE_ENV_PASSWORD=s3cret',
  ])
    assert.ok(env.split('\n').includes(wanted), `${wanted} in ${env}`)
  const wait = { wait: 0.6 }
  assert.match(await site.ask(place, 'tcp', db, 5432), / db$/)
  assert.match(await site.ask(place, 'udp', db, 5433), / db$/)
  assert.equal(await site.ask(place, 'tcp', db, 22, wait), '', 'not exposed')
  assert.equal(await site.ask(dbPlace, 'tcp', app, 80, wait), '', 'one way')
  assert.equal(await site.ask(await site.inside('alien'), 'tcp', db, 5432, wait), '', 'not linked')
  // the target comes back with another address
  await lab.api('POST', '/containers/db/stop?t=0')
  assert.deepEqual(await line(), [])
  await lab.run('squatter')
  await lab.api('POST', '/containers/db/start')
  await site.serve(await site.inside('db'), [5432], 'db2')
  const moved = (await site.endpoint('db', 'bridge')).IPAddress
  assert.notEqual(moved, db)
  assert.deepEqual(await line(), [`${moved}\tstore dbhost db`])
  assert.match(await site.ask(place, 'tcp', moved, 5432), / db2$/)
  assert.equal(await site.ask(place, 'tcp', db, 5432, wait), '', 'whoever has the old address is not opened')
  for (const name of ['app', 'db', 'alien', 'squatter']) await lab.api('DELETE', `/containers/${name}?force=1`)
})

test('a link needs a running target on the default bridge', async () => {
  const start = async (link: string) => {
    const created = await lab.api('POST', '/containers/create?name=linker', { Image: 'busybox', HostConfig: { Links: [link] } })
    const reply = created.status === 201 ? await lab.api('POST', '/containers/linker/start') : created
    await lab.api('DELETE', '/containers/linker?force=1')
    return `${reply.status} ${reply.json?.message}`
  }
  assert.match(await start('nobody:x'), /^400 could not get container for nobody: No such container: nobody/)
  await lab.api('POST', '/containers/create?name=idle', { Image: 'busybox', Cmd: ['sleep', '99'] })
  assert.match(await start('idle:x'), /Cannot link to a non running container: \/idle AS \/linker\/x/)
  await lab.api('POST', '/networks/create', { Name: 'user' })
  await lab.run('afar', { networks: ['user'] })
  assert.match(await start('afar:x'), /Cannot link to \/afar, as it does not belong to the default network/)
  await lab.api('DELETE', '/containers/idle?force=1')
  await lab.api('DELETE', '/containers/afar?force=1')
  assert.ok(await until(async () => (await lab.api('DELETE', '/networks/user')).status === 204))
})

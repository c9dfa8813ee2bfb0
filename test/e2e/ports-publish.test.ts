/** Published ports: every form, who may call them from where, what address the container sees, conflicts, changes while running. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { Site, until } from './site.ts'

isolate()
const lab = await startEngineLab()
const site = new Site(lab)
const H4 = '192.0.2.1'
const H6 = '2001:db8:ff::1'
const lan = site.machine('lan0', '192.0.2', '2001:db8:ff')
const other = site.machine('lan1', '198.51.100', '2001:db8:fe')
after(async () => {
  site.close()
  assert.deepEqual(await lab.close(), [])
})

type Bindings = Record<string, { HostIp?: string; HostPort?: string }[]>
/** A container whose ports answer with the address of their caller and the container's name. */
async function web(
  name: string,
  net: string,
  PortBindings: Bindings,
  ports: number[] = [80],
  host: Record<string, unknown> = {},
): Promise<string> {
  await lab.run(name, { networks: net === '' ? [] : [net], host: { PortBindings, ...host } })
  const place = await site.inside(name)
  await site.serve(place, ports, name)
  return place
}
async function network(name: string, subnets: string[] = [], body: Record<string, unknown> = {}): Promise<void> {
  const IPAM = { Config: subnets.map((Subnet) => ({ Subnet })) }
  const reply = await lab.api('POST', '/networks/create', { Name: name, EnableIPv6: subnets.some((s) => s.includes(':')), IPAM, ...body })
  assert.equal(reply.status, 201, reply.text)
}
async function remove(...containers: string[]): Promise<void> {
  for (const name of containers) await lab.api('DELETE', `/containers/${name}?force=1`)
}
const published = async (name: string) => (await lab.api('GET', `/containers/${name}/json`)).json.NetworkSettings.Ports
const caller = (answer: string) => answer.split(' ')[0] ?? ''

// this namespace's own switch, whose first value depends on what other programs loaded into the kernel; one test below turns it on
const bridgeNetfilter = (value: 0 | 1) =>
  lab.sh(`sysctl -qw net.bridge.bridge-nf-call-iptables=${value} net.bridge.bridge-nf-call-ip6tables=${value}`)
await bridgeNetfilter(0)
await network('four', ['10.120.4.0/24'])
await network('dual', ['10.120.46.0/24', 'fd20:46::/64'])

test('the forms of -p and -P, as the docker command writes them', async () => {
  const run = (...args: string[]) =>
    lab.docker('run', '-d', '--stop-signal', 'KILL', '--network', 'dual', ...args, 'busybox', 'sleep', '1000')
  const ran = await run(
    '--name',
    'forms',
    ...['-p', '80', '-p', '8001:81', '-p', '127.0.0.1:8002:82', '-p', '127.0.0.1::83', '-p', '[::1]:8004:84', '-p', `[${H6}]:8005:85`],
    ...['-p', '8006:86/udp', '-p', '8007:87/tcp', '-p', '8010-8012:90-92', '-p', '8020-8029:95', '-p', '0.0.0.0:8030:96'],
  )
  assert.equal(ran.code, 0, ran.err)
  const ports = await published('forms')
  const flat = (key: string) => ports[key].map((b: { HostIp: string; HostPort: string }) => `${b.HostIp} ${b.HostPort}`)
  const chosen = ports['80/tcp'][0].HostPort
  assert.ok(Number(chosen) >= 1024)
  assert.deepEqual(flat('80/tcp'), [`0.0.0.0 ${chosen}`, `:: ${chosen}`])
  assert.deepEqual(flat('81/tcp'), ['0.0.0.0 8001', ':: 8001'])
  assert.deepEqual(flat('82/tcp'), ['127.0.0.1 8002'])
  assert.match(flat('83/tcp').join(), /^127\.0\.0\.1 \d+$/)
  assert.deepEqual(flat('84/tcp'), ['::1 8004'])
  assert.deepEqual(flat('85/tcp'), [`${H6} 8005`])
  assert.deepEqual(flat('86/udp'), ['0.0.0.0 8006', ':: 8006'])
  for (const i of [0, 1, 2]) assert.deepEqual(flat(`${90 + i}/tcp`), [`0.0.0.0 ${8010 + i}`, `:: ${8010 + i}`])
  assert.deepEqual(flat('95/tcp'), ['0.0.0.0 8020', ':: 8020'])
  assert.deepEqual(flat('96/tcp'), ['0.0.0.0 8030'])
  const again = await run('--name', 'forms2', '-p', '8020-8029:95')
  assert.equal(again.code, 0, again.err)
  assert.equal((await published('forms2'))['95/tcp'][0].HostPort, '8021', 'the first free one of the range')
  const all = await run('--name', 'forms3', '-P', '--expose', '70', '--expose', '71/udp')
  assert.equal(all.code, 0, all.err)
  assert.deepEqual(Object.keys(await published('forms3')).sort(), ['70/tcp', '71/udp'])
  assert.ok(Number((await published('forms3'))['70/tcp'][0].HostPort) > 1023)
  await remove('forms', 'forms2', 'forms3')
})

test('a client of the LAN is seen with its own address, over tcp and udp, in both families', async () => {
  await web('src', 'dual', { '80/tcp': [{ HostPort: '8080' }], '80/udp': [{ HostPort: '8080' }] })
  const seen: string[] = []
  for (const proto of ['tcp', 'udp'] as const) for (const ip of [H4, H6]) seen.push(caller(await site.ask(lan, proto, ip, 8080)))
  assert.deepEqual(seen, ['192.0.2.2', '2001:db8:ff::2', '192.0.2.2', '2001:db8:ff::2'])
  // an address of the host that is on another interface than the one where the packet comes in
  assert.equal(caller(await site.ask(lan, 'tcp', '198.51.100.1', 8080)), '192.0.2.2')
  await remove('src')
})

test('the host reaches published ports by every address of its own, also loopback; IPv6 addresses lead to IPv4-only containers too', async () => {
  const both = { '80/tcp': [{ HostPort: '8081' }], '80/udp': [{ HostPort: '8081' }] }
  for (const net of ['four', 'dual', '']) {
    await web('hostside', net, both)
    for (const proto of ['tcp', 'udp'] as const)
      for (const ip of ['127.0.0.1', '127.1.2.3', H4, '::1', H6])
        assert.match(await site.ask('', proto, ip, 8081), / hostside$/, `${net} ${proto} ${ip}`)
    await remove('hostside')
  }
})

test('a port published on one address answers there only', async () => {
  await web(
    'one',
    'dual',
    {
      '80/tcp': [{ HostIp: H4, HostPort: '8082' }],
      '81/tcp': [{ HostIp: '::1', HostPort: '8083' }],
      '82/tcp': [{ HostIp: H6, HostPort: '8084' }],
    },
    [80, 81, 82],
  )
  const table: [string, string, number, boolean][] = [
    ['', H4, 8082, true],
    ['', '127.0.0.1', 8082, false],
    ['', H6, 8082, false],
    ['', '198.51.100.1', 8082, false],
    [lan, H4, 8082, true],
    [lan, '198.51.100.1', 8082, false],
    ['', '::1', 8083, true],
    ['', '127.0.0.1', 8083, false],
    ['', H6, 8083, false],
    [lan, H6, 8083, false],
    ['', H6, 8084, true],
    [lan, H6, 8084, true],
    ['', '::1', 8084, false],
    [lan, H4, 8084, false],
  ]
  const got = await Promise.all(table.map(([from, ip, port]) => site.ask(from, 'tcp', ip, port, { wait: 1 })))
  assert.deepEqual(
    got.map((a) => a !== ''),
    table.map((row) => row[3]),
  )
  await remove('one')
})

test('what is published on 127.0.0.1, and the container address itself, give no answer to packets crafted on the LAN', async () => {
  const place = await web(
    'lo',
    'dual',
    {
      '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '8085' }],
      '81/udp': [{ HostIp: '127.0.0.1', HostPort: '8085' }],
      '82/tcp': [{ HostPort: '8086' }],
    },
    [80, 81, 82],
  )
  const { IPAddress, GlobalIPv6Address } = await site.endpoint('lo', 'dual')
  // the LAN machine believes that 127/8 and the container's subnet are behind the host
  await site.at(
    lan,
    `sysctl -qw net.ipv4.conf.all.route_localnet=1; ip addr del 127.0.0.1/8 dev lo; ip route flush table local root 127.0.0.0/8; ip route add 127.0.0.1/32 via ${H4} src 192.0.2.2
    ip route add 10.120.46.0/24 via ${H4}; ip -6 route add fd20:46::/64 via ${H6}`,
  )
  assert.match((await site.at(lan, 'ip route get 127.0.0.1')).out, /via 192\.0\.2\.1/)
  const inside = await site.capture(place, 'eth0', 'tcp or udp', async () => {
    const onWire = await site.capture('', 'lan0', 'host 127.0.0.1', async () => {
      assert.equal(await site.ask(lan, 'tcp', '127.0.0.1', 8085, { wait: 0.7 }), '')
      assert.equal(await site.ask(lan, 'udp', '127.0.0.1', 8085, { wait: 0.7 }), '')
    })
    assert.match(onWire, /192\.0\.2\.2\.\d+ > 127\.0\.0\.1\.8085/, 'the packets did arrive at the host')
    for (const ip of [IPAddress, GlobalIPv6Address])
      for (const port of [80, 82]) assert.equal(await site.ask(lan, 'tcp', ip, port, { wait: 0.5 }), '', `${ip} ${port}`)
  })
  assert.equal(inside.trim(), '')
  assert.match(await site.ask(lan, 'tcp', H4, 8086), / lo$/)
  await site.at(lan, 'ip route del 127.0.0.1/32; ip addr add 127.0.0.1/8 dev lo')
  await remove('lo')
})

test('hairpin: a container reaches published ports by the host, its own, a neighbour and one on another network', async () => {
  const bind = (port: number) => ({ '80/tcp': [{ HostPort: String(port) }], '80/udp': [{ HostPort: String(port) }] })
  await network('elsewhere', ['10.120.99.0/24', 'fd20:99::/64'])
  const self = await web('hp1', 'dual', bind(8091))
  await web('hp2', 'dual', bind(8092))
  await web('hp3', 'elsewhere', bind(8093))
  await web('hp4', '', bind(8094))
  for (const proto of ['tcp', 'udp'] as const)
    for (const [name, port] of [
      ['hp1', 8091],
      ['hp2', 8092],
      ['hp3', 8093],
      ['hp4', 8094],
    ] as const)
      for (const ip of [H4, '10.120.46.1', H6]) {
        // served by a socket on ::, whose answers leave with the address that is nearest to the client
        if (proto === 'udp' && name === 'hp4' && ip === H6) continue
        assert.match(await site.ask(self, proto, ip, port), new RegExp(` ${name}$`), `${proto} ${name} by ${ip}`)
      }
  await remove('hp1', 'hp2', 'hp3', 'hp4')
  await lab.api('DELETE', '/networks/elsewhere')
})

test('hairpin to itself, a neighbour and another network works with br_netfilter on, as Docker and Kubernetes leave it', async (t) => {
  if ((await bridgeNetfilter(1)).code !== 0) return t.skip('br_netfilter is not loaded')
  await web('nf1', 'dual', { '80/tcp': [{ HostPort: '8096' }] })
  await web('nf2', 'four', { '80/tcp': [{ HostPort: '8097' }] })
  await lab.run('nf3', { networks: ['dual'] })
  const place = await site.inside('nf3')
  for (const from of [place, await site.inside('nf1')])
    for (const ip of [H4, H6]) assert.match(await site.ask(from, 'tcp', ip, 8096), / nf1$/, ip)
  assert.match(await site.ask(place, 'tcp', H4, 8097), / nf2$/)
  await bridgeNetfilter(0)
  await remove('nf1', 'nf2', 'nf3')
})

test('with icc=false a published port is still reached by the host address', async () => {
  await network('shut', ['10.120.7.0/24'], { Options: { 'com.docker.network.bridge.enable_icc': 'false' } })
  await web('shut1', 'shut', { '80/tcp': [{ HostPort: '8095' }] }, [80, 81])
  await lab.run('shut2', { networks: ['shut'] })
  const place = await site.inside('shut2')
  assert.match(await site.ask(place, 'tcp', H4, 8095), / shut1$/)
  for (const port of [80, 81]) assert.equal(await site.ask(place, 'tcp', '10.120.7.2', port, { wait: 0.5 }), '')
  await remove('shut1', 'shut2')
  await lab.api('DELETE', '/networks/shut')
})

test('a port that is taken is an error that names who has it, and leaves nothing', async () => {
  await web('first', 'four', { '80/tcp': [{ HostPort: '8100' }] })
  const start = async (bindings: Bindings) => {
    await lab.api('POST', '/containers/create?name=second', {
      Image: 'busybox',
      Cmd: ['sleep', '9'],
      HostConfig: { NetworkMode: 'four', PortBindings: bindings },
    })
    const reply = await lab.api('POST', '/containers/second/start')
    const state = (await lab.api('GET', '/containers/second/json')).json.State
    await remove('second')
    return { status: reply.status, text: reply.json?.message as string, state: `${state.Status} ${state.ExitCode}` }
  }
  const twice = await start({ '80/tcp': [{ HostPort: '8100' }] })
  assert.match(twice.text, /Bind for 0\.0\.0\.0:8100 failed: port is already allocated.*first/)
  assert.deepEqual([twice.status, twice.state], [500, 'created 128'])
  const overlap = await start({ '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '8100' }] })
  assert.match(overlap.text, /port is already allocated.*first/)
  const stop = await site.serve('', ['0.0.0.0@8101'], 'process')
  const process = await start({ '79/tcp': [{ HostPort: '8109' }], '80/tcp': [{ HostPort: '8101' }] })
  assert.match(process.text, /failed to bind host port 0\.0\.0\.0:8101\/tcp: address already in use.*python3/)
  assert.equal(await site.ask('', 'tcp', '127.0.0.1', 8109, { wait: 0.3 }), '')
  const freed = await start({ '79/tcp': [{ HostPort: '8109' }] })
  assert.equal(freed.status, 204, freed.text)
  const nowhere = await start({ '80/tcp': [{ HostIp: '203.0.113.9', HostPort: '8102' }] })
  assert.match(nowhere.text, /203\.0\.113\.9:8102.*cannot assign requested address/)
  // a range skips what others have
  await lab.api('POST', '/containers/create?name=third', {
    Image: 'busybox',
    Cmd: ['sleep', '99'],
    StopSignal: 'KILL',
    HostConfig: { NetworkMode: 'four', PortBindings: { '80/tcp': [{ HostPort: '8100-8103' }] } },
  })
  assert.equal((await lab.api('POST', '/containers/third/start')).status, 204)
  assert.equal((await published('third'))['80/tcp'][0].HostPort, '8102')
  stop()
  await remove('first', 'third')
})

test('thousands of ports cost what one costs: a few elements, no sockets, no time', async () => {
  const start = async (name: string, count: number) => {
    const bindings: Bindings = {}
    for (let i = 0; i < count; i++) bindings[`${20000 + i}/tcp`] = [{ HostPort: String(20000 + i) }]
    await lab.api('POST', `/containers/create?name=${name}`, {
      Image: 'busybox',
      Cmd: ['sleep', '999'],
      StopSignal: 'KILL',
      HostConfig: { NetworkMode: 'dual', PortBindings: bindings },
    })
    const at = performance.now()
    const reply = await lab.api('POST', `/containers/${name}/start`)
    assert.equal(reply.status, 204, reply.text)
    return performance.now() - at
  }
  await start('warm', 1)
  await remove('warm')
  const one = await start('r1', 1)
  await remove('r1')
  const descriptors = async () => Number((await lab.sh(`ls /proc/${lab.pid()}/fd | wc -l`)).out)
  const before = await descriptors()
  const many = await start('r5000', 5000)
  const elements = (await lab.sh('nft list table inet causeway')).out.match(/2\d{4}/g)?.length ?? 0
  assert.ok(elements < 40, `${elements} numbers in the ruleset`)
  assert.ok((await descriptors()) - before < 20, 'no socket per port')
  assert.ok(many < one + 2000, `${many} ms for 5000 ports, ${one} ms for one`) // other programs run on this machine too
  await site.serve(await site.inside('r5000'), [20000, 24999, 22222], 'range')
  for (const [place, ip, port] of [
    [lan, H4, 20000],
    [lan, H6, 24999],
    ['', '127.0.0.1', 22222],
    ['', H6, 22222],
  ] as const)
    assert.match(await site.ask(place, 'tcp', ip, port), / range$/, `${ip} ${port}`)
  assert.equal(await site.ask(lan, 'tcp', H4, 25000, { wait: 0.4 }), '')
  // one of them is taken back, and is anybody's
  const ports = [{ containerPort: 22222, hostPort: 22222 }]
  assert.equal((await lab.api('DELETE', '/causeway/v1/containers/r5000/ports', { ports })).status, 204)
  assert.equal(await site.ask(lan, 'tcp', H4, 22222, { wait: 0.4 }), '')
  for (const port of [20000, 24999]) assert.match(await site.ask(lan, 'tcp', H4, port), / range$/, `${port} goes on`)
  assert.equal((await lab.api('POST', '/causeway/v1/containers/r5000/ports', { ports })).status, 201)
  assert.match(await site.ask(lan, 'tcp', H4, 22222), / range$/)
  const taken = await lab.api('POST', '/containers/create?name=r2', {
    Image: 'busybox',
    HostConfig: { NetworkMode: 'dual', PortBindings: { '1/tcp': [{ HostPort: '23456' }] } },
  })
  assert.equal(taken.status, 201)
  assert.match((await lab.api('POST', '/containers/r2/start')).text, /0\.0\.0\.0:23456 failed: port is already allocated/)
  await remove('r5000', 'r2')
})

test('udp: the first datagram after a port has moved to another container reaches that one', async () => {
  const bind = { '53/udp': [{ HostPort: '8110' }] }
  const from = '0.0.0.0#40000'
  for (const i of [1, 2, 3]) {
    await web(`udp${i}`, 'dual', bind, [53])
    // one datagram each, always from the same port: the flow of before must not carry it
    assert.match(await site.ask(lan, 'udp', H4, 8110, { from, wait: 1 }), new RegExp(` udp${i}$`))
    assert.match(await site.ask('', 'udp', '127.0.0.1', 8110, { from, wait: 1 }), new RegExp(` udp${i}$`))
    await remove(`udp${i}`)
    // meanwhile nobody answers, and that must not stick either
    assert.equal(await site.ask(lan, 'udp', H4, 8110, { from, wait: 0.2 }), '')
  }
})

test('an unrelated udp flow outlives the coming and going of others', async () => {
  await web('stay', 'dual', { '53/udp': [{ HostPort: '8111' }] }, [53])
  await site.ask(lan, 'udp', H4, 8111, { from: '0.0.0.0#40001' })
  const entry = async () => (await lab.sh('conntrack -L -p udp --orig-port-src 40001 2>/dev/null')).out.trim()
  assert.match(await entry(), /dport=8111/)
  await web('gone', 'dual', { '53/udp': [{ HostPort: '8112' }] }, [53])
  await remove('gone')
  assert.match(await entry(), /dport=8111/)
  await remove('stay')
  assert.equal(await entry(), '')
})

test('ports are added to and taken from a running container while its flows go on', async () => {
  await web('live', 'dual', { '80/tcp': [{ HostPort: '8120' }] }, [80, 81])
  const flow = await site.flow(lan, H4, 8120)
  const added = await lab.causeway('port', 'add', 'live', '8121:81', '127.0.0.1:8122:81/udp')
  assert.equal(added.code, 0, added.err)
  assert.match(await site.ask(lan, 'tcp', H4, 8121), / live$/)
  assert.match(await site.ask(lan, 'tcp', H6, 8121), / live$/)
  assert.match(await site.ask('', 'udp', '127.0.0.1', 8122), / live$/)
  assert.deepEqual(Object.keys(await published('live')).sort(), ['80/tcp', '81/tcp', '81/udp'])
  assert.equal(await flow.alive(), true)
  const clash = await lab.causeway('port', 'add', 'live', '8123:82', '8120:82')
  assert.notEqual(clash.code, 0)
  assert.match(clash.err, /port is already allocated/)
  assert.equal((await published('live'))['82/tcp'], undefined)
  const moved = await site.flow(lan, H4, 8121)
  assert.equal((await lab.causeway('port', 'rm', 'live', '8121:81')).code, 0)
  assert.equal(await site.ask(lan, 'tcp', H4, 8121, { wait: 0.4 }), '')
  assert.equal(await flow.alive(), true)
  assert.equal(await moved.alive(), true, 'what was established over the port that is withdrawn is not cut')
  assert.notEqual((await lab.causeway('port', 'rm', 'live', '8121:81')).code, 0)
  flow.close()
  moved.close()
  // what was added belongs to the run
  await lab.api('POST', '/containers/live/restart?t=0')
  assert.ok('80/tcp' in (await published('live')))
  await remove('live')
})

test('a port that nobody serves in the container is refused, not ignored', async () => {
  await lab.run('deaf', { networks: ['dual'], host: { PortBindings: { '80/tcp': [{ HostPort: '8130' }] } } })
  for (const [place, ip] of [
    [lan, H4],
    [lan, H6],
    ['', '127.0.0.1'],
    ['', H4],
  ] as const) {
    const at = performance.now()
    assert.equal(await site.ask(place, 'tcp', ip, 8130, { wait: 2 }), '')
    assert.ok(performance.now() - at < 1000, `${ip} was refused after ${performance.now() - at} ms`)
  }
  await remove('deaf')
})

test('sctp is published where the kernel has it', async (t) => {
  const probe = await lab.sh(`python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)'`)
  await lab.run('sctp1', { networks: ['dual'], host: { PortBindings: { '80/sctp': [{ HostPort: '8140' }] } } })
  assert.deepEqual((await published('sctp1'))['80/sctp'], [
    { HostIp: '0.0.0.0', HostPort: '8140' },
    { HostIp: '::', HostPort: '8140' },
  ])
  assert.match((await lab.sh('nft list table inet causeway')).out, /sctp \. 8140 [^,]*: 10\.120\.46\.\d+ \. 80/)
  await remove('sctp1')
  if (probe.code !== 0) t.diagnostic('this kernel has no sctp sockets: only the rules were looked at')
})

test('the client address survives on a LAN whose route is not the default one, and two LANs at once', async () => {
  await web('two', 'dual', { '80/tcp': [{ HostPort: '8150' }] })
  assert.equal(caller(await site.ask(lan, 'tcp', H4, 8150)), '192.0.2.2')
  assert.equal(caller(await site.ask(other, 'tcp', '198.51.100.1', 8150)), '198.51.100.2')
  assert.equal(caller(await site.ask(other, 'tcp', '2001:db8:fe::1', 8150)), '2001:db8:fe::2')
  // the host opened forwarding for its bridges only: it is no router between the LANs
  assert.ok(await until(async () => (await site.at(lan, 'ping -c1 -W0.5 198.51.100.2')).code !== 0))
  await remove('two')
})

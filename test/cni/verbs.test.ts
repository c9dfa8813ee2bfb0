/** The installed plugin against a running engine, as a runtime drives it: every verb, every version, every kind of error. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type CniLab, startCniLab } from './lab.ts'

const VERSIONS = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0']
const conf = (name: string, subnet: string, more: object = {}) => ({
  cniVersion: '1.1.0',
  name,
  type: 'causeway',
  ipam: { type: 'host-local', subnet },
  ...more,
})

describe('CNI verbs', () => {
  let lab: CniLab
  before(async () => {
    lab = await startCniLab()
  })
  after(async () => {
    assert.deepEqual(await lab.close(), [])
  })
  const del = async (containerId: string, netns: string, of: object, ifname = 'eth0') => {
    const ran = await lab.cni({ command: 'DEL', containerId, netns, ifname, conf: of })
    assert.deepEqual([ran.code, ran.out], [0, ''])
  }
  const until = async (what: string, isSo: () => Promise<boolean>, ms = 15_000) => {
    for (const end = Date.now() + ms; !(await isSo()); await new Promise((r) => setTimeout(r, 50)))
      assert.ok(Date.now() < end, `${what} after ${ms} ms`)
  }

  test('VERSION lists what is supported, with and without a configuration', async () => {
    const said = await lab.cni({ command: 'VERSION', conf: { cniVersion: '1.0.0' } })
    assert.deepEqual(said.json, { cniVersion: '1.0.0', supportedVersions: VERSIONS })
    const unsaid = await lab.cni({ command: 'VERSION', conf: '' })
    assert.deepEqual([unsaid.code, unsaid.json], [0, { cniVersion: '1.1.0', supportedVersions: VERSIONS }])
  })

  test('ADD gives an interface that works, with a result in each version', async () => {
    const ns = lab.netns()
    for (const cniVersion of VERSIONS) {
      const of = conf('versions', '10.70.0.0/24', { cniVersion, dns: { nameservers: ['10.70.0.53'], search: ['a.b'] } })
      const result = await lab.add('v1', ns, of)
      assert.equal(result.cniVersion, cniVersion)
      assert.deepEqual(result.dns, { nameservers: ['10.70.0.53'], search: ['a.b'] })
      const address = (await lab.inside(ns, 'ip -o -4 addr show eth0')).out.split(/\s+/)[3]
      if (cniVersion < '0.3.0') {
        assert.deepEqual(result.ip4, { ip: address, gateway: '10.70.0.1', routes: [{ dst: '0.0.0.0/0', gw: '10.70.0.1' }] })
        assert.equal(result.interfaces, undefined)
      } else {
        const [bridge, outer, inner] = result.interfaces
        assert.match(bridge.name, /^br-[0-9a-f]{12}$/)
        assert.match(outer.name, /^veth[0-9a-f]{7}$/)
        const mac = /link\/ether (\S+)/.exec((await lab.inside(ns, 'ip link show eth0')).out)?.[1]
        assert.deepEqual(inner, { name: 'eth0', mac, sandbox: ns, ...(cniVersion === '1.1.0' ? { mtu: 1500 } : {}) })
        const family = cniVersion < '1.0.0' ? { version: '4' } : {}
        assert.deepEqual(result.ips, [{ ...family, address, gateway: '10.70.0.1', interface: 2 }])
        assert.deepEqual(result.routes, [{ dst: '0.0.0.0/0', gw: '10.70.0.1' }])
      }
      assert.equal((await lab.inside(ns, 'ping -c1 -W2 10.70.0.1')).code, 0)
      await del('v1', ns, of)
      assert.equal((await lab.inside(ns, 'ip link show eth0')).code, 1)
    }
  })

  test('two containers reach each other, and a published port leads to its container', async () => {
    const [a, b] = [lab.netns(), lab.netns()]
    const of = conf('ports', '10.71.0.0/24')
    const published = { ...of, runtimeConfig: { portMappings: [{ hostPort: 8081, containerPort: 80, protocol: 'TCP' }] } }
    const first = await lab.add('p1', a, published)
    const second = await lab.add('p2', b, of)
    const addressOf = (result: { ips: { address: string }[] }) => (result.ips[0]?.address ?? '').split('/')[0]
    assert.equal((await lab.inside(b, `ping -c1 -W2 ${addressOf(first)}`)).code, 0)
    assert.equal((await lab.inside(a, `ping -c1 -W2 ${addressOf(second)}`)).code, 0)
    const serving = lab.inside(a, 'echo hello | timeout 10 nc -l -N -p 80 || echo hello | timeout 10 nc -l -N 80')
    await until('the server listens', async () => (await lab.inside(a, 'ss -ltn')).out.includes(':80'))
    assert.equal((await lab.sh('timeout 5 nc -d 127.0.0.1 8081')).out, 'hello\n')
    await serving
    const taken = await lab.cni({ command: 'ADD', containerId: 'p3', netns: b, ifname: 'eth1', conf: published })
    assert.equal(taken.code, 1)
    assert.match(taken.json.msg, /port is already allocated/)
    assert.equal((await lab.inside(b, 'ip link show eth1')).code, 1, 'a failed ADD leaves nothing')
    // the same container on a second network with the same ports: they are published once (Podman asks so)
    await lab.add('p1', a, conf('ports2', '10.72.0.0/24', { runtimeConfig: published.runtimeConfig }), { ifname: 'eth1' })
    assert.match(
      (await lab.inside(a, 'ip route show default')).out,
      /^default via 10\.71\.0\.1 dev eth0/,
      "the first network's default route stays",
    )
    await del('p1', a, conf('ports2', '10.72.0.0/24'), 'eth1')
    await del('p1', a, published)
    await del('p2', b, of)
    assert.equal((await lab.sh('nft list table inet causeway')).out.includes('8081'), false)
  })

  test('addresses, MAC and names by hand; routes; both families; limits', async () => {
    const ns = lab.netns()
    const of = conf('byhand', '', {
      mtu: 1400,
      ipam: {
        ranges: [[{ subnet: '10.73.0.0/24', gateway: '10.73.0.254' }], [{ subnet: 'fd73::/64' }]],
        routes: [{ dst: '0.0.0.0/0' }, { dst: '192.168.9.0/24', gw: '10.73.0.9' }, { dst: '10.99.0.0/16' }],
      },
      runtimeConfig: {
        ips: ['10.73.0.77/24', 'fd73::77'],
        mac: 'C2:11:22:33:44:55',
        aliases: { byhand: ['db'] },
        bandwidth: { ingressRate: 8_000_000, ingressBurst: 800_000, egressRate: 4_000_000 },
      },
    })
    const result = await lab.add('h1', ns, of)
    assert.deepEqual(
      result.ips.map((ip: { address: string; gateway: string }) => [ip.address, ip.gateway]),
      [
        ['10.73.0.77/24', '10.73.0.254'],
        ['fd73::77/64', 'fd73::1'],
      ],
    )
    assert.equal(result.interfaces[2].mac, 'c2:11:22:33:44:55')
    assert.equal(result.interfaces[2].mtu, 1400)
    const routes = (await lab.inside(ns, 'ip -4 route; ip -6 route show default')).out
    for (const line of [/^default via 10\.73\.0\.254/m, /^192\.168\.9\.0\/24 via 10\.73\.0\.9/m, /^10\.99\.0\.0\/16 via 10\.73\.0\.254/m])
      assert.match(routes, line)
    assert.doesNotMatch(routes, /fd73/, 'a default route that is not listed is not made')
    assert.match((await lab.inside(ns, 'tc qdisc show dev eth0')).out, /tbf .*rate 4Mbit/)
    assert.match((await lab.sh(`tc qdisc show dev ${result.interfaces[1].name}`)).out, /tbf .*rate 8Mbit burst 100000b/)
    const names = (await lab.api('GET', '/networks/byhand')).json.Containers
    assert.equal((Object.values(names)[0] as { Name: string }).Name, 'cni-h1')
    // CNI_ARGS, as host-local and Podman use it
    const other = lab.netns()
    const byArgs = await lab.add('h2', other, { ...of, runtimeConfig: {} }, { args: 'IgnoreUnknown=1;IP=10.73.0.78;MAC=c2:11:22:33:44:66' })
    assert.equal(byArgs.ips[0].address, '10.73.0.78/24')
    assert.equal(byArgs.interfaces[2].mac, 'c2:11:22:33:44:66')
    const twice = await lab.cni({ command: 'ADD', containerId: 'h3', netns: other, ifname: 'eth9', conf: of })
    assert.match(twice.json.msg, /Address already in use/)
    await del('h1', ns, of)
    await del('h2', other, of)
  })

  test('a default route that is there already stays, in each family by itself; isDefaultGateway insists', async () => {
    const ns = lab.netns()
    const foreign =
      'ip link add foreign0 type veth peer name foreign1; ip addr add 192.0.2.2/24 dev foreign0; ip -6 addr add 2001:db8::2/64 dev foreign0 nodad'
    await lab.inside(ns, `${foreign}; ip link set foreign1 up; ip link set foreign0 up; ip route add default via 192.0.2.1`)
    const of = conf('dual', '', { ipam: { ranges: [[{ subnet: '10.86.0.0/24' }], [{ subnet: 'fd86::/64' }]] } })
    const result = await lab.add('f1', ns, of)
    assert.deepEqual(result.routes, [{ dst: '::/0', gw: 'fd86::1' }])
    assert.match((await lab.inside(ns, 'ip route show default')).out, /^default via 192\.0\.2\.1/)
    assert.match((await lab.inside(ns, 'ip -6 route show default')).out, /^default via fd86::1 dev eth0/)
    const insists = conf('dual2', '', {
      isDefaultGateway: true,
      ipam: { ranges: [[{ subnet: '10.87.0.0/24' }], [{ subnet: 'fd87::/64' }]] },
    })
    await lab.add('f1', ns, insists, { ifname: 'eth1' })
    assert.match((await lab.inside(ns, 'ip route show default')).out, /^default via 10\.87\.0\.1 dev eth1/)
    await del('f1', ns, insists, 'eth1')
    await del('f1', ns, of)
  })

  test('ranges that are no subnets are filled in turn and their end is said', async () => {
    const of = conf('range', '', { ipam: { ranges: [[{ subnet: '10.74.0.0/24', rangeStart: '10.74.0.10', rangeEnd: '10.74.0.12' }]] } })
    const ns = lab.netns()
    const got: string[] = []
    for (let n = 0; n < 3; n++) got.push((await lab.add(`r${n}`, ns, of, { ifname: `eth${n}` })).ips[0].address)
    assert.deepEqual(got, ['10.74.0.10/24', '10.74.0.11/24', '10.74.0.12/24'])
    const full = await lab.cni({ command: 'ADD', containerId: 'r9', netns: ns, ifname: 'eth9', conf: of })
    assert.equal(full.json.code, 11)
    await del('r1', ns, of, 'eth1')
    assert.equal((await lab.add('r4', ns, of, { ifname: 'eth4' })).ips[0].address, '10.74.0.11/24')
    for (const [id, ifname] of [
      ['r0', 'eth0'],
      ['r2', 'eth2'],
      ['r4', 'eth4'],
    ] as const)
      await del(id, ns, of, ifname)
  })

  test('in a chain: the results of earlier plugins come first, and indexes still point to the right interface', async () => {
    const ns = lab.netns()
    const prevResult = {
      cniVersion: '1.1.0',
      interfaces: [{ name: 'other0', sandbox: ns, socketPath: '/s' }],
      ips: [{ address: '192.0.2.5/24', interface: 0 }],
      routes: [{ dst: '198.51.100.0/24', gw: '192.0.2.1', priority: 7 }],
      dns: { domain: 'before' },
    }
    const of = conf('chain', '10.75.0.0/24', { dns: { nameservers: ['10.75.0.53'] } })
    const result = await lab.add('c1', ns, { ...of, prevResult })
    assert.deepEqual(result.interfaces[0], prevResult.interfaces[0])
    assert.deepEqual(result.ips[0], prevResult.ips[0])
    assert.deepEqual([result.ips[1].address, result.ips[1].interface, result.interfaces[3].name], ['10.75.0.2/24', 3, 'eth0'])
    assert.deepEqual(result.routes[0], prevResult.routes[0])
    assert.deepEqual(result.dns, { domain: 'before', nameservers: ['10.75.0.53'] })
    const check = await lab.cni({ command: 'CHECK', containerId: 'c1', netns: ns, conf: { ...of, prevResult: result } })
    assert.deepEqual([check.code, check.out], [0, ''])
    await del('c1', ns, of)
  })

  test('CHECK finds what has been changed', async () => {
    const ns = lab.netns()
    const of = conf('check', '10.76.0.0/24', {
      runtimeConfig: { portMappings: [{ hostPort: 8082, containerPort: 80 }], bandwidth: { egressRate: 1_000_000 } },
    })
    const prevResult = await lab.add('k1', ns, of)
    const check = (changes: object = {}, containerId = 'k1') =>
      lab.cni({ command: 'CHECK', containerId, netns: ns, conf: { ...of, prevResult, ...changes } })
    assert.equal((await check()).out, '')
    for (const [harm, expected, heal] of [
      [
        'ip addr del 10.76.0.2/24 dev eth0',
        /does not have the address 10\.76\.0\.2/,
        'ip addr add 10.76.0.2/24 dev eth0; ip route add default via 10.76.0.1',
      ],
      ['ip route del default', /route to 0\.0\.0\.0\/0 by 10\.76\.0\.1 is missing/, 'ip route add default via 10.76.0.1'],
      ['ip link set eth0 down', /eth0 is down/, 'ip link set eth0 up; ip route add default via 10.76.0.1'],
      [
        'tc qdisc del dev eth0 root',
        /eth0 is not limited to 1000000 bit\/s/,
        'tc qdisc add dev eth0 root tbf rate 1mbit burst 64kb latency 25ms',
      ],
    ] as const) {
      await lab.inside(ns, harm)
      const found = await check()
      assert.equal(found.json?.code, 100, harm)
      assert.match(found.json.details, expected)
      assert.equal((await lab.inside(ns, heal)).code, 0, heal)
      assert.equal((await check()).out, '', heal)
    }
    const ports = await check({ runtimeConfig: { portMappings: [{ hostPort: 9999, containerPort: 80 }] } })
    assert.match(ports.json.details, /port 9999\/tcp of the host is not published/)
    assert.equal((await check({}, 'nobody')).json.code, 3)
    assert.equal((await check({ prevResult: undefined })).json.code, 7)
    assert.equal((await check({ cniVersion: '0.3.1' })).json.code, 1)
    await del('k1', ns, of)
  })

  test('DEL is repeatable, needs no namespace and no prevResult, and answers for what never was', async () => {
    const ns = lab.netns()
    const of = conf('del', '10.77.0.0/24')
    const { ips } = await lab.add('d1', ns, of)
    lab.dropNetns(ns)
    for (let n = 0; n < 2; n++) {
      const ran = await lab.cni({ command: 'DEL', containerId: 'd1', conf: of })
      assert.deepEqual([ran.code, ran.out], [0, ''])
    }
    await del('never-was', '/run/netns/never-was', conf('never-was', '10.1.0.0/24'))
    // an ADD whose namespace went without a DEL gives way to the next of the same name
    const [one, two] = [lab.netns(), lab.netns()]
    await lab.add('d1', one, of)
    lab.dropNetns(one)
    const again = await lab.add('d1', two, of)
    assert.equal(again.ips[0].interface, ips[0].interface)
    const exists = await lab.cni({ command: 'ADD', containerId: 'd1', netns: two, conf: of })
    assert.match(exists.json.msg, /"eth0" exists already/)
    await lab.inside(two, 'ip link add foreign0 type veth peer name foreign1')
    const foreign = await lab.cni({ command: 'ADD', containerId: 'd2', netns: two, ifname: 'foreign0', conf: of })
    assert.equal(foreign.code, 1)
    await del('d1', two, of)
  })

  test('GC takes away what is not listed, of its own network alone', async () => {
    const ns = [lab.netns(), lab.netns(), lab.netns()] as const
    const [of, other] = [conf('gc', '10.78.0.0/24'), conf('gc-other', '10.79.0.0/24')]
    await lab.add('g1', ns[0], of)
    await lab.add('g2', ns[1], of)
    await lab.add('g3', ns[2], other)
    const gc = (more: object) => lab.cni({ command: 'GC', conf: { ...of, ...more } })
    assert.equal((await gc({ cniVersion: '1.0.0', 'cni.dev/valid-attachments': [] })).json.code, 1)
    const kept = await gc({ 'cni.dev/valid-attachments': [{ containerID: 'g1', ifname: 'eth0' }] })
    assert.deepEqual([kept.code, kept.out], [0, ''])
    const has = async (path: string) => (await lab.inside(path, 'ip link show eth0')).code === 0
    assert.deepEqual([await has(ns[0]), await has(ns[1]), await has(ns[2])], [true, false, true])
    // libcni leaves an empty list out, or writes null
    assert.equal((await gc({})).code, 0)
    await lab.add('g1', ns[0], of)
    assert.equal((await gc({ 'cni.dev/valid-attachments': null })).code, 0)
    assert.deepEqual([await has(ns[0]), await has(ns[2])], [false, true])
    await del('g3', ns[2], other)
  })

  test('STATUS', async () => {
    const status = (more: object) => lab.cni({ command: 'STATUS', conf: conf('status', '10.80.0.0/24', more) })
    assert.deepEqual([(await status({})).code, (await status({})).out], [0, ''])
    assert.equal((await status({ network: 'nowhere' })).json.code, 50)
    assert.equal((await status({ cniVersion: '1.0.0' })).json.code, 1)
    assert.equal((await status({ ipam: { type: 'dhcp' } })).json.code, 2)
  })

  test('a network lives as long as its containers; a changed configuration makes it anew, but never under them', async () => {
    const ns = lab.netns()
    const of = conf('life', '10.81.0.0/24', { bridge: 'cni7' })
    await lab.add('l1', ns, of)
    assert.equal((await lab.sh('ip -o -4 addr show cni7')).out.includes('10.81.0.1/24'), true)
    const changed = conf('life', '10.82.0.0/24', { bridge: 'cni8', isGateway: false, ipMasq: false })
    const refused = await lab.cni({ command: 'ADD', containerId: 'l2', netns: ns, ifname: 'eth1', conf: changed })
    assert.equal(refused.json.code, 7)
    await del('l1', ns, of)
    const anew = await lab.add('l2', ns, changed)
    assert.equal(anew.ips[0].address, '10.82.0.2/24')
    assert.equal((await lab.sh('ip -o -4 addr show cni8')).out, '', 'isGateway: false gives the bridge no address')
    await del('l2', ns, changed)
    await until('the network is removed', async () => (await lab.api('GET', '/networks/life')).status === 404)
    await until('its bridge has gone', async () => (await lab.sh('ip link show cni8')).code === 1)
  })

  test('a network of the engine is joined, and stays', async () => {
    await lab.api('POST', '/networks/create', { Name: 'mine', IPAM: { Config: [{ Subnet: '10.83.0.0/24' }] } })
    await lab.run('web', { networks: ['mine'] })
    const ns = lab.netns()
    const uninvited = await lab.cni({ command: 'ADD', containerId: 'j1', netns: ns, conf: conf('mine', '10.83.0.0/24') })
    assert.match(uninvited.json.msg, /was not made by CNI/)
    const of = { cniVersion: '1.0.0', name: 'joined', type: 'causeway', network: 'mine', runtimeConfig: { aliases: ['cache'] } }
    const { ips } = await lab.add('j1', ns, of)
    assert.equal((await lab.inside(ns, 'ping -c1 -W2 10.83.0.2')).code, 0)
    assert.equal((await lab.exec('web', 'ping', '-c1', '-W2', 'cache')).code, 0, `an alias is found: ${ips[0].address}`)
    await del('j1', ns, of)
    assert.equal((await lab.api('GET', '/networks/mine')).status, 200)
    await lab.api('DELETE', '/containers/web?force=1')
    assert.equal((await lab.api('DELETE', '/networks/mine')).status, 204)
  })

  test('the engine ends and comes back: attachments go on, and are known', async () => {
    const [kept, lost] = [lab.netns(), lab.netns()]
    const of = conf('restart', '10.84.0.0/24', { runtimeConfig: { portMappings: [{ hostPort: 8084, containerPort: 80 }] } })
    const prevResult = await lab.add('s1', kept, of)
    await lab.add('s2', lost, conf('restart', '10.84.0.0/24'))
    await lab.kill9()
    lab.dropNetns(lost)
    await lab.start()
    assert.equal((await lab.inside(kept, 'ping -c1 -W2 10.84.0.1')).code, 0)
    const check = await lab.cni({ command: 'CHECK', containerId: 's1', netns: kept, conf: { ...of, prevResult } })
    assert.equal(check.out, '')
    const left = Object.values((await lab.api('GET', '/networks/restart')).json.Containers) as { Name: string }[]
    assert.deepEqual(
      left.map((c) => c.Name),
      ['cni-s1'],
    )
    await del('s1', kept, of)
    await del('s2', lost, of)
  })

  describe('errors', () => {
    const valid = conf('errors', '10.85.0.0/24')
    const cases: [what: string, call: Parameters<CniLab['cni']>[0], code: number, text: RegExp][] = [
      ['no environment', { command: 'ADD', conf: valid }, 4, /\[CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME\] missing/],
      ['unknown command', { command: 'FLY', conf: valid }, 4, /unknown CNI_COMMAND: FLY/],
      ['bad container id', { command: 'DEL', containerId: 'a/b', conf: valid }, 4, /invalid characters in containerID/],
      ['long ifname', { command: 'DEL', containerId: 'a', ifname: 'x'.repeat(16), conf: valid }, 4, /too long/],
      ['ifname with a slash', { command: 'DEL', containerId: 'a', ifname: 'a/b', conf: valid }, 4, /contains/],
      ['bad CNI_ARGS', { command: 'DEL', containerId: 'a', args: 'nonsense', conf: valid }, 4, /invalid CNI_ARGS pair/],
      ['garbage', { command: 'DEL', containerId: 'a', conf: '{"name":' }, 6, /error unmarshall/],
      ['a list', { command: 'DEL', containerId: 'a', conf: '[]' }, 6, /error unmarshall/],
      ['unknown version', { command: 'DEL', containerId: 'a', conf: { ...valid, cniVersion: '9.9.9' } }, 1, /incompatible CNI versions/],
      ['no name', { command: 'DEL', containerId: 'a', conf: { ...valid, name: '' } }, 7, /missing network name/],
      ['bad name', { command: 'DEL', containerId: 'a', conf: { ...valid, name: 'a b' } }, 7, /invalid characters found in network name/],
      ['no namespace', { command: 'ADD', containerId: 'a', netns: '/nowhere', conf: valid }, 8, /is no network namespace/],
      ["the host's namespace", { command: 'ADD', containerId: 'a', netns: '/proc/self/ns/net', conf: valid }, 8, /host's own/],
    ]
    for (const [what, call, code, text] of cases)
      test(what, async () => {
        const ran = await lab.cni(call)
        assert.equal(ran.code, 1)
        assert.equal(ran.json?.code, code, ran.out)
        assert.match(ran.json.msg, text)
        if (code === 8) assert.equal(ran.json.cniVersion, '1.1.0')
      })

    const wrong: [what: string, change: object, code: number, text: RegExp][] = [
      ['vlan', { vlan: 5 }, 2, /unsupported field "vlan"/],
      ['foreign IPAM', { ipam: { type: 'dhcp' } }, 2, /"ipam.type": dhcp/],
      ['subnet', { ipam: { subnet: '10.1.2/24' } }, 7, /is no subnet/],
      ['two subnets', { ipam: { ranges: [[{ subnet: '10.1.0.0/24' }, { subnet: '10.2.0.0/24' }]] } }, 7, /has one IPv4 subnet/],
      ['types', { mtu: 'big' }, 7, /invalid "mtu"/],
      ['mtu', { mtu: 12 }, 7, /invalid MTU/],
      ['ip', { runtimeConfig: { ips: ['10.85.0.300'] } }, 7, /invalid address/],
      ['ip outside', { runtimeConfig: { ips: ['10.86.0.3'] } }, 7, /no configured subnet contains IP address 10\.86\.0\.3/],
      ['mac', { runtimeConfig: { mac: 'zz' } }, 7, /invalid MAC address/],
      ['protocol', { runtimeConfig: { portMappings: [{ hostPort: 1, containerPort: 1, protocol: 'icmp' }] } }, 7, /tcp, udp or sctp/],
      ['port 0', { runtimeConfig: { portMappings: [{ hostPort: 0, containerPort: 1 }] } }, 7, /hostPort.*1 to 65535/],
      ['host address', { runtimeConfig: { portMappings: [{ hostPort: 1, containerPort: 1, hostIP: 'here' }] } }, 7, /is no IP address/],
      ['route', { ipam: { subnet: '10.85.0.0/24', routes: [{ dst: 'there' }] } }, 7, /is no subnet/],
      ['gateway of a route', { ipam: { subnet: '10.85.0.0/24', routes: [{ dst: '10.0.0.0/8', gw: '192.0.2.1' }] } }, 999, /route/],
      ['missing network', { network: 'nowhere' }, 7, /network nowhere not found/],
    ]
    for (const [what, change, code, text] of wrong)
      test(`configuration: ${what}`, async () => {
        const ns = lab.netns()
        const ran = await lab.cni({ command: 'ADD', containerId: 'bad', netns: ns, conf: { ...valid, ...change } })
        assert.equal(ran.code, 1, ran.out)
        assert.equal(ran.json.code, code, ran.out)
        assert.match(ran.json.msg, text)
        assert.equal((await lab.inside(ns, 'ip link show eth0')).code, 1, 'nothing is left')
        lab.dropNetns(ns)
      })

    test('run by hand it says what it is', async () => {
      const ran = await lab.sh(`${lab.bin}/causeway </dev/null`)
      assert.equal(ran.code, 0)
      assert.match(ran.err, /^CNI causeway plugin.*\nCNI protocol versions supported: 0\.1\.0, .*1\.1\.0\n$/)
    })
  })
})

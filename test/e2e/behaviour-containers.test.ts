import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'

isolate()
const lab = await startEngineLab()
after(async () => assert.deepEqual(await lab.close(), []))

// biome-ignore lint/suspicious/noExplicitAny: answers of the API are looked into freely by tests
type Json = any
async function call(status: number, method: string, path: string, body?: unknown): Promise<Json> {
  const reply = await lab.api(method, path, body)
  assert.equal(reply.status, status, `${method} ${path}: ${reply.text}`)
  return reply.json
}
const create = (name: string, body: object = {}, version = ''): Promise<Json> =>
  call(201, 'POST', `${version}/containers/create?name=${name}`, {
    Image: 'busybox',
    Cmd: ['sleep', '3600'],
    StopSignal: 'SIGKILL',
    ...body,
  })
const inspect = (name: string, version = ''): Promise<Json> => call(200, 'GET', `${version}/containers/${name}/json`)
const start = (name: string) => call(204, 'POST', `/containers/${name}/start`)
const stop = (name: string) => call(204, 'POST', `/containers/${name}/stop`)
const remove = async (...names: string[]) => {
  for (const name of names) await call(204, 'DELETE', `/containers/${name}?force=1`)
}
const query = (filters: unknown) => encodeURIComponent(JSON.stringify(filters))
const listed = async (filters: unknown, all = 0): Promise<string[]> =>
  (await call(200, 'GET', `/containers/json?all=${all}&filters=${query(filters)}`)).map((c: Json) => c.Names[0].slice(1)).sort()
const ids: Record<string, string> = {}
for (const [name, third] of [
  ['net1', 1],
  ['net2', 2],
] as const)
  ids[name] = (await call(201, 'POST', '/networks/create', { Name: name, IPAM: { Config: [{ Subnet: `10.80.${third}.0/24` }] } })).Id

test('since 1.44 a container is created with several endpoints, and their networks need not exist yet', async () => {
  await create(
    'multi',
    { HostConfig: { NetworkMode: 'net1' }, NetworkingConfig: { EndpointsConfig: { net1: {}, net2: {}, net3: {} } } },
    '/v1.44',
  )
  assert.deepEqual(Object.keys((await inspect('multi')).NetworkSettings.Networks).sort(), ['net1', 'net2', 'net3'])
  assert.equal(
    (await call(404, 'POST', '/containers/multi/start')).message,
    'failed to set up container networking: network net3 not found',
  )
  await call(201, 'POST', '/networks/create', { Name: 'net3' })
  await start('multi')
  assert.equal((await lab.exec('multi', 'ls', '/sys/class/net')).out, 'eth0\neth1\neth2\nlo\n')
  await remove('multi')
  await call(204, 'DELETE', '/networks/net3')
})

test('"default" and "" mean the default network, as mode and as key of an endpoint; an id is kept as the network’s name', async () => {
  await create('d1', {
    HostConfig: { NetworkMode: 'default' },
    NetworkingConfig: { EndpointsConfig: { default: { DriverOpts: { a: 'b' } } } },
  })
  const d1 = await inspect('d1')
  assert.equal(d1.HostConfig.NetworkMode, 'bridge')
  assert.deepEqual(d1.NetworkSettings.Networks.bridge.DriverOpts, { a: 'b' })
  await create('d2', {
    HostConfig: { NetworkMode: ids['net1'] },
    NetworkingConfig: { EndpointsConfig: { [ids['net1'] as string]: { Aliases: ['al'] } } },
  })
  const { Networks } = (await inspect('d2')).NetworkSettings
  assert.deepEqual([Object.keys(Networks), Networks.net1.Aliases], [['net1'], ['al']])
  await create('d3', { HostConfig: { NetworkMode: (ids['net2'] as string).slice(0, 12) } })
  await start('d3')
  assert.deepEqual(Object.keys((await inspect('d3')).NetworkSettings.Networks), ['net2'])
  await remove('d1', 'd2', 'd3')
})

test('a container-wide MAC address moves to the main endpoint, by name or id, until 1.51; a made one is new with every start', async () => {
  const mac = '02:42:aa:00:00:07'
  for (const [version, key] of [
    ['/v1.43', 'net1'],
    ['/v1.43', ids['net1']],
    ['/v1.43', (ids['net1'] as string).slice(0, 12)],
    ['/v1.44', 'net1'],
  ] as const) {
    const { Warnings } = await create(
      'm1',
      { MacAddress: mac, HostConfig: { NetworkMode: 'net1' }, NetworkingConfig: { EndpointsConfig: { [key as string]: {} } } },
      version,
    )
    assert.equal(Warnings.length, version === '/v1.43' ? 0 : 1)
    await start('m1')
    assert.equal((await lab.exec('m1', 'cat', '/sys/class/net/eth0/address')).out, `${mac}\n`, `${version} ${key}`)
    const seen = await inspect('m1')
    assert.deepEqual(Object.keys(seen.NetworkSettings.Networks), ['net1'])
    assert.equal(seen.NetworkSettings.Networks.net1.MacAddress, mac)
    assert.equal(seen.Config.MacAddress, mac)
    await remove('m1')
  }
  await create('m2', { HostConfig: { NetworkMode: 'net1' } })
  const made = async () => {
    await start('m2')
    const { NetworkSettings, Config } = await inspect('m2')
    assert.equal(Config.MacAddress ?? '', '', 'only a configured address is shown as configured')
    await stop('m2')
    return NetworkSettings.Networks.net1.MacAddress
  }
  assert.notEqual(await made(), await made())
  await create('m3', { NetworkingConfig: { EndpointsConfig: { net1: { MacAddress: mac } } }, HostConfig: { NetworkMode: 'net1' } })
  await start('m3')
  await stop('m3')
  await start('m3')
  assert.equal((await lab.exec('m3', 'cat', '/sys/class/net/eth0/address')).out, `${mac}\n`)
  await remove('m2', 'm3')
})

test('interface sysctls move to the endpoint until 1.47, with a warning', async () => {
  const { Warnings } = await create(
    's1',
    { HostConfig: { NetworkMode: 'net1', Sysctls: { 'net.ipv4.conf.eth0.log_martians': '1' } } },
    '/v1.46',
  )
  assert.match(Warnings[0], /^Migrated sysctl /)
  const { NetworkSettings, HostConfig } = await inspect('s1')
  assert.deepEqual(NetworkSettings.Networks.net1.DriverOpts, {
    'com.docker.network.endpoint.sysctls': 'net.ipv4.conf.IFNAME.log_martians=1',
  })
  assert.equal('net.ipv4.conf.eth0.log_martians' in (HostConfig.Sysctls ?? {}), false)
  await start('s1')
  assert.equal((await lab.exec('s1', 'cat', '/proc/sys/net/ipv4/conf/eth0/log_martians')).out, '1\n')
  await remove('s1')
})

test('a private namespace lets everybody bind low ports and ping; the host’s own namespace is left alone', async () => {
  await lab.run('p1')
  assert.equal((await lab.exec('p1', 'cat', '/proc/sys/net/ipv4/ip_unprivileged_port_start')).out, '0\n')
  assert.equal((await lab.exec('p1', 'cat', '/proc/sys/net/ipv4/ping_group_range')).out.trim().replace(/\s+/, ' '), '0 2147483647')
  const before = (await lab.sh('cat /proc/sys/net/ipv4/ip_unprivileged_port_start')).out
  await lab.run('p2', { networks: ['host'] })
  assert.equal((await lab.sh('cat /proc/sys/net/ipv4/ip_unprivileged_port_start')).out, before)
  await remove('p1', 'p2')
})

test('an empty list of bindings is one binding to any port; exposed ports are null, and both families get one number', async () => {
  await create('pb', { ExposedPorts: { '81/tcp': {} }, HostConfig: { PortBindings: { '80/tcp': [], '53/udp': null } } })
  const empty = [{ HostIp: '', HostPort: '' }]
  assert.deepEqual((await inspect('pb')).HostConfig.PortBindings, { '80/tcp': empty, '53/udp': empty })
  assert.deepEqual((await inspect('pb')).NetworkSettings.Ports, {})
  await start('pb')
  const { Ports } = (await inspect('pb')).NetworkSettings
  assert.equal(Ports['81/tcp'], null)
  for (const key of ['80/tcp', '53/udp']) {
    assert.deepEqual(
      Ports[key].map((p: Json) => p.HostIp),
      ['0.0.0.0', '::'],
    )
    assert.equal(Ports[key][0].HostPort, Ports[key][1].HostPort)
    assert.ok(Number(Ports[key][0].HostPort) > 1024)
  }
  const [summary] = await call(200, 'GET', '/containers/json')
  assert.deepEqual(
    summary.Ports.filter((p: Json) => p.PrivatePort === 81),
    [{ PrivatePort: 81, Type: 'tcp' }],
  )
  assert.deepEqual(Object.keys(summary.Ports.find((p: Json) => p.PrivatePort === 80)).sort(), ['IP', 'PrivatePort', 'PublicPort', 'Type'])
  await stop('pb')
  assert.deepEqual((await call(200, 'GET', '/containers/json?all=1'))[0].Ports, [])
  await remove('pb')
})

test('warnings: ports in host mode, links on the default bridge', async () => {
  await create('target')
  await start('target')
  const host = await create('w1', { HostConfig: { NetworkMode: 'host', PortBindings: { '80/tcp': [{ HostPort: '80' }] } } })
  assert.deepEqual(host.Warnings, ['Published ports are discarded when using host network mode'])
  const link = await create('w2', { HostConfig: { Links: ['target:db'] } })
  assert.deepEqual(link.Warnings, [
    'Links on the default bridge network are deprecated and will be removed in a future release. Use a custom network instead.',
  ])
  await remove('w1', 'w2', 'target')
})

test('a link gives its target one more name until the linker or the link goes', async () => {
  await lab.run('db1')
  await create('app1', { HostConfig: { Links: ['db1:store'] } })
  const namesOf = async () => (await call(200, 'GET', '/containers/json?all=1')).find((c: Json) => c.Names.includes('/db1')).Names
  assert.deepEqual(await namesOf(), ['/db1', '/app1/store'])
  assert.deepEqual((await inspect('app1')).HostConfig.Links, ['/db1:/app1/store'])
  await call(204, 'DELETE', '/containers/app1/store?link=1')
  assert.equal((await inspect('app1')).HostConfig.Links, null)
  assert.deepEqual(await namesOf(), ['/db1'])
  await remove('app1')
  await create('app2', { HostConfig: { Links: ['db1'] } })
  assert.deepEqual(await namesOf(), ['/db1', '/app2/db1'])
  await remove('app2')
  assert.deepEqual(await namesOf(), ['/db1'])
  await create('app3', { HostConfig: { Links: ['db1:store'] } })
  await stop('db1')
  assert.equal((await call(500, 'POST', '/containers/app3/start')).message, 'Cannot link to a non running container: /db1 AS /app3/store')
  await remove('app3', 'db1')
})

test('containers are listed by network, published and exposed ports', async () => {
  await lab.run('f1', {
    networks: ['net1'],
    body: { ExposedPorts: { '9000/udp': {} } },
    host: { PortBindings: { '80/tcp': [{ HostPort: '8081' }] } },
  })
  await lab.run('f2', { networks: ['net2'] })
  await create('f3', { HostConfig: { NetworkMode: 'net1' } })
  assert.deepEqual(await listed({ network: ['net1'] }), ['f1'])
  assert.deepEqual(await listed({ network: ['net1'] }, 1), ['f1', 'f3'])
  assert.deepEqual(await listed({ network: [(ids['net1'] as string).slice(0, 8), 'net2'] }), ['f1', 'f2'])
  assert.deepEqual(await listed({ publish: ['8081'] }), ['f1'])
  assert.deepEqual(await listed({ publish: ['8000-8100/tcp'] }), ['f1'])
  assert.deepEqual(await listed({ publish: ['80'] }), [])
  assert.deepEqual(await listed({ publish: ['8081/udp'] }), [])
  assert.deepEqual(await listed({ expose: ['9000/udp'] }), ['f1'])
  assert.deepEqual(await listed({ expose: ['80'] }), ['f1'])
  assert.deepEqual(await listed({ expose: ['9000'] }), [])
  await remove('f1', 'f2', 'f3')
})

test('NetworkSettings has the old copies of the default bridge’s endpoint, and only of that one', async () => {
  await lab.run('onbridge')
  await lab.run('onnet1', { networks: ['net1'] })
  const { NetworkSettings: bridge } = await inspect('onbridge')
  const { bridge: endpoint } = bridge.Networks
  for (const key of [
    'EndpointID',
    'Gateway',
    'GlobalIPv6Address',
    'GlobalIPv6PrefixLen',
    'IPAddress',
    'IPPrefixLen',
    'IPv6Gateway',
    'MacAddress',
  ])
    assert.equal(bridge[key], endpoint[key], key)
  assert.deepEqual([endpoint.IPPrefixLen, endpoint.Gateway, endpoint.DNSNames, endpoint.Aliases], [16, '172.17.0.1', null, null])
  assert.match(bridge.SandboxKey, /\/[0-9a-f]{12}$/)
  assert.equal(bridge.SandboxKey.slice(-12), bridge.SandboxID.slice(0, 12))
  const { NetworkSettings: user, Id } = await inspect('onnet1')
  assert.deepEqual([user.IPAddress, user.IPPrefixLen, user.Gateway, user.MacAddress], ['', 0, '', ''])
  const { EndpointID, MacAddress, IPAddress, ...rest } = user.Networks.net1
  assert.deepEqual(rest, {
    IPAMConfig: null,
    Links: null,
    Aliases: null,
    DriverOpts: null,
    GwPriority: 0,
    NetworkID: ids['net1'],
    Gateway: '10.80.1.1',
    IPPrefixLen: 24,
    IPv6Gateway: '',
    GlobalIPv6Address: '',
    GlobalIPv6PrefixLen: 0,
    DNSNames: ['onnet1', Id.slice(0, 12)],
  })
  assert.deepEqual((await inspect('onnet1', '/v1.44')).NetworkSettings.Networks.net1.Aliases, [Id.slice(0, 12)])
  assert.equal('DNSNames' in (await inspect('onnet1', '/v1.43')).NetworkSettings.Networks.net1, false)
  assert.equal('GwPriority' in (await inspect('onnet1', '/v1.47')).NetworkSettings.Networks.net1, false)
  await remove('onbridge', 'onnet1')
})

test('names of an endpoint: container, aliases, short id, host name, each once; a full host name stays whole', async () => {
  await create('n1', {
    Hostname: 'h1.example.org',
    HostConfig: { NetworkMode: 'net1' },
    NetworkingConfig: { EndpointsConfig: { net1: { Aliases: ['al', 'n1'] } } },
  })
  await start('n1')
  const { Id, NetworkSettings } = await inspect('n1')
  assert.deepEqual(NetworkSettings.Networks.net1.DNSNames, ['n1', 'al', Id.slice(0, 12), 'h1.example.org'])
  assert.equal((await lab.exec('n1', 'hostname')).out, 'h1.example.org\n')
  assert.match((await lab.exec('n1', 'cat', '/etc/hosts')).out, /^10\.80\.1\.\d+\th1\.example\.org h1$/m)
  await remove('n1')
})

test('the default route follows gw-priority, then the network’s name, and gw-priority is not known before 1.48', async () => {
  const endpoints = { net1: {}, net2: { GwPriority: 5 } }
  const route = async (name: string) => /^default via (\S+)/m.exec((await lab.exec(name, 'ip', 'route')).out)?.[1]
  await create('g1', { HostConfig: { NetworkMode: 'net1' }, NetworkingConfig: { EndpointsConfig: endpoints } })
  await start('g1')
  assert.equal(await route('g1'), '10.80.2.1')
  await create('g2', { HostConfig: { NetworkMode: 'net1' }, NetworkingConfig: { EndpointsConfig: endpoints } }, '/v1.47')
  await start('g2')
  assert.equal(await route('g2'), '10.80.1.1')
  await remove('g1', 'g2')
})

test('a custom interface name is taken, one that is taken is refused, and numbers fill the lowest gap', async () => {
  const named = (name: string) => ({ DriverOpts: { 'com.docker.network.endpoint.ifname': name } })
  await create('i1', { HostConfig: { NetworkMode: 'net1' }, NetworkingConfig: { EndpointsConfig: { net1: named('eth1') } } })
  await start('i1')
  await call(200, 'POST', '/networks/net2/connect', { Container: 'i1' })
  assert.equal((await lab.exec('i1', 'ls', '/sys/class/net')).out, 'eth0\neth1\nlo\n')
  await call(500, 'POST', '/networks/bridge/connect', { Container: 'i1', EndpointConfig: named('eth1') })
  await call(200, 'POST', '/networks/net2/disconnect', { Container: 'i1' })
  await call(200, 'POST', '/networks/net2/connect', { Container: 'i1' })
  assert.equal((await lab.exec('i1', 'ls', '/sys/class/net')).out, 'eth0\neth1\nlo\n')
  await remove('i1')
})

test('container mode takes the other’s id at the start and shares its files and name', async () => {
  const id = await lab.run('own1', { networks: ['net1'] })
  await create('join1', { HostConfig: { NetworkMode: 'container:own1' } })
  await start('join1')
  const join = await inspect('join1')
  assert.equal(join.HostConfig.NetworkMode, `container:${id}`)
  assert.deepEqual(join.NetworkSettings.Networks, {})
  const own = await inspect('own1')
  assert.deepEqual([join.HostsPath, join.ResolvConfPath, join.HostnamePath], [own.HostsPath, own.ResolvConfPath, own.HostnamePath])
  assert.equal((await lab.exec('join1', 'hostname')).out, `${id.slice(0, 12)}\n`)
  await create('self1', { HostConfig: { NetworkMode: 'container:self1' } })
  assert.equal((await call(500, 'POST', '/containers/self1/start')).message, 'cannot join own network namespace')
  await remove('join1', 'self1', 'own1')
})

test('host mode is the shared sandbox: its key, no ports, the host’s files', async () => {
  await lab.run('h1', { networks: ['host'], host: { PortBindings: { '80/tcp': [{ HostPort: '80' }] } } })
  const { NetworkSettings } = await inspect('h1')
  assert.match(NetworkSettings.SandboxKey, /\/netns\/default$/)
  assert.deepEqual(Object.keys(NetworkSettings.Networks), ['host'])
  assert.equal(NetworkSettings.Networks.host.IPAddress, '')
  assert.equal((await lab.exec('h1', 'cat', '/etc/resolv.conf')).out, (await lab.sh('cat /etc/resolv.conf')).out)
  await remove('h1')
})

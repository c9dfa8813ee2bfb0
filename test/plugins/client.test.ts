/** The calling side of the plugin protocol against a plugin in Python: discovery, handshake, retries, faults. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, beforeEach, test } from 'node:test'
import type { Cidr, Ip } from '../../src/base/address.ts'
import { systemClock } from '../../src/base/clock.ts'
import type { NetError } from '../../src/base/errors.ts'
import { type Clock, silentLogger } from '../../src/base/ports.ts'
import { systemRng } from '../../src/base/rng.ts'
import type { Authority, EndpointFinal } from '../../src/drivers/authority.ts'
import type { Driver, NetworkDraft } from '../../src/drivers/types.ts'
import type { Network } from '../../src/model/network.ts'
import type { PluginDirs } from '../../src/remote/discovery.ts'
import { createRemoteDrivers, type RemoteDrivers } from '../../src/remote/remote-drivers.ts'
import { isolate } from '../../testkit/isolated.ts'
import { until } from '../../testkit/until.ts'
import { type PythonPlugin, startPlugin } from './python-plugin.ts'

isolate()

/** Pauses are so many times as short as they should be, waits a tenth; what was slept is noted in the units of the caller. */
function quickClock(): Clock & { readonly slept: number[]; speed: number } {
  const slept: number[] = []
  let skipped = 0
  const quick = {
    slept,
    speed: 100,
    now: () => systemClock.now() + skipped,
    sleep: async (ms: number, signal?: AbortSignal) => {
      slept.push(ms)
      skipped += ms * (1 - 1 / quick.speed)
      await systemClock.sleep(ms / quick.speed, signal)
    },
    after: (ms: number, fn: () => void) => systemClock.after(ms / 10, fn),
  }
  return quick
}

const NETWORK_ID = 'ab'.repeat(32)
const ENDPOINT_ID = 'cd'.repeat(32)

function draft(change: Partial<NetworkDraft> = {}): NetworkDraft {
  return { id: NETWORK_ID, name: 'net1', enableIpv4: true, enableIpv6: false, internal: false, options: {}, subnets: [], ...change }
}

function network(change: Partial<Network> = {}): Network {
  return {
    id: NETWORK_ID,
    name: 'net1',
    created: '',
    driver: 'pyplug',
    scope: 'local',
    enableIpv4: true,
    enableIpv6: false,
    internal: false,
    attachable: false,
    ingress: false,
    configOnly: false,
    configFrom: '',
    ipamDriver: 'default',
    ipamOptions: null,
    pools: [{ subnet: '10.77.0.0/24' as Cidr, gateway: '10.77.0.1' as Ip, aux: {} }],
    options: { colour: 'blue' },
    labels: {},
    predefined: false,
    ...change,
  }
}

function endpoint(change: Partial<EndpointFinal> = {}): EndpointFinal {
  return {
    endpointId: ENDPOINT_ID,
    containerId: 'ef'.repeat(32),
    containerName: 'c1',
    hostname: 'c1',
    sandboxId: '12'.repeat(32),
    sandboxKey: '/run/none',
    settings: {},
    dnsNames: ['c1'],
    ports: [{ proto: 'tcp', containerPort: 80, hostIp: '', hostPort: 8080 }],
    exposed: [{ proto: 'udp', port: 53 }],
    ipv4: '10.77.0.2' as Ip,
    ipv6: '',
    mac: '',
    data: {},
    ...change,
  }
}

let dir: string
let dirs: PluginDirs
let clock: ReturnType<typeof quickClock>
let drivers: RemoteDrivers
let plugins: PythonPlugin[] = []
const folders: string[] = []

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'causeway-plugin-'))
  folders.push(dir)
  for (const name of ['sockets', 'specs', 'memory']) mkdirSync(`${dir}/${name}`)
  dirs = { sockets: [`${dir}/sockets`], specs: [`${dir}/specs`] }
  clock = quickClock()
  drivers = createRemoteDrivers({ log: silentLogger, clock, rng: systemRng, pluginDirs: dirs, callTimeoutMs: 5000 })
})

afterEach(async () => {
  drivers.close()
  for (const plugin of plugins) await plugin.kill()
  plugins = []
  spawnSync('sh', ['-c', `ip -o link | grep -oE ' p[bvc][0-9a-f]{10}' | xargs -rn1 ip link del 2>/dev/null`])
})

after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

async function plugin(...flags: string[]): Promise<PythonPlugin> {
  const started = await startPlugin(`${dir}/sockets/pyplug.sock`, `${dir}/memory`, ...flags)
  plugins.push(started)
  return started
}

const links = () => spawnSync('ip', ['-o', 'link'], { encoding: 'utf8' }).stdout
const authorityOf = (all: RemoteDrivers, driver = 'pyplug', ipam = 'default') => {
  all.adopt([driver, ipam])
  return all.findAuthority(driver, ipam) as Authority
}
const authority = (driver = 'pyplug', ipam = 'default') => authorityOf(drivers, driver, ipam)

test('find: a socket named after the plugin, the handshake, and what it implements', async () => {
  const p = await plugin('--scope', 'global')
  assert.deepEqual(await drivers.find('pyplug'), { network: true, ipam: true, scope: 'global' })
  assert.equal(drivers.findDriver('pyplug')?.scope, 'global')
  const [first] = p.calls()
  assert.deepEqual([first?.method, first?.body, first?.accept], ['Plugin.Activate', null, 'application/vnd.docker.plugins.v1.2+json'])
})

test('find: a folder of its own, a .spec and a .json file lead to the plugin', async () => {
  mkdirSync(`${dir}/sockets/deep`)
  plugins.push(await startPlugin(`${dir}/sockets/deep/deep.sock`, `${dir}/memory`))
  assert.equal((await drivers.find('deep')).network, true)
  const tcp = await startPlugin('127.0.0.1:0', `${dir}/memory`)
  plugins.push(tcp)
  writeFileSync(`${dir}/specs/speced.spec`, `tcp://127.0.0.1:${tcp.said}\n`)
  assert.equal((await drivers.find('speced')).ipam, true)
  mkdirSync(`${dir}/specs/jsoned`)
  writeFileSync(`${dir}/specs/jsoned/jsoned.json`, JSON.stringify({ Name: 'jsoned', Addr: `http://127.0.0.1:${tcp.said}` }))
  assert.equal((await drivers.find('jsoned')).ipam, true)
})

test('find: TLS with a CA is verified, and refused when the certificate is somebody else’s', async () => {
  const cert = (name: string) => [`${dir}/${name}.crt`, `${dir}/${name}.key`] as const
  for (const name of ['right', 'wrong']) {
    const [crt, key] = cert(name)
    const made = spawnSync('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=localhost'],
      ...['-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost', '-keyout', key, '-out', crt],
    ])
    assert.equal(made.status, 0, made.stderr.toString())
  }
  const tcp = await startPlugin('127.0.0.1:0', `${dir}/memory`, '--tls', ...cert('right'))
  plugins.push(tcp)
  const spec = (ca: string) => JSON.stringify({ Name: 'x', Addr: `https://127.0.0.1:${tcp.said}`, TLSConfig: { CAFile: cert(ca)[0] } })
  writeFileSync(`${dir}/specs/trusted.json`, spec('right'))
  writeFileSync(`${dir}/specs/foreign.json`, spec('wrong'))
  assert.equal((await drivers.find('trusted')).network, true)
  await assert.rejects(drivers.find('foreign'), (e: NetError) => e.code === 'unavailable' && /certificate/.test(e.message))
})

test('find: the protocol of the address decides about TLS; a .spec trusts any certificate, as in Docker', async () => {
  const [crt, key] = [`${dir}/own.crt`, `${dir}/own.key`]
  const made = spawnSync('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=somebody'],
    ...['-keyout', key, '-out', crt],
  ])
  assert.equal(made.status, 0, made.stderr.toString())
  const secret = await startPlugin('127.0.0.1:0', `${dir}/memory`, '--tls', crt, key)
  const open = await startPlugin('127.0.0.1:0', `${dir}/memory`)
  plugins.push(secret, open)
  writeFileSync(`${dir}/specs/secret.spec`, `https://127.0.0.1:${secret.said}\n`)
  assert.equal((await drivers.find('secret')).network, true)
  for (const protocol of ['http', 'tcp']) {
    writeFileSync(`${dir}/specs/${protocol}.json`, JSON.stringify({ Addr: `${protocol}://127.0.0.1:${open.said}`, TLSConfig: {} }))
    assert.equal((await drivers.find(protocol)).network, true)
  }
})

test('find: an unknown plugin is looked for with 1, 2, 4 and 8 s between, then not found', async () => {
  await assert.rejects(drivers.find('nobody'), (e: NetError) => e.code === 'not-found' && e.message === 'plugin "nobody" not found')
  assert.deepEqual(clock.slept, [1000, 2000, 4000, 8000])
})

test('find: a host without any plugin folder answers at once', async () => {
  const none = createRemoteDrivers({ log: silentLogger, clock, rng: systemRng, pluginDirs: { sockets: [`${dir}/no`], specs: [] } })
  await assert.rejects(none.find('nobody'), { message: 'plugin "nobody" not found' })
  await assert.rejects(none.find('../../etc/passwd'), { message: 'plugin "../../etc/passwd" not found' })
  assert.deepEqual(clock.slept, [])
})

test('find: a plugin that comes up meanwhile is found', async () => {
  clock.speed = 3 // Python takes its time to start
  const found = drivers.find('pyplug')
  await plugin()
  assert.equal((await found).network, true)
})

test('find: answers that are no handshake are refused, and name what came', async () => {
  const p = await plugin()
  p.faults({ 'Plugin.Activate': { raw: '<html>' } })
  await assert.rejects(drivers.find('pyplug'), (e: NetError) => e.code === 'internal' && /no JSON: <html>/.test(e.message))
  p.faults({ 'Plugin.Activate': { body: { Implements: ['VolumeDriver'] } } })
  await assert.rejects(drivers.find('pyplug'), /implements neither NetworkDriver nor IpamDriver, only VolumeDriver/)
})

test('keys of an answer are taken in any case, as by Docker', async () => {
  const p = await plugin()
  p.faults({
    'Plugin.Activate': { body: { implements: ['NetworkDriver', 'IpamDriver'] } },
    'NetworkDriver.GetCapabilities': { body: { scope: 'global' } },
    'NetworkDriver.Join': { body: { interfacename: { srcname: 'veth7', dstprefix: 'low' }, staticRoutes: [], GATEWAY: '10.77.0.1' } },
    'NetworkDriver.DeleteNetwork': { body: { err: 'in lower case' } },
  })
  assert.deepEqual(await drivers.find('pyplug'), { network: true, ipam: true, scope: 'global' })
  const a = authority()
  await a.createNetwork?.(network())
  const data = (await a.createEndpoint?.(network(), endpoint())) ?? {}
  assert.deepEqual([data['srcName'], data['dstPrefix'], data['gateway4']], ['veth7', 'low', '10.77.0.1'])
})

test('values of the wrong type are refused with method, field and value, and what was begun is taken back', async () => {
  const p = await plugin()
  const a = authority('pyplug', 'pyplug')
  await a.createNetwork?.(network())
  for (const [method, body, text] of [
    ['NetworkDriver.Join', { Gateway: 5 }, /NetworkDriver\.Join: plugin "pyplug" answered Gateway 5, expected a string/],
    ['NetworkDriver.Join', { StaticRoutes: 'all' }, /answered StaticRoutes "all", expected a list/],
    ['NetworkDriver.Join', { StaticRoutes: [{ Destination: 7 }] }, /answered StaticRoutes\[0\]\.Destination 7, expected a string/],
    ['NetworkDriver.Join', { DisableGatewayService: 'yes' }, /answered DisableGatewayService "yes", expected true or false/],
    ['NetworkDriver.CreateEndpoint', { Interface: 'eth0' }, /answered Interface "eth0", expected an object/],
    ['NetworkDriver.CreateEndpoint', { Err: { why: 1 } }, /answered Err \{"why":1\}, expected a string/],
  ] as const) {
    p.faults({ [method]: { body, times: 1 } })
    await assert.rejects(async () => a.createEndpoint?.(network(), endpoint()), text)
  }
  for (const [method, body, text] of [
    ['IpamDriver.RequestPool', { PoolID: 'x', Pool: 7 }, /IpamDriver\.RequestPool: plugin "pyplug" answered Pool 7, expected a string/],
    [
      'IpamDriver.RequestPool',
      { PoolID: 'x', Pool: '10.50.9.0/24', Data: { 'com.docker.network.gateway': 'none' } },
      /answered gateway "none", expected an address with its prefix length/,
    ],
    ['IpamDriver.RequestAddress', { Address: 5 }, /IpamDriver\.RequestAddress: plugin "pyplug" answered Address 5, expected a string/],
  ] as const) {
    p.faults({ [method]: { body, times: 1 } })
    await assert.rejects(async () => a.grantNetwork?.(draft(), [], {}), text)
  }
  assert.equal(p.calls('IpamDriver.ReleasePool').filter(({ body }) => body.PoolID === 'x').length, 1)
  await until('everything to be given back', () => Object.keys({ ...p.state().pools, ...p.state().endpoints }).length === 0)
})

test('an IPAM without subnets: its pool is the whole space, each address has a length of its own', async () => {
  const hostUses = createRemoteDrivers({
    ...{ log: silentLogger, clock, rng: systemRng, pluginDirs: dirs, callTimeoutMs: 5000 },
    isUsedByHost: () => true,
  })
  const p = await plugin()
  p.faults({
    'IpamDriver.RequestPool': { body: { PoolID: 'all', Pool: '0.0.0.0/0', Data: { 'com.docker.network.gateway': '0.0.0.0/0' } } },
    'IpamDriver.RequestAddress': { body: { Address: '10.50.0.7/32' } },
    'NetworkDriver.Join': { body: { InterfaceName: { SrcName: 'x', DstPrefix: 'cali' }, Gateway: '169.254.1.1' } },
  })
  const a = authorityOf(hostUses, 'pyplug', 'pyplug')
  const grant = await a.grantNetwork?.(draft(), [], {})
  assert.deepEqual(grant?.pools, [{ subnet: '0.0.0.0/0', gateway: '0.0.0.0', aux: {} }])
  const made = network({ ipamDriver: 'pyplug', pools: grant?.pools ?? [], data: grant?.data ?? {} })
  await a.createNetwork?.(made)
  const given = await a.grantEndpoint?.(made, endpoint())
  const data = (await a.createEndpoint?.(made, endpoint({ ipv4: '10.50.0.7' as Ip, data: given?.data ?? {} }))) ?? {}
  assert.equal(p.calls('NetworkDriver.CreateEndpoint')[0]?.body.Interface.Address, '10.50.0.7/32')
  const driver = hostUses.findDriver('pyplug') as Driver
  assert.equal(driver.prefixLength?.(data, '10.50.0.7' as Ip), 32)
  const facts = { id: ENDPOINT_ID, ifname: 'cali0', hostIfname: '', mac: '', ipv6: '', linkLocalIps: [], sysctls: [], netnsFd: -1 } as const
  const wanted = driver.endpointWanted(made, { ...facts, ipv4: '10.50.0.7' as Ip, data })
  assert.deepEqual(
    wanted.inside.addresses.map(({ address }) => address),
    ['10.50.0.7/32'],
  )
  hostUses.close()
})

test('discover: finding nothing is fine, and names of the engine itself are not looked for', async () => {
  await drivers.discover('overlay')
  assert.deepEqual(clock.slept, [])
  await drivers.discover('nobody')
  assert.equal(drivers.findDriver('nobody'), undefined)
  assert.equal(drivers.findAuthority('nobody', 'default'), undefined)
})

test('a network without IPAM: the driver says which address an endpoint has', async () => {
  const p = await plugin()
  p.faults({ 'NetworkDriver.CreateEndpoint': { body: { Interface: { Address: '192.0.2.9/26', MacAddress: '02:00:00:00:00:09' } } } })
  const a = authority('pyplug', 'null')
  const made = network({ ipamDriver: 'null', pools: [] })
  assert.deepEqual(await a.grantNetwork?.(draft(), [], {}), { pools: [] })
  await a.createNetwork?.(made)
  const grant = await a.grantEndpoint?.(made, endpoint())
  assert.deepEqual([grant?.ipv4, grant?.mac], ['192.0.2.9', '02:00:00:00:00:09'])
  const data = (await a.createEndpoint?.(made, endpoint({ ipv4: grant?.ipv4 ?? '', data: grant?.data ?? {} }))) ?? {}
  assert.equal(p.calls('NetworkDriver.CreateEndpoint').length, 1)
  assert.equal(p.calls('NetworkDriver.Join').length, 1)
  assert.equal(data['address4'], '192.0.2.9/26')
})

test('find: a scope that is neither local nor global is refused', async () => {
  const p = await plugin()
  p.faults({ 'NetworkDriver.GetCapabilities': { body: { Scope: 'swarm' } } })
  await assert.rejects(drivers.discover('pyplug'), { message: `invalid capability: expecting 'local' or 'global', got swarm` })
})

test('a network and an endpoint: the calls, their bodies, and what the driver makes of the answers', async () => {
  const p = await plugin()
  await drivers.find('pyplug')
  const a = authority()
  assert.deepEqual(await a.grantNetwork?.(draft(), [], {}), {})
  await a.createNetwork?.(network())
  assert.deepEqual(p.calls('NetworkDriver.CreateNetwork')[0]?.body, {
    NetworkID: NETWORK_ID,
    Options: {
      'com.docker.network.enable_ipv4': true,
      'com.docker.network.enable_ipv6': false,
      'com.docker.network.generic': { colour: 'blue' },
    },
    IPv4Data: [{ AddressSpace: 'LocalDefault', Pool: '10.77.0.0/24', Gateway: '10.77.0.1/24', AuxAddresses: {} }],
    IPv6Data: [],
  })
  const data = (await a.createEndpoint?.(network(), endpoint())) ?? {}
  assert.deepEqual(p.calls('NetworkDriver.CreateEndpoint')[0]?.body, {
    NetworkID: NETWORK_ID,
    EndpointID: ENDPOINT_ID,
    Interface: { Address: '10.77.0.2/24', AddressIPv6: '', MacAddress: '' },
    Options: {
      'com.docker.network.endpoint.exposedports': [{ Proto: 17, Port: 53 }],
      'com.docker.network.portmap': [{ Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8080 }],
    },
  })
  const driver = drivers.findDriver('pyplug') as Driver
  const wanted = driver.endpointWanted(network(), {
    id: ENDPOINT_ID,
    ifname: 'plug0',
    hostIfname: '',
    mac: '',
    ipv4: '10.77.0.2' as Ip,
    ipv6: '',
    linkLocalIps: [],
    sysctls: [],
    netnsFd: -1,
    data,
  })
  assert.deepEqual(wanted.plug, { kind: 'taken', hostIfname: 'pccdcdcdcdcd', mac: '02:50:cd:cd:cd:cd' })
  assert.deepEqual(
    wanted.inside.addresses.map(({ address }) => address),
    ['10.77.0.2/24'],
  )
  assert.deepEqual(wanted.inside.routes, [{ family: 4, dst: '198.18.7.0/24', dev: 'plug0', scope: 'link' }])
  assert.deepEqual(driver.gatewayOf(network(), data), { ipv4: '10.77.0.1', ipv6: '' })
  assert.equal(driver.usesGatewayBridge?.(network(), data), false)
  assert.equal(driver.ifacePrefix?.(network(), data), 'plug')
  assert.match(links(), /pccdcdcdcdcd/)
  await a.setGateway?.(network(), endpoint({ data }), true)
  await a.removeEndpoint?.(network(), ENDPOINT_ID, data)
  assert.doesNotMatch(links(), /p[vc]cdcd/)
  await a.removeNetwork?.(network(), false)
  assert.doesNotMatch(links(), /pbabab/)
  const order = p.calls().map(({ method }) => method.split('.')[1])
  assert.deepEqual(order.slice(2), [
    ...['CreateNetwork', 'CreateEndpoint', 'Join', 'ProgramExternalConnectivity'],
    ...['RevokeExternalConnectivity', 'Leave', 'DeleteEndpoint', 'DeleteNetwork'],
  ])
  // both removals may come again after a crash
  await a.removeEndpoint?.(network(), ENDPOINT_ID, data)
  await a.removeNetwork?.(network(), false)
})

test('a driver of global scope chooses for the whole cluster, and a gateway bridge serves what has no gateway', async () => {
  const p = await plugin('--scope', 'global', '--no-gateway')
  const manager = createRemoteDrivers({ log: silentLogger, clock, rng: systemRng, pluginDirs: dirs, isManager: true })
  await manager.find('pyplug')
  const a = authorityOf(manager)
  const made = network({ scope: 'global' })
  const allocated = await a.createNetwork?.(made)
  assert.deepEqual(p.calls('NetworkDriver.CreateNetwork')[0]?.body.Options['com.docker.network.generic'], {
    colour: 'blue',
    'plugin.allocated': '77',
  })
  const data = (await a.createEndpoint?.(made, endpoint())) ?? {}
  assert.equal(manager.findDriver('pyplug')?.usesGatewayBridge?.(made, data), true)
  await a.removeEndpoint?.(made, ENDPOINT_ID, data)
  assert.equal(p.calls('NetworkDriver.RevokeExternalConnectivity').length, 0)
  await a.removeNetwork?.({ ...made, data: allocated ?? {} }, false)
  assert.equal(p.calls('NetworkDriver.FreeNetwork').length, 1)
  await manager.announceNode({ address: '192.0.2.7', self: false }, true)
  assert.deepEqual(p.calls('NetworkDriver.DiscoverNew')[0]?.body, {
    DiscoveryType: 1,
    DiscoveryData: { Address: '192.0.2.7', BindAddress: '', Self: false },
  })
})

test('IPAM of a plugin under a built-in driver: pools, gateway, auxiliary and endpoint addresses, and all of it given back', async () => {
  const p = await plugin('--only', 'ipam')
  assert.deepEqual(await drivers.find('pyplug'), { network: false, ipam: true, scope: 'local' })
  const a = authority('bridge', 'pyplug')
  const grant = await a.grantNetwork?.(draft(), [{ subnet: '10.51.0.0/24', aux: { router: '10.51.0.9' } }], { zone: 'a' })
  assert.deepEqual(grant?.pools, [{ subnet: '10.51.0.0/24', gateway: '10.51.0.1', aux: { router: '10.51.0.9' } }])
  assert.deepEqual(p.calls('IpamDriver.RequestPool')[0]?.body, {
    AddressSpace: 'here',
    Pool: '10.51.0.0/24',
    SubPool: '',
    Options: { zone: 'a' },
    V6: false,
  })
  const made = network({ driver: 'bridge', ipamDriver: 'pyplug', pools: grant?.pools ?? [], data: grant?.data ?? {} })
  const got = await a.grantEndpoint?.(made, endpoint())
  assert.equal(got?.ipv4, '10.51.0.2')
  assert.deepEqual(p.calls('IpamDriver.RequestAddress').at(-1)?.body.Options, { 'com.docker.network.endpoint.name': 'c1' })
  await assert.rejects(async () => a.grantEndpoint?.(made, endpoint({ settings: { ipv4: '10.51.0.2' } })), {
    message: 'remote: address is taken',
  })
  assert.equal(await a.createEndpoint?.(made, endpoint()), undefined)
  await a.removeEndpoint?.(made, ENDPOINT_ID, got?.data ?? {})
  assert.equal((await a.grantEndpoint?.(made, endpoint({ settings: { ipv4: '10.51.0.2' } })))?.ipv4, '10.51.0.2')
  await a.removeEndpoint?.(made, ENDPOINT_ID, got?.data ?? {})
  await a.removeNetwork?.(made, false)
  assert.deepEqual(p.state().pools, {})
})

test('IPAM: subnets that the host uses are held, refused and given back until a free one comes', async () => {
  const p = await plugin()
  const choosy = createRemoteDrivers({
    log: silentLogger,
    clock,
    rng: systemRng,
    pluginDirs: dirs,
    isUsedByHost: (subnet) => /^10\.50\.[012]\.0\/24$/.test(subnet),
  })
  await choosy.find('pyplug')
  const grant = await authorityOf(choosy, 'bridge', 'pyplug').grantNetwork?.(draft(), [], {})
  assert.equal(grant?.pools?.[0]?.subnet, '10.50.3.0/24')
  assert.deepEqual(Object.keys(p.state().pools), ['10.50.3.0/24'])
})

test('IPAM that keeps nothing is told everything again after a restart, with MACs', async () => {
  const first = await plugin('--replay')
  await drivers.find('pyplug')
  const a = authority('bridge', 'pyplug')
  const grant = await a.grantNetwork?.(draft({ enableIpv6: true }), [], {})
  const made = network({ driver: 'bridge', ipamDriver: 'pyplug', enableIpv6: true, pools: grant?.pools ?? [], data: grant?.data ?? {} })
  const got = await a.grantEndpoint?.(made, endpoint())
  assert.match(got?.mac ?? '', /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/)
  const before = first.state()
  await first.kill()
  const again = createRemoteDrivers({ log: silentLogger, clock, rng: systemRng, pluginDirs: dirs })
  await authorityOf(again, 'bridge', 'pyplug').restore?.([made], [{ network: made, endpoint: endpoint({ data: got?.data ?? {} }) }])
  const second = await plugin('--replay')
  await until('the replay', () => JSON.stringify(second.state()) === JSON.stringify(before), 10_000)
  again.close()
})

test('faults: an error in the answer, an error status, nonsense and wrong values are said and leave nothing', async () => {
  const p = await plugin()
  await drivers.find('pyplug')
  const a = authority('pyplug', 'pyplug')
  const cases: [string, object, RegExp][] = [
    ['IpamDriver.RequestPool', { body: { Error: 'sold out' } }, /^remote: sold out$/],
    ['IpamDriver.RequestPool', { body: { PoolID: 'p', Pool: 'bogus' } }, /answered Pool "bogus"/],
    ['IpamDriver.RequestAddress', { body: { Address: 'bogus' } }, /answered Address "bogus"/],
    ['IpamDriver.RequestAddress', { status: 500, body: { Err: 'broken' } }, /^IpamDriver.RequestAddress: broken$/],
  ]
  for (const [method, fault, text] of cases) {
    p.faults({ [method]: fault })
    await assert.rejects(async () => a.grantNetwork?.(draft(), [], {}), says(text))
    p.faults({})
    await until(`pools after ${method}`, () => Object.keys(p.state().pools ?? {}).length === 0, 10_000)
  }
  const b = authority()
  p.faults({ 'NetworkDriver.CreateNetwork': { status: 500, raw: 'plain words' } })
  await assert.rejects(async () => b.createNetwork?.(network()), { message: 'NetworkDriver.CreateNetwork: plain words' })
  p.faults({})
  await b.createNetwork?.(network())
  const wrong: [string, object, RegExp][] = [
    ['NetworkDriver.CreateEndpoint', { body: { Err: 'no' } }, /^remote: no$/],
    ['NetworkDriver.Join', { body: { InterfaceName: { SrcName: 'a b' } } }, /named an interface that cannot be/],
    ['NetworkDriver.Join', { raw: '[1]' }, /answered \[1\], expected an object/],
    ['NetworkDriver.Join', { body: { InterfaceName: { SrcName: 'x' }, Gateway: 'nowhere' } }, /unable to parse Gateway "nowhere"/],
    ['NetworkDriver.Join', { body: { InterfaceName: { SrcName: 'x' }, StaticRoutes: [{ Destination: 'x' }] } }, /invalid CIDR address: x/],
    [
      'NetworkDriver.CreateEndpoint',
      { body: { Interface: { Address: '10.77.0.9/24' } } },
      /^driver modified interface address: .*10\.77\.0\.2\/24.*10\.77\.0\.9/,
    ],
  ]
  for (const [method, fault, text] of wrong) {
    p.faults({ [method]: fault })
    await assert.rejects(async () => b.createEndpoint?.(network(), endpoint()), says(text))
    assert.doesNotMatch(links(), /p[vc]cdcd/, method)
  }
})

test('faults: a slow plugin ends the call in time, and what it made after all is taken back', async () => {
  const p = await plugin()
  const hasty = createRemoteDrivers({ log: silentLogger, clock, rng: systemRng, pluginDirs: dirs, callTimeoutMs: 3000 })
  await hasty.find('pyplug')
  const a = authorityOf(hasty)
  await a.createNetwork?.(network())
  p.faults({ 'NetworkDriver.CreateEndpoint': { delay: 0.8, times: 1 } })
  await assert.rejects(
    async () => a.createEndpoint?.(network(), endpoint()),
    (e: NetError) =>
      e.code === 'unavailable' &&
      /NetworkDriver.CreateEndpoint: plugin "pyplug" at unix:.* does not answer: no answer within 3 s/.test(e.message),
  )
  // the delete may not overtake the create that is still on its way
  await until('the endpoint to be taken back', () => p.calls('NetworkDriver.DeleteEndpoint').length > 0, 10_000)
  await until('nothing to be left', () => Object.keys(p.state().endpoints).length === 0 && !/p[vc]cdcd/.test(links()), 10_000)
  hasty.close()
})

test('faults: a broken connection is tried again; a plugin that comes back is asked anew', async () => {
  const p = await plugin()
  await drivers.find('pyplug')
  p.faults({ 'NetworkDriver.CreateNetwork': { drop: true, times: 2 } })
  await authority().createNetwork?.(network())
  assert.deepEqual(clock.slept, [1000, 2000])
  clock.speed = 3
  p.faults({ 'NetworkDriver.CreateEndpoint': { die: true, times: 1 } })
  const creating = authority().createEndpoint?.(network(), endpoint())
  await until('the plugin to die', () => p.hasEnded(), 10_000)
  const second = await plugin()
  assert.equal((await creating)?.['srcName'], 'pccdcdcdcdcd')
  assert.equal(second.calls('NetworkDriver.Join').length, 1)
})

test('faults: without its plugin a network is removed by force only, at once', async () => {
  const p = await plugin()
  await drivers.find('pyplug')
  const a = authority()
  await a.createNetwork?.(network())
  await p.kill()
  await assert.rejects(
    async () => a.removeEndpoint?.(network(), ENDPOINT_ID, {}),
    (e: NetError) => e.code === 'unavailable',
  )
  await assert.rejects(
    async () => a.removeNetwork?.(network(), false),
    (e: NetError) => e.code === 'unavailable',
  )
  await a.removeNetwork?.(network(), true)
  assert.deepEqual(clock.slept, [])
})

const says = (text: RegExp) => (error: Error) => text.test(error.message)

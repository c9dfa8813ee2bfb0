/** The plugin's sockets as a caller that makes mistakes sees them: calls twice, out of order, without fields, and what is no JSON. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, statSync } from 'node:fs'
import { request } from 'node:http'
import { after, before, test } from 'node:test'
import { type EngineLab, startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'

isolate()
const DIR = '/run/docker/plugins'
const NET = 'a1'.repeat(32)
const EP = 'b2'.repeat(32)
let lab: EngineLab

before(async () => {
  spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', '/run'])
  mkdirSync('/run/docker', { recursive: true })
  lab = await startEngineLab(['--docker-plugins', DIR, '--bridge', 'none'])
})

after(async () => {
  assert.deepEqual(await lab.close(), [])
})

interface Answer {
  readonly status: number
  // biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely
  readonly json: any
}

function call(method: string, body: unknown, name = 'causeway'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const req = request({ socketPath: `${DIR}/${name}.sock`, method: 'POST', path: `/${method}` }, (res) => {
      let text = ''
      res.on('data', (chunk: Buffer) => {
        text += chunk.toString()
      })
      res.on('end', () => resolve({ status: res.statusCode ?? 0, json: JSON.parse(text) }))
    })
    req.on('error', reject)
    req.end(typeof body === 'string' ? body : JSON.stringify(body))
  })
}

const CREATE = {
  NetworkID: NET,
  Options: { 'com.docker.network.enable_ipv6': false, 'com.docker.network.generic': {} },
  IPv4Data: [{ AddressSpace: 'LocalDefault', Pool: '10.71.0.0/24', Gateway: '10.71.0.1/24', AuxAddresses: {} }],
  IPv6Data: [],
}
const ENDPOINT = { NetworkID: NET, EndpointID: EP, Interface: { Address: '10.71.0.2/24', AddressIPv6: '', MacAddress: '' }, Options: {} }
const links = () => spawnSync('ip', ['-o', 'link'], { encoding: 'utf8' }).stdout

test('every socket says what it implements, and is for root alone', async () => {
  assert.deepEqual((await call('Plugin.Activate', '')).json, { Implements: ['NetworkDriver', 'IpamDriver'] })
  for (const name of ['causeway-overlay', 'causeway-macvlan']) {
    assert.deepEqual((await call('Plugin.Activate', '', name)).json, { Implements: ['NetworkDriver'] })
    assert.equal(statSync(`${DIR}/${name}.sock`).mode & 0o777, 0o600)
  }
  assert.deepEqual((await call('Plugin.Activate', '', 'causeway-dhcp')).json, { Implements: ['IpamDriver'] })
  assert.equal((await call('IpamDriver.GetCapabilities', null, 'causeway-dhcp')).json.RequiresMACAddress, true)
  assert.match((await call('IpamDriver.RequestPool', { V6: true }, 'causeway-dhcp')).json.Error, /IPv4 addresses only/)
  assert.match(
    (await call('IpamDriver.RequestPool', { Pool: '10.250.0.0/24' }, 'causeway-dhcp')).json.Error,
    /no interface of this host is on/,
  )
  assert.match((await call('IpamDriver.RequestAddress', { PoolID: 'x' }, 'causeway-dhcp')).json.Error, /no address pool "x"/)
  assert.equal((await call('NetworkDriver.GetCapabilities', null)).json.Scope, 'local')
})

test('calls without sense are answered with a sentence, and change nothing', async () => {
  assert.equal((await call('NetworkDriver.Dance', {})).status, 404)
  assert.match((await call('NetworkDriver.CreateNetwork', 'nonsense')).json.Err, /the body is no JSON/)
  assert.match((await call('NetworkDriver.CreateNetwork', {})).json.Err, /NetworkID is missing/)
  assert.match((await call('NetworkDriver.CreateEndpoint', ENDPOINT)).json.Err, /network a1a1a1a1a1a1 is not known/)
  assert.match((await call('NetworkDriver.Join', { NetworkID: NET, EndpointID: EP })).json.Err, /not known/)
  assert.match((await call('NetworkDriver.CreateNetwork', { ...CREATE, IPv4Data: [{ Pool: 'x', Gateway: '' }] })).json.Err, /x/)
  assert.match((await call('IpamDriver.RequestAddress', { PoolID: 'none' })).json.Error, /no address pool "none"/)
  assert.match((await call('IpamDriver.RequestPool', { Pool: '10.0.0.0/99' })).json.Error, /10\.0\.0\.0\/99/)
  for (const gone of ['DeleteNetwork', 'DeleteEndpoint', 'Leave', 'RevokeExternalConnectivity'])
    assert.deepEqual((await call(`NetworkDriver.${gone}`, { NetworkID: NET, EndpointID: EP })).json, {})
  assert.deepEqual(
    (await lab.api('GET', '/networks')).json.filter((n: { Name: string }) => /docker/.test(n.Name)),
    [],
  )
})

test('plugin serve: says when an engine is there already, and which flag offers the drivers', async () => {
  const args = [
    'plugin',
    'serve',
    '--data-root',
    `${lab.dir}/second`,
    '--exec-root',
    `${lab.dir}/second-run`,
    '-H',
    `unix://${lab.dir}/second.sock`,
  ]
  const ran = await lab.causeway(...args)
  assert.equal(ran.code, 1)
  assert.match(ran.err, /another engine is running in this network namespace/)
  assert.match((await lab.causeway('plugin', 'serve', '--help')).out, /--docker-plugins/)
  assert.equal((await call('Plugin.Activate', '')).status, 200)
})

test('every call may come twice, at once too, and survives a kill -9 in between', async () => {
  const both = await Promise.all([call('NetworkDriver.CreateNetwork', CREATE), call('NetworkDriver.CreateNetwork', CREATE)])
  assert.deepEqual(
    both.map(({ json }) => json),
    [{}, {}],
  )
  const endpoints = await Promise.all([call('NetworkDriver.CreateEndpoint', ENDPOINT), call('NetworkDriver.CreateEndpoint', ENDPOINT)])
  assert.deepEqual(
    endpoints.map(({ json }) => json.Interface),
    Array(2).fill({ MacAddress: '02:42:0a:47:00:02' }),
  )
  await lab.kill9()
  await lab.start()
  assert.deepEqual((await call('NetworkDriver.CreateEndpoint', ENDPOINT)).json.Interface, { MacAddress: '02:42:0a:47:00:02' })
  const joined = (await call('NetworkDriver.Join', { NetworkID: NET, EndpointID: EP, SandboxKey: '/x', Options: {} })).json
  assert.deepEqual(joined, {
    InterfaceName: { SrcName: 'cwb2b2b2b2b2b2', DstPrefix: 'eth' },
    Gateway: '10.71.0.1',
    GatewayIPv6: '',
    DisableGatewayService: true,
  })
  const ports = {
    NetworkID: NET,
    EndpointID: EP,
    Options: { 'com.docker.network.portmap': [{ Proto: 6, Port: 80, HostPort: 8085, HostPortEnd: 8085 }] },
  }
  for (let n = 0; n < 2; n++) assert.deepEqual((await call('NetworkDriver.ProgramExternalConnectivity', ports)).json, {})
  // its container's namespace took the interface along: the endpoint may join again all the same
  spawnSync('ip', ['link', 'del', 'cwb2b2b2b2b2b2'])
  assert.equal((await call('NetworkDriver.Join', { NetworkID: NET, EndpointID: EP })).json.InterfaceName.SrcName, 'cwb2b2b2b2b2b2')
  assert.match(links(), /cwb2b2b2b2b2b2/)
  for (let n = 0; n < 2; n++) assert.deepEqual((await call('NetworkDriver.DeleteEndpoint', ENDPOINT)).json, {})
  for (let n = 0; n < 2; n++) assert.deepEqual((await call('NetworkDriver.DeleteNetwork', { NetworkID: NET })).json, {})
  // the kernel lets go of them a moment later
  for (const end = Date.now() + 5000; /cwb2|br-a1a1/.test(links()) && Date.now() < end; ) await new Promise((done) => setTimeout(done, 20))
  assert.doesNotMatch(links(), /cwb2|br-a1a1/)
})

test('IPAM: what was given out is held over a kill -9, and given again when it was given back', async () => {
  const pool = (
    await call('IpamDriver.RequestPool', { AddressSpace: 'causeway-local', Pool: '10.72.0.0/24', SubPool: '10.72.0.128/25', V6: false })
  ).json
  assert.deepEqual([pool.Pool, pool.Error], ['10.72.0.0/24', undefined])
  const ask = (Address: string, Options = {}) => call('IpamDriver.RequestAddress', { PoolID: pool.PoolID, Address, Options })
  assert.equal((await ask('', { RequestAddressType: 'com.docker.network.gateway' })).json.Address, '10.72.0.128/24')
  assert.equal((await ask('')).json.Address, '10.72.0.129/24')
  await lab.kill9()
  await lab.start()
  assert.equal((await ask('')).json.Address, '10.72.0.130/24')
  assert.match((await ask('10.72.0.129')).json.Error, /already in use/)
  await call('IpamDriver.ReleaseAddress', { PoolID: pool.PoolID, Address: '10.72.0.129' })
  assert.equal((await ask('10.72.0.129')).json.Address, '10.72.0.129/24')
  assert.match((await call('IpamDriver.RequestPool', { Pool: '10.72.0.0/16', V6: false })).json.Error, /overlaps/)
  for (let n = 0; n < 2; n++) assert.deepEqual((await call('IpamDriver.ReleasePool', { PoolID: pool.PoolID })).json, {})
  const six = (await call('IpamDriver.RequestPool', { Pool: '', SubPool: '', V6: true })).json
  assert.match(six.Pool, /^fd.*\/64$/)
  await call('IpamDriver.ReleasePool', { PoolID: six.PoolID })
})

test('IPAM driver causeway on an engine without a cluster: its own addresses, as for any network', async () => {
  assert.equal((await lab.docker('network', 'create', '--ipam-driver', 'causeway', '--subnet', '10.73.0.0/24', 'own')).code, 0)
  await lab.run('oo', { networks: ['own'] })
  assert.equal((await lab.api('GET', '/containers/oo/json')).json.NetworkSettings.Networks.own.IPAddress, '10.73.0.2')
  assert.match((await call('IpamDriver.RequestPool', { Pool: '10.73.0.0/24', V6: false })).json.Error, /overlaps/)
  assert.match((await lab.causeway('ipam', 'ls')).err, /not a member of a cluster/)
  // of a pool of a cluster that this engine was in
  const PoolID = `cluster/${'c3'.repeat(32)}/10.74.0.0/24`
  assert.match(
    (await call('IpamDriver.RequestAddress', { PoolID })).json.Error,
    /addresses from a cluster: start this engine with --cluster-store/,
  )
  assert.deepEqual((await call('IpamDriver.ReleasePool', { PoolID })).json, {})
  assert.equal((await lab.docker('rm', '-f', 'oo')).code, 0)
  assert.equal((await lab.docker('network', 'rm', 'own')).code, 0)
})

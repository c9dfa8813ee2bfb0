/** A whole engine with a plugin in Python: create, run, connect, publish, restart, remove, and the plugin in trouble meanwhile. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { type EngineLab, startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { until } from '../../testkit/until.ts'
import { type PythonPlugin, startPlugin } from './python-plugin.ts'

isolate()
spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', '/run']) // our own mount namespace: plugins of the machine are not ours
mkdirSync('/run/docker/plugins', { recursive: true })
spawnSync('sysctl', ['-qw', 'net.ipv4.ip_forward=1']) // the plugin's own bridge is on a host that routes, as Docker's are

const SOCKET = '/run/docker/plugins/pyplug.sock'
const memory = mkdtempSync(join(tmpdir(), 'causeway-plugin-'))
let lab: EngineLab
let plugin: PythonPlugin

before(async () => {
  plugin = await startPlugin(SOCKET, memory)
  lab = await startEngineLab()
})

after(async () => {
  const left = await lab.close()
  await plugin.kill()
  rmSync(memory, { recursive: true, force: true })
  assert.deepEqual(left, [])
  assert.doesNotMatch(spawnSync('ip', ['-o', 'link']).stdout.toString(), / p[bvc][0-9a-f]{10}/)
})

const must = async (running: ReturnType<EngineLab['docker']>): Promise<string> => {
  const { code, out, err } = await running
  assert.equal(code, 0, err)
  return out.trim()
}

test('a network of a plugin: docker creates it, containers meet on it, and it goes without a trace', async () => {
  await must(lab.docker('network', 'create', '-d', 'pyplug', '--subnet', '10.88.0.0/24', '-o', 'colour=red', 'pynet'))
  const { json } = await lab.api('GET', '/networks/pynet')
  assert.deepEqual([json.Driver, json.Scope, json.IPAM.Config[0].Gateway], ['pyplug', 'local', '10.88.0.1'])
  await lab.run('aa', {
    networks: ['pynet'],
    host: { PortBindings: { '80/tcp': [{ HostPort: '8099' }] } },
    body: { ExposedPorts: { '80/tcp': {} } },
  })
  await lab.run('bb', { networks: ['pynet'] })
  const seen = (await lab.api('GET', '/containers/aa/json')).json.NetworkSettings.Networks.pynet
  assert.deepEqual([seen.IPAddress, seen.IPPrefixLen, seen.Gateway], ['10.88.0.2', 24, '10.88.0.1'])
  assert.match(seen.MacAddress, /^02:50:/)
  assert.match((await lab.exec('aa', 'ip', 'link')).out, new RegExp(`plug0[\\s\\S]*${seen.MacAddress}`))
  assert.match((await lab.exec('aa', 'ip', 'route')).out, /default via 10\.88\.0\.1 dev plug0[\s\S]*198\.18\.7\.0\/24 dev plug0/)
  assert.equal((await lab.exec('aa', 'ping', '-c1', '-W2', 'bb')).code, 0)
  assert.equal((await lab.exec('aa', 'ping', '-c1', '-W2', '10.88.0.1')).code, 0)
  const program = plugin.calls('NetworkDriver.ProgramExternalConnectivity')[0]?.body
  assert.deepEqual(program.Options['com.docker.network.portmap'], [
    { Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 8099, HostPortEnd: 8099 },
  ])
  assert.equal((await lab.api('DELETE', '/networks/pynet')).status, 403)
  await must(lab.docker('rm', '-f', 'aa', 'bb'))
  await must(lab.docker('network', 'rm', 'pynet'))
  await until('the endpoints to go', () => Object.keys(plugin.state().endpoints).length === 0, 15_000)
  assert.deepEqual(plugin.state().networks, {})
})

test('addresses of a plugin on a bridge of the engine; --ip; connect and disconnect of a running container', async () => {
  await must(lab.docker('network', 'create', '--ipam-driver', 'pyplug', '--subnet', '10.89.0.0/24', 'pyipam'))
  await must(lab.docker('network', 'create', '-d', 'pyplug', '--ipam-driver', 'pyplug', 'pyboth'))
  await lab.run('cc', { networks: ['pyipam'] })
  assert.match((await lab.exec('cc', 'ip', 'addr')).out, /10\.89\.0\.2\/24/)
  await must(lab.docker('network', 'connect', '--ip', '10.50.0.40', 'pyboth', 'cc'))
  assert.match((await lab.exec('cc', 'ip', 'addr', 'show', 'plug0')).out, /10\.50\.0\.40\/24/)
  const clash = await lab.docker('run', '--rm', '--network', 'pyboth', '--ip', '10.50.0.40', 'busybox', 'true')
  assert.match(clash.err, /remote: address is taken/)
  await must(lab.docker('network', 'disconnect', 'pyboth', 'cc'))
  assert.doesNotMatch((await lab.exec('cc', 'ip', 'addr')).out, /plug0/)
  assert.equal((await lab.exec('cc', 'ping', '-c1', '-W2', '10.89.0.1')).code, 0)
  await must(lab.docker('rm', '-f', 'cc'))
  await must(lab.docker('network', 'rm', 'pyboth', 'pyipam'))
  assert.deepEqual(plugin.state(), { networks: {}, endpoints: {}, pools: {} })
})

test('a plugin without a gateway: the way out and published ports are docker_gwbridge’s', async () => {
  const other = mkdtempSync(join(tmpdir(), 'causeway-plugin-'))
  const nogw = await startPlugin('/run/docker/plugins/nogw.sock', other, '--no-gateway')
  try {
    await must(lab.docker('network', 'create', '-d', 'nogw', '--subnet', '10.91.0.0/24', 'flat'))
    const cmd = ['sh', '-c', 'mkdir /w; echo out >/w/index.html; httpd -f -p 80 -h /w']
    await lab.run('ww', {
      cmd,
      networks: ['flat'],
      host: { PortBindings: { '80/tcp': [{ HostPort: '8098' }] } },
      body: { ExposedPorts: { '80/tcp': {} } },
    })
    assert.match((await lab.exec('ww', 'ip', 'route')).out, /default via \S+ dev eth0[\s\S]*10\.91\.0\.0\/24 dev plug0/)
    await until('the published port', async () => (await lab.sh('curl -s -m 5 http://127.0.0.1:8098/')).out === 'out\n', 15_000)
    assert.equal(nogw.calls('NetworkDriver.ProgramExternalConnectivity').length, 0)
    await must(lab.docker('rm', '-f', 'ww'))
    await must(lab.docker('network', 'rm', 'flat'))
  } finally {
    await nogw.kill()
    rmSync(other, { recursive: true, force: true })
  }
})

test('published ports are told to the network that is the way out, and to the next one when it is that no longer', async () => {
  for (const [name, subnet] of [
    ['wayone', '10.94.0.0/24'],
    ['waytwo', '10.95.0.0/24'],
  ])
    await must(lab.docker('network', 'create', '-d', 'pyplug', '--subnet', subnet as string, name as string))
  const from = plugin.calls().length
  /** Networks that were told, oldest first. */
  const told = async () => {
    const names = new Map<string, string>()
    for (const name of ['wayone', 'waytwo']) names.set((await lab.api('GET', `/networks/${name}`)).json.Id, name)
    return plugin
      .calls()
      .slice(from)
      .filter(({ method }) => /ExternalConnectivity/.test(method))
      .map(({ method, body }) => `${/Program|Revoke/.exec(method)?.[0]} ${names.get(body.NetworkID)}`)
  }
  await lab.run('gg', { networks: ['waytwo', 'wayone'] })
  // wayone comes first by its name; whichever was connected first may have been it for a moment
  assert.equal((await told()).at(-1), 'Program wayone')
  await lab.kill9()
  await lab.start()
  await must(lab.docker('network', 'disconnect', 'wayone', 'gg'))
  assert.deepEqual((await told()).slice(-2), ['Revoke wayone', 'Program waytwo'])
  await must(lab.docker('network', 'connect', 'wayone', 'gg'))
  assert.deepEqual((await told()).slice(-2), ['Revoke waytwo', 'Program wayone'])
  const before = (await told()).length
  await must(lab.docker('rm', '-f', 'gg'))
  await must(lab.docker('network', 'rm', 'wayone', 'waytwo'))
  assert.deepEqual((await told()).length - before, 1, 'only the one that was the way out is revoked')
})

test('an IPAM without subnets, like Calico’s: single addresses, a gateway on the link, and other networks find subnets as before', async () => {
  plugin.faults({
    'IpamDriver.RequestPool': { body: { PoolID: 'all', Pool: '0.0.0.0/0', Data: { 'com.docker.network.gateway': '0.0.0.0/0' } } },
    'IpamDriver.RequestAddress': { body: { Address: '10.97.0.7/32' } },
    'IpamDriver.ReleaseAddress': { body: {} },
    'IpamDriver.ReleasePool': { body: {} },
  })
  const routes = [{ Destination: '169.254.1.1/32', RouteType: 1, NextHop: '' }]
  await must(lab.docker('network', 'create', '-d', 'pyplug', '--ipam-driver', 'pyplug', 'single'))
  await must(lab.docker('network', 'create', '-d', 'pyplug', '--ipam-driver', 'pyplug', 'single2'))
  await must(lab.docker('network', 'create', 'plain'))
  await must(lab.docker('create', '--name', 'ss', '--network', 'single', 'busybox', 'sleep', '600'))
  plugin.faults({
    'IpamDriver.RequestAddress': { body: { Address: '10.97.0.7/32' } },
    'IpamDriver.ReleaseAddress': { body: {} },
    'IpamDriver.ReleasePool': { body: {} },
    'NetworkDriver.CreateEndpoint': { body: {} },
    'NetworkDriver.Join': {
      body: { InterfaceName: { SrcName: 'lone0', DstPrefix: 'cali' }, Gateway: '169.254.1.1', StaticRoutes: routes },
    },
  })
  await lab.sh('ip link add lone0 type veth peer name lone1')
  await must(lab.docker('start', 'ss'))
  assert.match((await lab.exec('ss', 'ip', '-o', 'addr')).out, /cali0\s+inet 10\.97\.0\.7\/32/)
  assert.match((await lab.exec('ss', 'ip', 'route')).out, /default via 169\.254\.1\.1 dev cali0[\s\S]*169\.254\.1\.1 dev cali0/)
  const seen = (await lab.api('GET', '/containers/ss/json')).json.NetworkSettings.Networks.single
  assert.deepEqual([seen.IPAddress, seen.IPPrefixLen], ['10.97.0.7', 32])
  await must(lab.docker('rm', '-f', 'ss'))
  await must(lab.docker('network', 'rm', 'single', 'single2', 'plain'))
  await lab.sh('ip link del lone1')
  plugin.faults({})
})

test('a plugin that fails leaves nothing, and its words reach the user', async () => {
  plugin.faults({ 'NetworkDriver.CreateNetwork': { body: { Err: 'no more bridges' }, times: 1 } })
  assert.match((await lab.docker('network', 'create', '-d', 'pyplug', 'bad')).err, /remote: no more bridges/)
  assert.equal((await lab.api('GET', '/networks/bad')).status, 404)
  await must(lab.docker('network', 'create', '-d', 'pyplug', '--ipam-driver', 'pyplug', 'bad'))
  const idle = plugin.state()
  for (const [method, fault, text] of [
    ['NetworkDriver.Join', { raw: 'nonsense' }, /no JSON: nonsense/],
    ['NetworkDriver.Join', { body: { InterfaceName: { SrcName: 'nolink0', DstPrefix: 'eth' } } }, /nolink0/],
    ['NetworkDriver.CreateEndpoint', { status: 500, body: { Err: 'out of cable' } }, /NetworkDriver\.CreateEndpoint: out of cable/],
    [
      'NetworkDriver.ProgramExternalConnectivity',
      { body: { Err: 'no ports' } },
      /driver failed programming external connectivity.*remote: no ports/,
    ],
    ['IpamDriver.RequestAddress', { body: { Address: '192.0.2.1/24' } }, /192\.0\.2\.1, which is not in subnet/],
  ] as const) {
    plugin.faults({ [method]: { ...fault, times: 1 } })
    const ran = await lab.docker('run', '--rm', '--network', 'bad', 'busybox', 'true')
    assert.match(ran.err, text, method)
    assert.notEqual(ran.code, 0)
    await until(`nothing to be left after ${method}`, () => JSON.stringify(plugin.state()) === JSON.stringify(idle), 15_000)
  }
  assert.equal((await lab.docker('run', '--rm', '--network', 'bad', 'busybox', 'true')).code, 0)
  await must(lab.docker('network', 'rm', 'bad'))
})

test('a plugin that names no interface: the container runs without one on that network, as under Docker', async () => {
  await must(lab.docker('network', 'create', '-d', 'pyplug', '--subnet', '10.93.0.0/24', 'bare'))
  plugin.faults({ 'NetworkDriver.Join': { body: {}, times: 2 } })
  await lab.run('hh', { networks: ['bare'] })
  assert.equal((await lab.api('GET', '/containers/hh/json')).json.NetworkSettings.Networks.bare.IPAddress, '10.93.0.2')
  assert.doesNotMatch((await lab.exec('hh', 'ip', '-o', 'addr')).out, /plug0|10\.93\./)
  await must(lab.docker('network', 'connect', 'bridge', 'hh'))
  await must(lab.docker('network', 'disconnect', 'bare', 'hh'))
  await must(lab.docker('network', 'connect', 'bare', 'hh'))
  await lab.kill9()
  await lab.start()
  assert.match((await lab.exec('hh', 'ip', 'link')).out, /eth0/)
  await must(lab.docker('rm', '-f', 'hh'))
  await must(lab.docker('network', 'rm', 'bare'))
  await until('the endpoints to go', () => Object.keys(plugin.state().endpoints).length === 0, 15_000)
})

test('while a plugin is slow everything else goes on', async () => {
  await must(lab.docker('network', 'create', '-d', 'pyplug', 'slow'))
  plugin.faults({ 'NetworkDriver.Join': { delay: 3, times: 1 } })
  const slow = lab.run('dd', { networks: ['slow'] })
  let isDone = false
  slow.then(() => (isDone = true)).catch(() => {})
  await until('the slow call', () => plugin.calls('NetworkDriver.Join').some((call) => call.body.SandboxKey !== '') && !isDone, 15_000)
  assert.equal((await lab.docker('run', '--rm', 'busybox', 'true')).code, 0)
  assert.equal((await lab.api('DELETE', '/networks/slow')).status, 403)
  assert.equal(isDone, false)
  await slow
  await must(lab.docker('rm', '-f', 'dd'))
  await must(lab.docker('network', 'rm', 'slow'))
})

test('engine and plugin restart: networks stay, containers go on, a dead plugin holds up nothing', async () => {
  await must(lab.docker('network', 'create', '-d', 'pyplug', '--subnet', '10.90.0.0/24', 'keep'))
  await lab.run('ee', { networks: ['keep'] })
  await lab.run('ff', { networks: ['keep'] })
  await lab.kill9()
  await plugin.kill()
  await lab.start()
  assert.equal((await lab.exec('ee', 'ping', '-c1', '-W2', 'ff')).code, 0)
  assert.equal((await lab.api('GET', '/networks/keep')).json.Driver, 'pyplug')
  // the plugin is away: a container can go nevertheless, and the plugin hears of it when it is back
  await must(lab.docker('rm', '-f', 'ff'))
  assert.equal(Object.keys(plugin.state().endpoints).length, 2)
  plugin = await startPlugin(SOCKET, memory)
  await until('the removal to be told', () => Object.keys(plugin.state().endpoints).length === 1, 15_000)
  await lab.run('gg', { networks: ['keep'] })
  // gg has the address that ff had: the first packet may go to the wrong MAC
  assert.equal((await lab.exec('ee', 'ping', '-c3', '-W1', 'gg')).code, 0)
  await must(lab.docker('rm', '-f', 'ee', 'gg'))
  await must(lab.docker('network', 'rm', 'keep'))
})

test('a network whose plugin has gone for good: not removed by accident, removed by force', async () => {
  await must(lab.docker('network', 'create', '-d', 'pyplug', 'orphan'))
  await plugin.kill()
  rmSync(SOCKET, { force: true })
  const refused = await lab.api('DELETE', '/networks/orphan')
  assert.equal(refused.status, 503)
  assert.match(refused.json.message, /Cannot remove network orphan: .*plugin "pyplug"/)
  await must(lab.causeway('network', 'rm', '-f', 'orphan'))
  plugin = await startPlugin(SOCKET, memory)
  await until('the plugin to hear of it', () => Object.keys(plugin.state().networks).length === 0, 15_000)
})

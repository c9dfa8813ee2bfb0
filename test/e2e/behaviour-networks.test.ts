import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { until } from '../../testkit/until.ts'

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
const network = async (Name: string, extra: object = {}): Promise<string> =>
  (await call(201, 'POST', '/networks/create', { Name, ...extra })).Id
const create = (name: string, body: object = {}, version = ''): Promise<Json> =>
  call(201, 'POST', `${version}/containers/create?name=${name}`, {
    Image: 'busybox',
    Cmd: ['sleep', '3600'],
    StopSignal: 'SIGKILL',
    ...body,
  })
const inspect = (name: string, version = ''): Promise<Json> => call(200, 'GET', `${version}/containers/${name}/json`)
const start = (name: string) => call(204, 'POST', `/containers/${name}/start`)
const remove = async (...names: string[]) => {
  for (const name of names) await call(204, 'DELETE', `/containers/${name}?force=1`)
}
const removeNetworks = async (...names: string[]) => {
  for (const name of names) await call(204, 'DELETE', `/networks/${name}`)
}
const query = (filters: unknown) => encodeURIComponent(JSON.stringify(filters))
const names = (list: Json): string[] => list.map((n: Json) => n.Name).sort()

test('networks are listed by regular expressions of name and id, by label, driver, scope, type and use', async () => {
  const id = await network('kiwl$%^', { Labels: { a: '1', b: '' } })
  await network('test@#$', { Labels: { a: '2' } })
  const list = async (filters: unknown) => names(await call(200, 'GET', `/networks?filters=${query(filters)}`))
  assert.deepEqual(await list({ name: ['dge'] }), ['bridge'])
  assert.deepEqual(await list({ name: { '^ho': true } }), ['host'])
  assert.deepEqual(await list({ name: ['dge', 'one'] }), ['bridge', 'none'])
  assert.deepEqual(await list({ name: ['kiwl$%^'] }), ['kiwl$%^'], 'an exact name is found whatever it means as an expression')
  assert.deepEqual(await list({ name: ['['] }), [])
  assert.deepEqual(await list({ id: [id.slice(0, 5)] }), ['kiwl$%^'])
  assert.deepEqual(await list({ id: [id.slice(30, 40)] }), ['kiwl$%^'])
  assert.deepEqual(await list({ label: ['a'] }), ['kiwl$%^', 'test@#$'])
  assert.deepEqual(await list({ label: ['a=1', 'b'] }), ['kiwl$%^'])
  assert.deepEqual(await list({ label: ['a=1', 'a=2'] }), [])
  assert.deepEqual(await list({ driver: ['host'] }), ['host'])
  assert.deepEqual(await list({ driver: ['hos'] }), [])
  assert.deepEqual(await list({ scope: ['local'] }), ['bridge', 'host', 'kiwl$%^', 'none', 'test@#$'])
  assert.deepEqual(await list({ scope: ['swarm'] }), [])
  assert.deepEqual(await list({ type: ['builtin'] }), ['bridge', 'host', 'none'])
  assert.deepEqual(await list({ type: ['custom'] }), ['kiwl$%^', 'test@#$'])
  assert.equal((await list({ type: ['custom', 'builtin'] })).length, 5)
  assert.deepEqual(await list({ dangling: ['1'] }), ['kiwl$%^', 'test@#$'])
  await lab.run('user1', { networks: ['test@#$'] })
  assert.deepEqual(await list({ dangling: ['true'] }), ['kiwl$%^'])
  assert.deepEqual(await list({ dangling: ['false'] }), ['bridge', 'host', 'none', 'test@#$'])
  assert.deepEqual((await call(200, 'GET', '/networks/')).length, 5, 'with a slash at the end too')
  const before128 = await call(200, 'GET', `/v1.27/networks?filters=${query({ name: ['test@#$'] })}`)
  assert.equal(Object.keys(before128[0].Containers).length, 1)
  assert.deepEqual((await call(200, 'GET', `/networks?filters=${query({ name: ['test@#$'] })}`))[0].Containers, {})
  await remove('user1')
  await removeNetworks(encodeURIComponent('kiwl$%^'), encodeURIComponent('test@#$'))
})

test('a network is found by full id, then by name, then by a prefix of its id that is nobody else’s', async () => {
  const id = await network('first')
  const trap = await network(id)
  assert.equal((await call(200, 'GET', `/networks/${id}`)).Name, 'first', 'a network that is named like an id loses against the id')
  assert.equal((await call(200, 'GET', `/networks/${id.slice(0, 20)}`)).Name, 'first')
  assert.equal((await call(200, 'GET', `/networks/${trap}`)).Name, id)
  await removeNetworks(trap, 'first')
  await network('a/b')
  assert.equal((await call(200, 'GET', '/networks/a/b')).Name, 'a/b')
  await removeNetworks('a/b')
  const ids: string[] = []
  while (new Set(ids.map((i) => i[0])).size === ids.length)
    ids.push(await network(`many${ids.length}`, { IPAM: { Config: [{ Subnet: `10.70.${ids.length}.0/24` }] } }))
  const first = ids.at(-1)?.[0] as string
  const found = (await call(200, 'GET', '/networks')).filter((n: Json) => n.Id.startsWith(first)).length
  assert.equal(
    (await call(400, 'GET', `/networks/${first}`)).message,
    `${found} matches found based on ID prefix: network ${first} is ambiguous`,
  )
  assert.equal(
    (await call(400, 'DELETE', `/networks/${first}`)).message,
    `network ${first} is ambiguous (${found} matches found based on ID prefix)`,
  )
  await removeNetworks(...ids)
})

test('inspect shows a network in every version’s shape', async () => {
  await network('shape', {
    IPAM: { Config: [{ Subnet: '10.71.0.0/24', AuxiliaryAddresses: { r: '10.71.0.9' } }], Options: {} },
    EnableIPv4: true,
    Options: { 'unknown.option': 'x' },
    Labels: { l: '' },
  })
  const now = await call(200, 'GET', '/networks/shape')
  assert.match(now.Created, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/)
  const { Id, Created, ...rest } = now
  assert.deepEqual(rest, {
    Name: 'shape',
    Scope: 'local',
    Driver: 'bridge',
    EnableIPv4: true,
    EnableIPv6: false,
    IPAM: {
      Driver: 'default',
      Options: {},
      Config: [{ Subnet: '10.71.0.0/24', Gateway: '10.71.0.1', AuxiliaryAddresses: { r: '10.71.0.9' } }],
    },
    Internal: false,
    Attachable: false,
    Ingress: false,
    ConfigFrom: { Network: '' },
    ConfigOnly: false,
    Containers: {},
    Options: { 'unknown.option': 'x' },
    Labels: { l: '' },
  })
  assert.equal('EnableIPv4' in (await call(200, 'GET', '/v1.47/networks/shape')), false)
  const none = await call(200, 'GET', '/networks/none')
  assert.deepEqual([none.Driver, none.IPAM], ['null', { Driver: 'default', Options: null, Config: null }])
  const bridge = await call(200, 'GET', '/networks/bridge')
  assert.deepEqual(bridge.Options, {
    'com.docker.network.bridge.default_bridge': 'true',
    'com.docker.network.bridge.enable_icc': 'true',
    'com.docker.network.bridge.enable_ip_masquerade': 'true',
    'com.docker.network.bridge.host_binding_ipv4': '0.0.0.0',
    'com.docker.network.bridge.name': 'docker0',
    'com.docker.network.driver.mtu': '1500',
  })
  const id = await lab.run('seen1', { networks: ['shape'] })
  const { Containers } = await call(200, 'GET', '/networks/shape')
  const { EndpointID, MacAddress, ...seen } = Containers[id]
  assert.deepEqual(seen, { Name: 'seen1', IPv4Address: '10.71.0.2/24', IPv6Address: '' })
  assert.match(EndpointID, /^[0-9a-f]{64}$/)
  assert.match(MacAddress, /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/)
  await call(204, 'POST', '/containers/seen1/rename?name=seen2')
  assert.equal((await call(200, 'GET', '/networks/shape')).Containers[id].Name, 'seen2')
  await remove('seen2')
  await removeNetworks('shape')
})

test('before 1.48 EnableIPv4 is not looked at', async () => {
  await call(400, 'POST', '/v1.48/networks/create', { Name: 'v6', EnableIPv4: false })
  await call(201, 'POST', '/v1.47/networks/create', { Name: 'v6', EnableIPv4: false })
  assert.equal((await call(200, 'GET', '/networks/v6')).EnableIPv4, true)
  await removeNetworks('v6')
})

test('prune takes what nobody uses, by label and age, and never what is predefined or a configuration', async () => {
  await network('idle1', { Labels: { keep: '' } })
  await network('idle2')
  await network('busy1')
  await network('conf1', { ConfigOnly: true })
  await create('stopped1', { HostConfig: { NetworkMode: 'idle2' } })
  await lab.run('runs1', { networks: ['busy1'] })
  assert.deepEqual(await call(200, 'POST', `/networks/prune?filters=${query({ until: ['24h'] })}`), { NetworksDeleted: null })
  assert.deepEqual(await call(200, 'POST', `/networks/prune?filters=${query({ 'label!': ['keep'] })}`), { NetworksDeleted: ['idle2'] })
  assert.deepEqual(await call(200, 'POST', '/networks/prune'), { NetworksDeleted: ['idle1'] })
  assert.deepEqual(names(await call(200, 'GET', '/networks')), ['bridge', 'busy1', 'conf1', 'host', 'none'])
  // the stopped container's stored endpoint did not keep its network; starting it says so, and it stays `created`
  assert.equal(
    (await call(404, 'POST', '/containers/stopped1/start')).message,
    'failed to set up container networking: network idle2 not found',
  )
  const { State } = await inspect('stopped1')
  assert.deepEqual(
    [State.Status, State.ExitCode, State.Error],
    ['created', 128, 'failed to set up container networking: network idle2 not found'],
  )
  await remove('stopped1', 'runs1')
  await removeNetworks('busy1', 'conf1')
})

test('a configuration network is shown as such and lends its settings', async () => {
  await network('conf2', {
    ConfigOnly: true,
    IPAM: { Config: [{ Subnet: '10.72.0.0/24' }] },
    Options: { 'com.docker.network.driver.mtu': '1400' },
  })
  await network('uses2', { ConfigFrom: { Network: 'conf2' } })
  const conf = await call(200, 'GET', '/networks/conf2')
  assert.deepEqual([conf.Driver, conf.Scope, conf.ConfigOnly], ['null', 'local', true])
  const uses = await call(200, 'GET', '/networks/uses2')
  assert.deepEqual([uses.Driver, uses.ConfigFrom, uses.IPAM.Config[0].Subnet], ['bridge', { Network: 'conf2' }, '10.72.0.0/24'])
  assert.match((await lab.sh(`ip link show br-${uses.Id.slice(0, 12)}`)).out, /mtu 1400/)
  await removeNetworks('uses2', 'conf2')
})

test('connecting a container that does not run only notes it; the interface comes with the start', async () => {
  await network('later')
  await create('c1')
  await call(200, 'POST', '/networks/later/connect', { Container: 'c1', EndpointConfig: { Aliases: ['al'] } })
  await call(200, 'POST', '/networks/not-there/connect', { Container: 'c1' })
  const created = (await inspect('c1')).NetworkSettings.Networks
  assert.deepEqual(Object.keys(created).sort(), ['bridge', 'later', 'not-there'])
  assert.deepEqual(
    [created.later.Aliases, created.later.IPAddress, created.later.IPPrefixLen, created.later.EndpointID],
    [['al'], '', 0, ''],
  )
  assert.deepEqual((await call(200, 'GET', '/networks/later')).Containers, {})
  await call(404, 'POST', '/containers/c1/start')
  await call(200, 'POST', '/networks/not-there/disconnect', { Container: 'c1', Force: true })
  await start('c1')
  assert.equal((await lab.exec('c1', 'ls', '/sys/class/net')).out, 'eth0\neth1\nlo\n')
  await call(204, 'POST', '/containers/c1/stop')
  const stopped = (await inspect('c1')).NetworkSettings
  assert.deepEqual(
    [stopped.Ports, stopped.SandboxID, stopped.Networks.later.IPAddress, stopped.Networks.later.Aliases],
    [{}, '', '', ['al']],
  )
  await call(200, 'POST', '/networks/later/disconnect', { Container: 'c1' })
  await call(200, 'POST', '/networks/bridge/disconnect', { Container: 'c1' })
  await start('c1')
  assert.equal((await lab.exec('c1', 'ls', '/sys/class/net')).out, 'lo\n', 'without any network there is the loopback interface')
  await call(200, 'POST', '/networks/later/connect', { Container: 'c1' })
  assert.equal((await lab.exec('c1', 'ls', '/sys/class/net')).out, 'eth0\nlo\n')
  await call(204, 'DELETE', '/containers/c1?force=1')
  await removeNetworks('later')
})

test('a failed connect leaves the endpoint that is there alone and no trace in inspect', async () => {
  await network('n1', { IPAM: { Config: [{ Subnet: '10.73.0.0/24' }] } })
  await lab.run('c1', { networks: ['n1'] })
  await lab.run('c2')
  const before = await inspect('c1')
  await call(403, 'POST', '/networks/n1/connect', { Container: 'c1', EndpointConfig: { Aliases: ['x'] } })
  assert.deepEqual(await inspect('c1'), before)
  await call(403, 'POST', '/networks/n1/connect', { Container: 'c2', EndpointConfig: { IPAMConfig: { IPv4Address: '10.73.0.2' } } })
  assert.deepEqual(Object.keys((await inspect('c2')).NetworkSettings.Networks), ['bridge'])
  assert.equal((await lab.exec('c2', 'ls', '/sys/class/net')).out, 'eth0\nlo\n')
  await remove('c1', 'c2')
  await removeNetworks('n1')
})

test('events tell the life of a network: create, connect, disconnect, destroy', async () => {
  const since = Math.floor(Date.now() / 1000)
  const id = await network('tell')
  const container = await lab.run('e1', { networks: ['tell'] })
  await call(204, 'POST', '/containers/e1/stop')
  await remove('e1')
  await removeNetworks('tell')
  await call(200, 'POST', '/networks/prune')
  const ran = await lab.docker(
    'events',
    '--since',
    String(since),
    '--until',
    String(Math.ceil(Date.now() / 1000)),
    '--format',
    '{{json .}}',
    '--filter',
    'type=network',
  )
  const events: Json[] = ran.out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  const mine = events.filter((e) => e.Actor.ID === id)
  assert.deepEqual(
    mine.map((e) => [e.Action, e.Actor.Attributes]),
    [
      ['create', { name: 'tell', type: 'bridge' }],
      ['connect', { name: 'tell', type: 'bridge', container }],
      ['disconnect', { name: 'tell', type: 'bridge', container }],
      ['destroy', { name: 'tell', type: 'bridge' }],
    ],
  )
  const prune = events.find((e) => e.Action === 'prune')
  assert.deepEqual([prune?.Actor.ID, prune?.Actor.Attributes], ['', { reclaimed: '0' }])
  const byName = await lab.docker(
    'events',
    '--since',
    String(since),
    '--until',
    String(Math.ceil(Date.now() / 1000)),
    '--format',
    '{{.Action}}',
    '--filter',
    'network=tell',
    '--filter',
    'event=connect',
  )
  assert.equal(byName.out, 'connect\n')
})

test('live events reach a client that was there before', async () => {
  const client = spawn(
    'docker',
    ['-H', `unix://${lab.socket}`, 'events', '--filter', 'type=network', '--format', '{{.Action}} {{.Actor.Attributes.name}}'],
    {
      stdio: ['ignore', 'pipe', 'ignore'],
    },
  )
  let text = ''
  client.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString()
  })
  await until('the client listens', async () => {
    await network('early1')
    await removeNetworks('early1')
    return text !== ''
  })
  await network('live1')
  await removeNetworks('live1')
  await until('both events', () => text.includes('destroy live1\n'))
  client.kill()
  assert.deepEqual(text.match(/.* live1\n/g), ['create live1\n', 'destroy live1\n'])
})

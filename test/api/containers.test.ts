import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Lab } from '../../testkit/api-lab.ts'
import { apiLab } from '../../testkit/api-lab.ts'

let lab: Lab
before(async () => {
  lab = await apiLab()
})
after(() => lab.close())

const create = (name: string, body: object, version = '') => lab.call('POST', `${version}/containers/create?name=${name}`, body)
const list = async (query: string): Promise<string[]> =>
  (await lab.call('GET', `/containers/json?${query}`)).json.map((c: { Names: string[] }) => c.Names[0]).sort()
const withFilters = (filters: unknown): string => `all=1&filters=${encodeURIComponent(JSON.stringify(filters))}`

test('create answers 201 with id and warnings; unknown fields are kept and echoed', async () => {
  const made = await create('web', {
    Image: 'busybox',
    Cmd: 'sleep',
    Labels: { tier: 'front' },
    ExposedPorts: { '81/tcp': {} },
    Whatever: { nested: [1] },
    HostConfig: { PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '8080' }] }, NetworkMode: 'default', Later: true },
    NetworkingConfig: { EndpointsConfig: { default: { Aliases: ['w'] } } },
  })
  assert.equal(made.status, 201)
  assert.deepEqual(made.json.Warnings, [])
  const inspect = (await lab.call('GET', '/containers/web/json')).json
  assert.equal(inspect.Id, made.json.Id)
  assert.equal(inspect.Name, '/web')
  assert.deepEqual(inspect.Config.Whatever, { nested: [1] })
  assert.equal(inspect.HostConfig.Later, true)
  assert.equal(inspect.HostConfig.NetworkMode, 'bridge')
  assert.deepEqual(Object.keys(inspect.NetworkSettings.Networks), ['bridge'], '"default" is stored under the network it means')
})

test('a created container lists its networks with empty operational data', async () => {
  const { NetworkSettings } = (await lab.call('GET', '/containers/web/json')).json
  assert.deepEqual(NetworkSettings.Ports, {})
  assert.equal(NetworkSettings.SandboxID, '')
  assert.deepEqual(NetworkSettings.Networks.bridge, {
    IPAMConfig: null,
    Links: null,
    Aliases: ['w'],
    MacAddress: '',
    DriverOpts: null,
    GwPriority: 0,
    NetworkID: '',
    EndpointID: '',
    Gateway: '',
    IPAddress: '',
    IPPrefixLen: 0,
    IPv6Gateway: '',
    GlobalIPv6Address: '',
    GlobalIPv6PrefixLen: 0,
    DNSNames: null,
  })
})

test('a running container shows its addresses, also in the old places', async () => {
  assert.equal((await lab.call('POST', '/containers/web/start')).status, 204)
  assert.equal((await lab.call('POST', '/containers/web/start')).status, 304)
  const { NetworkSettings: now } = (await lab.call('GET', '/containers/web/json')).json
  assert.deepEqual(now.Ports, { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '8080' }], '81/tcp': null })
  assert.equal(now.IPAddress, now.Networks.bridge.IPAddress)
  assert.match(now.IPAddress, /^172\.17\.0\./)
  assert.equal(now.Gateway, '172.17.0.1')
})

test('the list shows state, ports and names', async () => {
  await create('linker', { Image: 'busybox', HostConfig: { Links: ['/web:/linker/db'] } })
  const [entry] = (await lab.call('GET', '/containers/json')).json
  assert.deepEqual(entry.Names, ['/web', '/linker/db'])
  assert.equal(entry.State, 'running')
  assert.match(entry.Status, /^Up /)
  assert.equal(entry.Command, 'sleep')
  assert.deepEqual(entry.Ports, [
    { PrivatePort: 81, Type: 'tcp' },
    { IP: '127.0.0.1', PrivatePort: 80, PublicPort: 8080, Type: 'tcp' },
  ])
  assert.equal(typeof entry.Created, 'number')
  assert.equal('SizeRw' in entry, false)
  assert.equal((await lab.call('GET', '/containers/json?size=1')).json[0].SizeRw, 10)
})

test('list filters select as documented', async () => {
  const id = lab.containers.get('web').id
  for (const [filters, expected] of [
    [{ name: ['we'] }, ['/web']],
    [{ name: ['^/web$'] }, ['/web']],
    [{ id: [id.slice(0, 12)] }, ['/web']],
    [{ label: ['tier=front'] }, ['/web']],
    [{ status: ['created'] }, ['/linker']],
    [{ network: ['bridge'] }, ['/linker', '/web']],
    [{ network: [lab.controller.getNetwork('bridge').id.slice(0, 12)] }, ['/linker', '/web']],
    [{ publish: ['8080'] }, ['/web']],
    [{ publish: ['8000-9000/tcp'] }, ['/web']],
    [{ publish: ['80'] }, []],
    [{ expose: ['81'] }, ['/web']],
    [{ ancestor: ['busybox'] }, ['/linker', '/web']],
    [{ ancestor: ['other'] }, []],
    [{ before: ['linker'] }, ['/web']],
    [{ since: ['web'] }, ['/linker']],
    [{ exited: ['0'] }, []],
    [{ health: ['none'] }, ['/linker', '/web']],
    [{ 'is-task': ['true'] }, []],
    [{ volume: ['v'] }, []],
  ] as const) {
    assert.deepEqual(await list(withFilters(filters)), expected, JSON.stringify(filters))
  }
  assert.deepEqual(await list(''), ['/web'], 'only running ones without all')
  assert.deepEqual(await list('limit=1'), ['/linker'], 'the newest, whatever its state')
})

test('wrong list filters are refused', async () => {
  for (const filters of [{ xxx: ['1'] }, { status: ['flying'] }, { exited: ['x'] }, { health: ['fine'] }, { publish: ['x'] }]) {
    assert.equal((await lab.call('GET', `/containers/json?${withFilters(filters)}`)).status, 400, JSON.stringify(filters))
  }
  assert.equal((await lab.call('GET', `/containers/json?${withFilters({ before: ['nope'] })}`)).status, 404)
})

test('life-cycle verbs translate to the service and its errors', async () => {
  const status = async (verb: string): Promise<number> => (await lab.call('POST', `/containers/web/${verb}`)).status
  assert.equal(await status('pause'), 204)
  assert.match((await lab.call('GET', '/containers/json')).json[0].Status, /\(Paused\)$/)
  assert.equal(await status('pause'), 409)
  assert.equal(await status('unpause'), 204)
  assert.equal(await status('restart?t=1'), 204)
  assert.equal(await status('kill?signal=SIGTERM'), 204)
  assert.equal(await status('kill'), 409)
  assert.equal(await status('kill?signal=a%20b'), 400)
  assert.equal(await status('stop?t=x'), 400)
  assert.equal(await status('stop'), 304)
  assert.equal(await status('rename?name=web2'), 204)
  assert.equal((await lab.call('POST', '/containers/web2/rename?name=web')).status, 204)
  assert.deepEqual((await lab.call('POST', '/containers/web/update', { RestartPolicy: { Name: 'always' } })).json, { Warnings: null })
  assert.equal((await lab.call('GET', '/containers/web/json')).json.HostConfig.RestartPolicy.Name, 'always')
  assert.equal((await lab.call('POST', '/containers/nope/start')).json.message, 'No such container: nope')
})

test('a stopped container keeps its settings and shows nothing operational', async () => {
  const { NetworkSettings, State } = (await lab.call('GET', '/containers/web/json')).json
  assert.equal(State.Running, false)
  assert.equal(State.Status, 'exited')
  assert.deepEqual(NetworkSettings.Ports, {})
  assert.equal(NetworkSettings.Networks.bridge.IPAddress, '')
  assert.equal(NetworkSettings.Networks.bridge.NetworkID, lab.controller.getNetwork('bridge').id)
  assert.match(
    (await lab.call('GET', '/containers/json?all=1')).json.find((c: { Names: string[] }) => c.Names[0] === '/web').Status,
    /^Exited \(137\)/,
  )
})

test('one endpoint only before 1.44, any number since', async () => {
  const body = {
    Image: 'busybox',
    HostConfig: { NetworkMode: 'a' },
    NetworkingConfig: { EndpointsConfig: { b: {}, a: { GwPriority: 3 } } },
  }
  const old = await create('multi', body, '/v1.43')
  assert.equal(old.status, 400)
  assert.equal(old.json.message, 'Container cannot be created with multiple network endpoints: a, b')
  assert.equal((await create('multi', body, '/v1.47')).status, 201)
  assert.equal(lab.containers.get('multi').endpoints['a']?.GwPriority, undefined, 'the priority is younger than 1.47')
  assert.equal((await create('multi2', body)).status, 201)
  assert.equal(lab.containers.get('multi2').endpoints['a']?.GwPriority, 3)
})

test('the container-wide MAC address moves to the main endpoint', async () => {
  const mac = '02:00:00:00:00:09'
  const young = await create('mac1', { Image: 'busybox', MacAddress: mac })
  assert.equal(lab.containers.get('mac1').endpoints['bridge']?.MacAddress, mac)
  assert.equal(young.json.Warnings.length, 1)
  const old = await create('mac2', { Image: 'busybox', MacAddress: mac }, '/v1.43')
  assert.equal(lab.containers.get('mac2').endpoints['bridge']?.MacAddress, mac)
  assert.deepEqual(old.json.Warnings, [])
  const clash = await create('mac3', {
    Image: 'busybox',
    MacAddress: mac,
    NetworkingConfig: { EndpointsConfig: { default: { MacAddress: '02:00:00:00:00:08' } } },
  })
  assert.equal(clash.status, 400)
  assert.match(clash.json.message, /must match the endpoint-specific MAC address/)
  assert.equal(
    (await create('mac4', { Image: 'busybox', MacAddress: mac, HostConfig: { NetworkMode: 'host' } }, '/v1.43')).json.message,
    'conflicting options: mac-address and the network mode',
  )
  assert.equal((await create('mac5', { Image: 'busybox', MacAddress: 'zz' })).status, 400)
})

test('interface sysctls move to the endpoint until 1.47 and are refused since', async () => {
  const body = { Image: 'busybox', HostConfig: { Sysctls: { 'net.ipv4.conf.eth0.log_martians': '1', 'net.ipv4.ip_forward': '1' } } }
  const old = await create('sys1', body, '/v1.46')
  assert.match(old.json.Warnings[0], /^Migrated sysctl/)
  const stored = lab.containers.get('sys1')
  assert.deepEqual(stored.endpoints['bridge']?.DriverOpts, { 'com.docker.network.endpoint.sysctls': 'net.ipv4.conf.IFNAME.log_martians=1' })
  assert.deepEqual(stored.hostConfig.Sysctls, { 'net.ipv4.ip_forward': '1' })
  const young = await create('sys2', body)
  assert.equal(young.status, 500)
  assert.match(young.json.message, /must be supplied using driver option/)
})

test('bad ports are refused, an empty binding list means any port', async () => {
  const bad = await create('p1', { Image: 'busybox', ExposedPorts: { '19039;1230': {} } })
  assert.equal(bad.status, 400)
  assert.equal(bad.json.message, "invalid JSON: invalid port '19039;1230': invalid syntax")
  await create('p2', { Image: 'busybox', HostConfig: { PortBindings: { '80/tcp': null, '81': [] } } })
  assert.deepEqual(lab.containers.get('p2').hostConfig.PortBindings, {
    '80/tcp': [{ HostIp: '', HostPort: '' }],
    '81': [{ HostIp: '', HostPort: '' }],
  })
})

test('aliases show the short id to clients before 1.45, DNS names only to those since 1.44', async () => {
  await lab.call('POST', '/networks/create', { Name: 'u1' })
  const { Id } = (
    await create('al', {
      Image: 'busybox',
      HostConfig: { NetworkMode: 'u1' },
      NetworkingConfig: { EndpointsConfig: { u1: { Aliases: ['x'] } } },
    })
  ).json
  const created = (await lab.call('GET', '/v1.44/containers/al/json')).json.NetworkSettings.Networks.u1
  assert.deepEqual(created.Aliases, ['x'], 'known from the first start on')
  await lab.call('POST', '/containers/al/start')
  const at = async (version: string) => (await lab.call('GET', `${version}/containers/al/json`)).json.NetworkSettings.Networks.u1
  assert.deepEqual((await at('/v1.44')).Aliases, ['x', Id.slice(0, 12)])
  assert.deepEqual((await at('/v1.45')).Aliases, ['x'])
  assert.deepEqual((await at('')).DNSNames, ['c', Id.slice(0, 12)])
  assert.equal('DNSNames' in (await at('/v1.43')), false)
  assert.equal('GwPriority' in (await at('/v1.47')), false)
})

test('wait sends its head at once and the exit code at the end', async () => {
  const res = await lab.open('POST', '/containers/al/wait?condition=next-exit')
  assert.equal(res.statusCode, 200)
  await lab.call('POST', '/containers/al/stop')
  let text = ''
  for await (const chunk of res) text += chunk
  assert.deepEqual(JSON.parse(text), { StatusCode: 137 })
  assert.deepEqual((await lab.call('POST', '/containers/al/wait')).json, { StatusCode: 137 })
  assert.equal((await lab.call('POST', '/containers/al/wait?condition=tomorrow')).status, 400)
  assert.equal((await lab.call('POST', '/containers/nope/wait')).status, 404)
})

test('a wait whose client goes away is given up', async () => {
  await lab.call('POST', '/containers/al/start')
  const res = await lab.open('POST', '/containers/al/wait?condition=removed')
  assert.equal(lab.containers.waiters.length, 1)
  res.destroy()
  for (let i = 0; i < 100 && lab.containers.waiters.length > 0; i++) await new Promise((resolve) => setTimeout(resolve, 10))
  assert.equal(lab.containers.waiters.length, 0)
  await lab.call('POST', '/containers/al/stop')
})

test('top, changes, resize and archives answer', async () => {
  await lab.call('POST', '/containers/web/start')
  assert.deepEqual((await lab.call('GET', '/containers/web/top')).json, { Titles: ['PID', 'CMD'], Processes: [['1', 'sleep']] })
  assert.deepEqual((await lab.call('GET', '/containers/web/changes')).json, [{ Path: '/tmp/x', Kind: 1 }])
  assert.equal((await lab.call('POST', '/containers/web/resize?h=24&w=80')).status, 200)
  for (const query of ['h=x&w=80', 'h=24', 'h=-1&w=3', 'h=99999&w=1'])
    assert.equal((await lab.call('POST', `/containers/web/resize?${query}`)).status, 400, query)
  const head = await lab.call('HEAD', '/containers/web/archive?path=/etc/hosts')
  assert.equal(head.status, 200)
  assert.deepEqual(JSON.parse(Buffer.from(String(head.headers['x-docker-container-path-stat']), 'base64').toString()), {
    name: 'hosts',
    size: 5,
    mode: 0o644,
    mtime: '2026-01-01T00:00:00Z',
    linkTarget: '',
  })
  assert.equal((await lab.call('HEAD', '/containers/web/archive?path=/missing')).status, 404)
  assert.equal((await lab.call('GET', '/containers/web/archive')).status, 400)
  const tar = Buffer.alloc(3_000_000, 't')
  assert.equal((await lab.call('PUT', '/containers/web/archive?path=/up', tar, { 'content-type': 'application/x-tar' })).status, 200)
  const back = await lab.call('GET', '/containers/web/archive?path=/up')
  assert.equal(back.headers['content-type'], 'application/x-tar')
  assert.equal(back.text.length, tar.length)
  assert.equal((await lab.call('GET', '/containers/web/export')).text.length, 1024)
})

test('prune removes what does not run, by label and age', async () => {
  const none = await lab.call('POST', `/containers/prune?filters=${encodeURIComponent('{"label":["no"]}')}`)
  assert.deepEqual(none.json, { ContainersDeleted: null, SpaceReclaimed: 0 })
  const pruned = (await lab.call('POST', '/containers/prune')).json
  assert.ok(pruned.ContainersDeleted.length >= 5)
  assert.deepEqual(await list('all=1'), ['/web'])
  assert.equal((await lab.call('DELETE', '/containers/web')).status, 409)
  assert.equal((await lab.call('DELETE', '/containers/web?force=1&v=1')).status, 204)
})

test('inspect prints every field of HostConfig', async () => {
  await create('full', { Image: 'busybox' })
  const { HostConfig, Config } = (await lab.call('GET', '/containers/full/json?size=1')).json
  for (const key of [
    'Binds',
    'LogConfig',
    'NetworkMode',
    'PortBindings',
    'RestartPolicy',
    'Dns',
    'ExtraHosts',
    'Links',
    'ShmSize',
    'Ulimits',
    'MaskedPaths',
  ]) {
    assert.ok(key in HostConfig, key)
  }
  assert.deepEqual(HostConfig.LogConfig, { Type: 'json-file', Config: {} })
  assert.equal(Config.Image, 'busybox')
  assert.deepEqual(Config.Labels, {})
  assert.equal('MacAddress' in Config, false)
})

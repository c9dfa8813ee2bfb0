import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Lab } from '../../testkit/api-lab.ts'
import { apiLab } from '../../testkit/api-lab.ts'

let lab: Lab
before(async () => {
  lab = await apiLab()
})
after(() => lab.close())

const names = (list: { Name: string }[]): string[] => list.map((network) => network.Name).sort()
const filtered = (filters: unknown): string => `/networks?filters=${encodeURIComponent(JSON.stringify(filters))}`

test('create answers 201 with the id, and the duplicate 409', async () => {
  const body = {
    Name: 'n1',
    Driver: 'bridge',
    Labels: { a: '1' },
    IPAM: { Config: [{ Subnet: '10.9.0.0/24', Gateway: '10.9.0.1' }] },
    Unknown: 1,
  }
  const made = await lab.call('POST', '/networks/create', body)
  assert.equal(made.status, 201)
  assert.match(made.json.Id, /^[0-9a-f]{64}$/)
  assert.equal(made.json.Warning, '')
  const again = await lab.call('POST', '/networks/create', body)
  assert.equal(again.status, 409)
  assert.deepEqual(again.json, { message: 'network with name n1 already exists' })
})

test('inspect prints the full shape, unset pool fields left out', async () => {
  const network = (await lab.call('GET', '/networks/n1')).json
  assert.deepEqual(network.IPAM, { Driver: 'default', Options: null, Config: [{ Subnet: '10.9.0.0/24', Gateway: '10.9.0.1' }] })
  assert.deepEqual(Object.keys(network), [
    'Name',
    'Id',
    'Created',
    'Scope',
    'Driver',
    'EnableIPv4',
    'EnableIPv6',
    'IPAM',
    'Internal',
    'Attachable',
    'Ingress',
    'ConfigFrom',
    'ConfigOnly',
    'Containers',
    'Options',
    'Labels',
  ])
  assert.equal((await lab.call('GET', '/networks/host')).json.IPAM.Config, null)
  assert.equal('EnableIPv4' in (await lab.call('GET', '/v1.47/networks/n1')).json, false)
})

test('the newest API also counts addresses, saturated', async () => {
  const young = await apiLab({
    version: {
      dockerVersion: '29',
      version: '1',
      apiVersion: '1.52',
      gitCommit: '',
      buildTime: '',
      os: 'linux',
      arch: 'x',
      kernelVersion: '',
    },
  })
  const bridge = (await young.call('GET', '/v1.52/networks/bridge')).json
  assert.deepEqual(bridge.Status, {
    IPAM: { Subnets: { '172.17.0.0/16': { IPsInUse: 4, DynamicIPsAvailable: Number.MAX_SAFE_INTEGER } } },
  })
  assert.deepEqual((await young.call('GET', '/v1.52/networks/host')).json.Status, { IPAM: {} })
  await young.close()
})

test('list works with and without the trailing slash', async () => {
  assert.deepEqual(names((await lab.call('GET', '/networks')).json), ['bridge', 'host', 'n1', 'none'])
  assert.deepEqual(names((await lab.call('GET', '/v1.40/networks/')).json), ['bridge', 'host', 'n1', 'none'])
})

test('filters select as documented', async () => {
  for (const [filters, expected] of [
    [{ name: ['dge'] }, ['bridge']],
    [{ name: { dge: true, n1: true } }, ['bridge', 'n1']],
    [{ driver: ['null'] }, ['none']],
    [{ type: ['custom'] }, ['n1']],
    [{ type: ['builtin'] }, ['bridge', 'host', 'none']],
    [{ label: ['a'] }, ['n1']],
    [{ label: ['a=2'] }, []],
    [{ dangling: ['true'] }, ['n1']],
    [{ dangling: ['0'] }, ['bridge', 'host', 'none']],
    [{ scope: ['swarm'] }, []],
    [{ name: ['('] }, []],
  ] as const) {
    assert.deepEqual(names((await lab.call('GET', filtered(filters))).json), expected, JSON.stringify(filters))
  }
})

test('wrong filters have their documented statuses', async () => {
  for (const [filters, status, message] of [
    [{ xxx: ['1'] }, 400, "invalid filter 'xxx'"],
    [{ type: ['x'] }, 500, "invalid filter: 'type'='x'"],
    [{ dangling: ['1', '0'] }, 400, 'got more than one value for filter key "dangling"'],
  ] as const) {
    const reply = await lab.call('GET', filtered(filters))
    assert.equal(reply.status, status)
    assert.equal(reply.json.message, message)
  }
  assert.equal((await lab.call('GET', '/networks?filters=garbage')).json.message, 'invalid filter')
})

test('lookup goes by id, then name, then prefix, and ambiguity is an error', async () => {
  const n1 = lab.controller.getNetwork('n1')
  assert.equal((await lab.call('GET', `/networks/${n1.id}`)).json.Name, 'n1')
  assert.equal((await lab.call('GET', `/networks/${n1.id.slice(0, 12)}`)).json.Name, 'n1')
  // A network named like another one's id loses against the id.
  await lab.call('POST', '/networks/create', { Name: n1.id })
  assert.equal((await lab.call('GET', `/networks/${n1.id}`)).json.Name, 'n1')
  const twin = { ...n1, id: `${n1.id.slice(0, 20)}${'0'.repeat(44)}`, name: 'twin' }
  lab.controller.networks.set(twin.id, twin)
  const prefix = n1.id.slice(0, 10)
  const inspect = await lab.call('GET', `/networks/${prefix}`)
  assert.equal(inspect.status, 400)
  assert.equal(inspect.json.message, `2 matches found based on ID prefix: network ${prefix} is ambiguous`)
  const remove = await lab.call('DELETE', `/networks/${prefix}`)
  assert.equal(remove.json.message, `network ${prefix} is ambiguous (2 matches found based on ID prefix)`)
  assert.deepEqual((await lab.call('GET', '/networks/nope')).json, { message: 'network nope not found' })
  assert.equal((await lab.call('GET', '/networks/n1?scope=swarm')).status, 404)
  assert.equal((await lab.call('GET', '/networks/n1?verbose=maybe')).status, 400)
  assert.equal((await lab.call('GET', '/networks/n1?verbose=true')).status, 200)
  lab.controller.networks.delete(twin.id)
  await lab.call('DELETE', `/networks/${lab.controller.listNetworks().find((n) => n.name === n1.id)?.id}`)
})

test('a name with a slash can be inspected and removed', async () => {
  await lab.call('POST', '/networks/create', { Name: 'a/b' })
  assert.equal((await lab.call('GET', '/networks/a/b')).json.Name, 'a/b')
  assert.equal((await lab.call('DELETE', '/networks/a%2Fb')).status, 204)
})

test('the old list carries the containers, the young one does not', async () => {
  const { Id } = (await lab.call('POST', '/containers/create?name=c1', { Image: 'busybox', HostConfig: { NetworkMode: 'n1' } })).json
  await lab.call('POST', '/containers/c1/start')
  const find = (list: { Name: string; Containers: object }[]): object => list.find((network) => network.Name === 'n1')?.Containers ?? {}
  assert.deepEqual(find((await lab.call('GET', '/networks')).json), {})
  assert.deepEqual(Object.keys(find((await lab.call('GET', '/v1.27/networks')).json)), [Id])
  assert.deepEqual((await lab.call('GET', '/networks/n1')).json.Containers[Id], {
    Name: 'c1',
    EndpointID: lab.controller.sandboxOf(Id)?.endpoints[0]?.id,
    MacAddress: '02:42:ac:11:00:02',
    IPv4Address: '10.9.0.2/16',
    IPv6Address: '',
  })
})

test('connect and disconnect answer 200 with an empty body', async () => {
  await lab.call('POST', '/networks/create', { Name: 'n2' })
  const connect = await lab.call('POST', '/networks/n2/connect', {
    Container: 'c1',
    EndpointConfig: { Aliases: ['x'], GwPriority: 5, MacAddress: '02:00:00:00:00:01' },
  })
  assert.equal(connect.status, 200)
  assert.equal(connect.text, '')
  const stored = lab.containers.get('c1').endpoints['n2']
  assert.deepEqual(stored?.Aliases, ['x'])
  assert.equal(stored?.GwPriority, 5)
  assert.equal(stored?.MacAddress, undefined, 'connect honours a MAC address since 1.54 only')
  const inUse = await lab.call('DELETE', '/networks/n2')
  assert.equal(inUse.status, 403)
  assert.match(inUse.json.message, /has active endpoints/)
  const disconnect = await lab.call('POST', '/networks/n2/disconnect', { Container: 'c1', Force: false })
  assert.equal(disconnect.status, 200)
  assert.equal(disconnect.text, '')
  const missing = await lab.call('POST', '/networks/n2/disconnect', { Container: 'c1' })
  assert.equal(missing.status, 500)
})

test('EnableIPv4 of clients before 1.48 is not heard', async () => {
  await lab.call('POST', '/v1.47/networks/create', { Name: 'old4', EnableIPv4: false })
  await lab.call('POST', '/v1.48/networks/create', { Name: 'new4', EnableIPv4: false })
  assert.equal(lab.controller.getNetwork('old4').enableIpv4, true)
  assert.equal(lab.controller.getNetwork('new4').enableIpv4, false)
})

test('prune takes unused networks, tells, and exists since 1.25', async () => {
  assert.equal((await lab.call('POST', '/v1.24/networks/prune')).status, 404)
  const seen: string[] = []
  const stop = lab.events.subscribe((event) => seen.push(`${event.Type} ${event.Action} ${event.Actor.Attributes['reclaimed'] ?? ''}`))
  const young = await lab.call('POST', `/networks/prune?filters=${encodeURIComponent('{"until":["24h"]}')}`)
  assert.deepEqual(young.json, { NetworksDeleted: null }, 'none is a day old')
  const pruned = await lab.call('POST', '/networks/prune')
  stop()
  assert.deepEqual(pruned.json.NetworksDeleted.sort(), ['n2', 'new4', 'old4'])
  assert.ok(seen.includes('network prune 0'))
  assert.deepEqual(names((await lab.call('GET', '/networks')).json), ['bridge', 'host', 'n1', 'none'])
})

test('create without a name says so, also with no body at all', async () => {
  for (const body of [undefined, {}, { Name: '' }]) {
    const reply = await lab.call('POST', '/networks/create', body)
    assert.equal(reply.status, 400)
    assert.equal(reply.json.message, 'invalid name: name is empty')
  }
})

/** The engine's dealings with authorities and with drivers that plug in other ways than a pair on the host. Judge: `ip`. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { afterEach, test } from 'node:test'
import type { Cidr, Ip } from '../../src/base/address.ts'
import { NetError } from '../../src/base/errors.ts'
import type { Authority, EndpointFinal } from '../../src/drivers/authority.ts'
import type { Driver, EndpointFacts, Plug } from '../../src/drivers/types.ts'
import { createNetns, removeNetns } from '../../src/sys/netns.ts'
import { type ControllerLab, startControllerLab } from '../../testkit/controller-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { until } from '../../testkit/until.ts'

isolate()

function ip(text: string, inside?: string): string {
  const argv = inside === undefined ? ['ip', ...text.split(' ')] : ['nsenter', `--net=${inside}`, 'ip', ...text.split(' ')]
  const { stdout, stderr } = spawnSync(argv[0] as string, argv.slice(1), { encoding: 'utf8' })
  return stdout + stderr
}

/** A driver without a gateway whose endpoints plug in as `plug` says. */
function driverOf(name: string, plug: (endpoint: EndpointFacts) => Plug, more: Partial<Driver> = {}): Driver {
  return {
    name,
    scope: 'global',
    singleton: false,
    withoutIpam: false,
    userDefined: true,
    validate() {},
    skipGateway: () => ({ ipv4: true, ipv6: true }),
    networkWanted: () => ({ links: [] }),
    endpointWanted: (_network, endpoint) => ({
      plug: plug(endpoint),
      inside: {
        ifname: endpoint.ifname,
        addresses: endpoint.ipv4 === '' ? [] : [{ dev: endpoint.ifname, address: `${endpoint.ipv4}/24` as never }],
        sysctls: [],
        routes: [],
      },
    }),
    gatewayOf: () => ({ ipv4: '', ipv6: '' }),
    ...more,
  }
}

/** Grants 10.99.0.0/24 and remembers what it was asked. */
class Registrar implements Authority {
  readonly name = 'registrar'
  readonly endpoints = new Map<string, EndpointFinal | undefined>()
  readonly networks = new Set<string>()
  readonly said: string[] = []
  fail: { at?: string; code?: 'unavailable' | 'denied' } = {}

  #say(what: string): void {
    this.said.push(what)
    if (this.fail.at === what) throw new NetError(this.fail.code ?? 'unavailable', `${what} fails`)
  }

  async grantNetwork(draft: { id: string }) {
    this.networks.add(draft.id)
    this.#say('grantNetwork')
    return { pools: [{ subnet: '10.99.0.0/24' as Cidr, aux: {} }], data: { vni: 256 } }
  }
  async createNetwork() {
    this.#say('createNetwork')
    return { sealed: true }
  }
  async removeNetwork(network: { id: string }) {
    this.#say('removeNetwork')
    this.networks.delete(network.id)
  }
  async grantEndpoint(_network: unknown, ask: { endpointId: string }) {
    this.endpoints.set(ask.endpointId, undefined)
    this.#say('grantEndpoint')
    return { ipv4: `10.99.0.${10 + this.endpoints.size}` as Ip, data: { lease: 7 } }
  }
  async createEndpoint(_network: unknown, endpoint: EndpointFinal) {
    this.#say('createEndpoint')
    this.endpoints.set(endpoint.endpointId, endpoint)
    return { joined: true }
  }
  async activateEndpoint() {
    this.#say('activateEndpoint')
  }
  async removeEndpoint(_network: unknown, endpointId: string) {
    this.#say('removeEndpoint')
    this.endpoints.delete(endpointId)
  }
}

let lab: ControllerLab | undefined
afterEach(async () => {
  await lab?.close()
  lab = undefined
})

const pairIn = (place: string) =>
  driverOf(
    'far',
    ({ id, ifname, netnsFd }) => ({
      kind: 'pair',
      place,
      link: { spec: { name: `far${id.slice(0, 5)}`, kind: 'veth', peer: { name: ifname, netnsFd }, up: true }, addresses: [], sysctls: [] },
    }),
    { usesGatewayBridge: () => true },
  )

const intents = (l: ControllerLab) => l.store.list('intent/').length

test('an endpoint whose outer end lives in another namespace, with the way out through docker_gwbridge', async () => {
  const place = '/run/causeway-test-place'
  createNetns(place)
  try {
    const registrar = new Registrar()
    const driver = pairIn(place)
    lab = await startControllerLab({ drivers: [driver], findAuthority: (name) => (name === 'far' ? registrar : undefined) })
    const { controller } = lab
    const { network } = await controller.createNetwork({ name: 'net1', driver: 'far' })
    assert.equal(network.pools[0]?.subnet, '10.99.0.0/24')
    assert.deepEqual(network.data, { vni: 256, sealed: true })
    assert.equal(network.scope, 'global')
    assert.equal(controller.findNetwork('docker_gwbridge'), undefined, 'made before somebody needs it')
    const info = await controller.openSandbox(lab.request(1, 'net1'))
    assert.deepEqual(registrar.said, ['grantNetwork', 'createNetwork', 'grantEndpoint', 'createEndpoint', 'activateEndpoint'])
    assert.equal(info.endpoints.length, 1)
    assert.equal(info.endpoints[0]?.ipv4, '10.99.0.11')
    assert.equal(info.gatewayBridge?.ifname, 'eth1')
    const inside = ip('-4 -o addr', info.key)
    assert.match(inside, /eth0 +inet 10\.99\.0\.11\/24/)
    assert.match(inside, /eth1 +inet 172\.\d+\.0\.2\/16/)
    assert.match(ip('route', info.key), /default via 172\.\d+\.0\.1 dev eth1/)
    assert.match(ip('link', place), /far[0-9a-f]{5}/)
    assert.equal(intents(lab), 0)

    // another way out: docker_gwbridge is left; and back
    await controller.connect(info.containerId, 'bridge', {})
    assert.equal(controller.sandboxOf(info.containerId)?.gatewayBridge, undefined)
    await controller.disconnect(info.containerId, 'bridge', false)
    assert.ok(controller.sandboxOf(info.containerId)?.gatewayBridge)
    assert.match(ip('route', info.key), /default via 172\.\d+\.0\.1/)

    // kill -9 with a live sandbox: nothing is asked again
    const before = registrar.said.length
    await lab.again().restore(new Set([info.containerId]))
    assert.deepEqual(registrar.said.slice(before), [])
    assert.match(ip('-4 -o addr', info.key), /eth0 +inet 10\.99\.0\.11\/24/)

    await assert.rejects(lab.controller.removeNetwork('net1'), /has active endpoints/)
    await lab.controller.closeSandbox(info.containerId)
    assert.equal(registrar.endpoints.size, 0)
    await until('the outer end goes', () => !/far/.test(ip('link', place)))
    await lab.controller.removeNetwork('net1')
    assert.equal(registrar.networks.size, 0)
    assert.equal(intents(lab), 0)
    await lab.controller.removeNetwork('docker_gwbridge')
  } finally {
    removeNetns(place)
  }
})

test('a link that is born in the sandbox, at the start and by a live connect', async () => {
  const born = driverOf(
    'born',
    ({ ifname }) => ({ kind: 'born', link: { name: ifname, kind: 'macvlan', parent: 'nic0', mode: 'bridge', up: true } }),
    {
      scope: 'local',
    },
  )
  ip('link add nic0 type veth peer name nic1')
  ip('link set nic0 up')
  try {
    lab = await startControllerLab({ drivers: [born] })
    const { controller } = lab
    await controller.createNetwork({ name: 'lan', driver: 'born', ipam: { config: [{ subnet: '10.98.0.0/24' }] } })
    const a = await controller.openSandbox(lab.request(1, 'lan'))
    assert.match(ip('-d link show eth0', a.key), /macvlan mode bridge/)
    assert.equal(a.endpoints[0]?.hostIfname, '')
    const b = await controller.openSandbox(lab.request(2, 'bridge'))
    await controller.connect(b.containerId, 'lan', {})
    assert.match(ip('-d link show eth1', b.key), /macvlan mode bridge/)
    await controller.disconnect(b.containerId, 'lan', false)
    assert.doesNotMatch(ip('link', b.key), /eth1/)
    await until('the link goes', () => !/macvlan/.test(ip('-d link', b.key)))
    await lab.again().restore(new Set([a.containerId, b.containerId]))
    assert.match(ip('-d link show eth0', a.key), /macvlan mode bridge/)
    await lab.controller.closeSandbox(a.containerId)
    await lab.controller.closeSandbox(b.containerId)
    await lab.controller.removeNetwork('lan')
  } finally {
    ip('link delete nic0')
  }
})

test("somebody else's link is moved in under our name, and back under its own", async () => {
  const taken = driverOf('taken', ({ data }) => ({ kind: 'taken', hostIfname: String(data['src'] ?? '') }), {
    ifacePrefix: () => 'lan',
  })
  const authority: Authority = { name: 'plug', createEndpoint: async () => ({ src: 'theirs0' }) }
  ip('link add theirs0 type veth peer name theirs1')
  try {
    lab = await startControllerLab({ drivers: [taken], findAuthority: (name) => (name === 'taken' ? authority : undefined) })
    const { controller } = lab
    await controller.createNetwork({ name: 'net', driver: 'taken', ipam: { config: [{ subnet: '10.97.0.0/24' }] } })
    const a = await controller.openSandbox(lab.request(1, 'net'))
    assert.match(ip('-4 -o addr', a.key), /lan0 +inet 10\.97\.0\.\d+\/24/)
    assert.match(ip('link show theirs0'), /does not exist/)
    await controller.closeSandbox(a.containerId)
    assert.match(ip('link show theirs0'), /theirs0/)
    const b = await controller.openSandbox(lab.request(2, 'bridge'))
    await controller.connect(b.containerId, 'net', {})
    assert.match(ip('link', b.key), /lan0/)
    await controller.disconnect(b.containerId, 'net', false)
    assert.match(ip('link show theirs0'), /theirs0/)
    await controller.closeSandbox(b.containerId)
    await controller.removeNetwork('net')
  } finally {
    ip('link delete theirs0')
  }
})

test('whatever an authority refuses leaves nothing behind, and what it could not hear is said again', async () => {
  const place = '/run/causeway-test-place2'
  createNetns(place)
  try {
    const registrar = new Registrar()
    lab = await startControllerLab({ drivers: [pairIn(place)], findAuthority: (name) => (name === 'far' ? registrar : undefined) })
    const { controller } = lab
    for (const at of ['grantNetwork', 'createNetwork']) {
      registrar.fail = { at, code: 'denied' }
      await assert.rejects(controller.createNetwork({ name: 'net1', driver: 'far' }), new RegExp(`${at} fails`))
      assert.equal(controller.findNetwork('net1'), undefined)
      assert.equal(registrar.networks.size, 0)
    }
    registrar.fail = {}
    await controller.createNetwork({ name: 'net1', driver: 'far' })
    for (const at of ['grantEndpoint', 'createEndpoint', 'activateEndpoint']) {
      registrar.fail = { at, code: 'denied' }
      await assert.rejects(controller.openSandbox(lab.request(1, 'net1')), new RegExp(`${at} fails`))
      assert.equal(controller.sandboxOf(lab.request(1).containerId), undefined)
      assert.equal(registrar.endpoints.size, 0)
      assert.equal(intents(lab), 0)
    }
    registrar.fail = {}
    const a = await controller.openSandbox(lab.request(1, 'net1'))
    registrar.fail = { at: 'removeEndpoint', code: 'unavailable' }
    await controller.closeSandbox(a.containerId)
    assert.equal(controller.sandboxOf(a.containerId), undefined)
    assert.equal(intents(lab), 1, 'the removal is remembered')
    registrar.fail = {}
    await until('the removal is said again', () => registrar.endpoints.size === 0)
    assert.equal(intents(lab), 0)
    // begun before a crash and in no record: taken back by the next engine
    const network = controller.getNetwork('net1')
    registrar.endpoints.set('e'.repeat(64), undefined)
    lab.store.put(`intent/${'e'.repeat(64)}`, { kind: 'endpoint', network, endpointId: 'e'.repeat(64), data: {} })
    await lab.again().restore(new Set())
    await until('what the crash left is taken back', () => registrar.endpoints.size === 0)
    await lab.controller.removeNetwork('net1')
  } finally {
    removeNetns(place)
  }
})

test("a sandbox in somebody else's namespace: configured, taken up after a crash, left without our links, and never removed", async () => {
  const netns = '/run/causeway-test-cni'
  createNetns(netns)
  try {
    lab = await startControllerLab()
    const { controller } = lab
    await controller.createNetwork({ name: 'pods', driver: 'bridge' })
    const { filesDir: _filesDir, ...rest } = lab.request(1, 'pods')
    const info = await controller.openSandbox({ ...rest, filesDir: '', netns })
    assert.equal(info.key, netns)
    assert.match(ip('-4 -o addr', netns), /eth0 +inet 172\./)
    assert.match(ip('route', netns), /default via/)
    await lab.again().restore(new Set())
    assert.ok(lab.controller.sandboxOf(info.containerId), 'kept although no container of ours is called so')
    await lab.controller.closeSandbox(info.containerId)
    await until('the pair goes', () => !/eth0/.test(ip('link', netns)))
    assert.match(ip('link', netns), /lo/)
    await lab.controller.removeNetwork('pods')
  } finally {
    removeNetns(netns)
  }
})

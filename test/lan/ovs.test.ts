/** Networks of driver ovs end to end: engines on two hosts, each with a real Open vSwitch (user space datapath), and a cable between the switches. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { after, before, describe, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { buildLabNet, type LabHost } from '../../testkit/lab-net.ts'
import { OpenVswitch, withoutOpenVswitch } from '../../testkit/open-vswitch.ts'
import { until } from '../e2e/site.ts'
import { LanHost } from './lan-lab.ts'

isolate()

const SUBNET = ['--subnet', '10.50.0.0/24']
const OVS = ['-d', 'ovs', '-o', 'ovs.bridge=br0']
const VLAN50 = [...OVS, '-o', 'vlan=50', '-o', 'parent=eth1']

describe('driver ovs', { skip: withoutOpenVswitch }, () => {
  let net: ReturnType<typeof buildLabNet>
  let ovs: [OpenVswitch, OpenVswitch]
  let one: LanHost
  let two: LanHost

  before(async () => {
    net = buildLabNet({ hosts: 2, flat: true })
    const [a, b] = net.hosts as [LabHost, LabHost]
    const cable = `ip link add eth1 netns ${a.pid} type veth peer name eth1 netns ${b.pid}`
    assert.equal(spawnSync('sh', ['-c', cable]).status, 0)
    ovs = [new OpenVswitch(a.enter), new OpenVswitch(b.enter)]
    const engine = async (host: LabHost, { socket }: OpenVswitch) =>
      new LanHost(host, await startEngineLab([], { enter: (...argv) => host.enter('env', `CAUSEWAY_OVSDB=unix:${socket}`, ...argv) }))
    ;[one, two] = await Promise.all([engine(a, ovs[0]), engine(b, ovs[1])])
  })

  after(async () => {
    const left = [await one.lab.close(), await two.lab.close()]
    for (const each of ovs) await each.close()
    net.close()
    assert.deepEqual(left, [[], []])
  })

  /** A TCP connection carries a line: frames have their checksums. */
  async function answers(host: LanHost, from: string, server: string, ip: string): Promise<boolean> {
    await host.lab.exec(server, 'sh', '-c', 'echo hello-ovs >/tmp/index.html; httpd -p 8000 -h /tmp')
    return (await host.lab.exec(from, 'timeout', '3', 'wget', '-q', '-O', '-', `http://${ip}:8000/`)).out.includes('hello-ovs')
  }

  const eventually = async (what: string, ms: number, probe: () => Promise<boolean>) => assert.ok(await until(probe, ms), what)

  test('without a switch a network is refused with what to start, and nothing is left of it', async () => {
    const message = await one.refused(...VLAN50, ...SUBNET, 'early')
    assert.match(message, /^503 Open vSwitch does not answer at .*db\.sock .*start ovsdb-server and ovs-vswitchd/)
    for (const each of ovs) await each.start()
  })

  test('one bridge, two VLANs: members of one meet by name and by TCP, those of the other are not reached', async () => {
    const id = await one.network(...VLAN50, ...SUBNET, '--ip-range', '10.50.0.0/26', '--gateway', '10.50.0.1', 'fifty')
    await one.network(...OVS, '-o', 'vlan=60', '-o', 'ovs.gateway=none', ...SUBNET, '--ip-range', '10.50.0.128/26', 'sixty')
    for (const name of ['a1', 'a2']) await one.lab.run(name, { networks: ['fifty'] })
    await one.lab.run('s1', { networks: ['sixty'] })
    const a1 = await one.endpoint('a1', 'fifty')
    const a2 = await one.endpoint('a2', 'fifty')
    const s1 = await one.endpoint('s1', 'sixty')
    assert.deepEqual([a1.Gateway, a1.IPAddress.startsWith('10.50.0.'), s1.Gateway], ['10.50.0.1', true, ''])
    assert.equal((await one.lab.exec('a1', 'ping', '-c', '1', '-W', '2', 'a2')).code, 0)
    assert.ok(await answers(one, 'a1', 'a2', a2.IPAddress))
    assert.ok(await one.reaches('a1', '10.50.0.1'), 'the gateway on the host')
    assert.ok(await one.reaches('a1', net.router.ip || '10.10.126.1'), 'the world behind the host')
    assert.equal(await one.reaches('a1', s1.IPAddress, 1), false)
    // the host is where its gateway device is, and does not answer on the outer end of the pair
    const mac = /link\/ether (\S+)/.exec((await one.lab.sh(`ip link show og-${id.slice(0, 12)}`)).out)?.[1] ?? 'none'
    assert.match(await one.inside('a1', 'ip neigh show 10.50.0.1'), new RegExp(`lladdr ${mac} `))
    assert.equal(await one.reaches('s1', '10.50.0.1', 1), false, 'the gateway of another VLAN')
    // what the switch was told, in the words of its own tool
    const [port] = ovs[0]
      .vsctl('--format=csv', '--no-headings', '--columns=name', 'find', 'interface', `external_ids:attached-mac="${a1.MacAddress}"`)
      .split('\n')
    assert.match(port ?? '', /^veth[0-9a-f]{7}$/)
    assert.equal(ovs[0].vsctl('get', 'port', port as string, 'tag'), '50')
    assert.match(ovs[0].vsctl('get', 'interface', port as string, 'external_ids'), new RegExp(`causeway="?${id}.*container_id=.*iface-id=`))
    assert.equal(ovs[0].vsctl('get', 'bridge', 'br0', 'datapath_type'), 'netdev')
  })

  test('the outside over docker_gwbridge when the network has no gateway; published ports through the gateway when it has', async () => {
    assert.match(await one.inside('s1', 'ip route'), /default via .* dev eth1/)
    await one.lab.run('web', {
      networks: ['fifty'],
      cmd: ['sh', '-c', 'mkdir /w; echo published >/w/index.html; httpd -f -p 80 -h /w'],
      host: { PortBindings: { '80/tcp': [{ HostPort: '8080' }] } },
    })
    const call = () => net.router.sh(`curl -s -m 2 http://${one.host.ip}:8080/`)
    await eventually('published port', 5000, async () => (await call()).out.includes('published'))
    await one.remove(['web'], [])
  })

  test('two hosts on one VLAN over their uplinks; another VLAN stays apart', async () => {
    await two.network(...VLAN50, ...SUBNET, '--ip-range', '10.50.0.64/26', '--gateway', '10.50.0.2', 'fifty')
    await two.network(
      ...OVS,
      '-o',
      'vlan=60',
      '-o',
      'parent=eth1',
      '-o',
      'ovs.gateway=lan',
      ...SUBNET,
      '--ip-range',
      '10.50.0.192/26',
      'sixty',
    )
    await two.lab.run('b1', { networks: ['fifty'] })
    await two.lab.run('t1', { networks: ['sixty'] })
    const a2 = await one.endpoint('a2', 'fifty')
    const b1 = await two.endpoint('b1', 'fifty')
    assert.ok(await one.reaches('a1', b1.IPAddress))
    assert.ok((await two.lab.exec('b1', 'timeout', '3', 'wget', '-q', '-O', '-', `http://${a2.IPAddress}:8000/`)).out.includes('hello-ovs'))
    assert.equal(await two.reaches('t1', a2.IPAddress, 1), false)
    await two.remove(['b1', 't1'], ['fifty'])
    assert.ok(ovs[1].vsctl('list-ports', 'br0').includes('eth1'), 'the other network still has its uplink')
    await two.remove([], ['sixty'])
    assert.equal(ovs[1].vsctl('list-br'), '')
  })

  test('what is wrong is said: VLAN numbers, uplinks with addresses, unknown ones, one gateway for two', async () => {
    assert.match(await one.refused(...OVS, '-o', 'vlan=4095', ...SUBNET, 'bad'), /^400 vlan id must be between 1-4094, received: 4095$/)
    assert.match(
      await one.refused(...OVS, '-o', 'parent=eth0', '--subnet', '10.60.0.0/24', 'bad'),
      /eth0 has the host's address 10\.10\.126\./,
    )
    assert.match(
      await one.refused(...OVS, '-o', 'parent=nope0', '--subnet', '10.60.0.0/24', 'bad'),
      /parent interface nope0 does not exist/,
    )
    assert.match(
      await one.refused(...OVS, '-o', 'vlan=70', ...SUBNET, '--ip-range', '10.50.0.224/27', 'bad'),
      /cannot be the gateway of both/,
    )
    const other = ['-d', 'ovs', '-o', 'ovs.bridge=br1', '-o', 'parent=eth1', '--subnet', '10.60.0.0/24']
    assert.match(await one.refused(...other, 'bad'), /eth1 is a port of .*br0/)
    assert.equal(ovs[0].vsctl('list-br'), 'br0')
  })

  test('a bridge that was there before is used and stays', async () => {
    ovs[1].vsctl('add-br', 'mine', '--', 'set', 'bridge', 'mine', 'datapath_type=netdev', 'external_ids:owner=me')
    await two.network('-d', 'ovs', '-o', 'ovs.bridge=mine', '--subnet', '10.70.0.0/24', 'guest')
    await two.lab.run('g1', { networks: ['guest'] })
    await two.lab.run('g2', { networks: ['guest'] })
    assert.ok(await answers(two, 'g1', 'g2', (await two.endpoint('g2', 'guest')).IPAddress))
    assert.equal(ovs[1].vsctl('list-ports', 'mine').split('\n').length, 3)
    await two.remove(['g1', 'g2'], ['guest'])
    assert.deepEqual([ovs[1].vsctl('list-ports', 'mine'), ovs[1].vsctl('get', 'bridge', 'mine', 'external_ids')], ['', '{owner=me}'])
  })

  test('ports that somebody takes out come back; so does everything when the switch starts again', async () => {
    const a2 = await one.endpoint('a2', 'fifty')
    for (const port of ovs[0].vsctl('list-ports', 'br0').split('\n')) ovs[0].vsctl('del-port', 'br0', port)
    await eventually('ports are back', 10_000, () => one.reaches('a1', a2.IPAddress, 1))
    await eventually('the gateway is back', 10_000, () => one.reaches('a1', '10.50.0.1', 1))
    const veth = ovs[0]
      .vsctl('list-ports', 'br0')
      .split('\n')
      .find((name) => name.startsWith('veth')) as string
    assert.equal((await one.lab.sh(`ip link del ${veth}`)).code, 0)
    const byTcp = async () =>
      (await one.lab.exec('a1', 'timeout', '1', 'wget', '-q', '-O', '-', `http://${a2.IPAddress}:8000/`)).out === 'hello-ovs\n'
    await eventually('a pair that was deleted is back, with complete checksums', 10_000, byTcp)
    await ovs[0].stop()
    // what goes while the switch is away is taken out of it afterwards
    await one.remove(['s1'], [])
    const late = await one.lab.run('s2', { networks: ['sixty'] }).then(String, (error: Error) => error.message)
    assert.match(late, /^start s2: 503 .*start ovsdb-server and ovs-vswitchd/)
    await ovs[0].start()
    await eventually('after a restart of the switch', 15_000, () => one.reaches('a1', a2.IPAddress, 1))
    await eventually('the gateway after a restart of the switch', 15_000, () => one.reaches('a1', '10.50.0.1', 1))
    assert.ok(await answers(one, 'a2', 'a1', (await one.endpoint('a1', 'fifty')).IPAddress))
  })

  test('after kill -9 containers go on; ports of what died meanwhile, or is nobody’s, are taken out', async () => {
    await eventually(
      'the port of a container that went while the switch was away',
      10_000,
      async () => ovs[0].vsctl('--columns=name', 'find', 'port', 'tag=60') === '',
    )
    assert.equal((await one.lab.api('POST', '/containers/s2/start')).status, 204)
    const { json } = await one.lab.api('GET', '/containers/s2/json')
    const engine = /causeway-engine="?([0-9a-f]+)/.exec(ovs[0].vsctl('--columns=external_ids', 'list', 'port'))?.[1] as string
    const before = ovs[0].vsctl('list-ports', 'br0').split('\n')
    await one.lab.kill9()
    process.kill(json.State.Pid, 'SIGKILL')
    const lost = [
      'type=internal',
      '--',
      'set',
      'port',
      'lost0',
      `external_ids={causeway=0123,causeway-endpoint=4567,causeway-engine=${engine}}`,
    ]
    ovs[0].vsctl('add-port', 'br0', 'lost0', '--', 'set', 'interface', 'lost0', ...lost)
    const a2 = await one.endpoint('a2', 'fifty').catch(() => undefined)
    assert.equal(a2, undefined, 'the engine is away')
    await one.lab.start()
    await eventually('leftovers are gone', 10_000, async () => ovs[0].vsctl('list-ports', 'br0').split('\n').length === before.length - 1)
    assert.ok(await one.reaches('a1', (await one.endpoint('a2', 'fifty')).IPAddress))
    await one.lab.run('a3', { networks: ['fifty'] })
    assert.ok(await one.reaches('a3', (await one.endpoint('a1', 'fifty')).IPAddress))
    // an engine without containers starts and ends with the network as it is
    await one.remove(['a1', 'a2', 'a3', 's2'], ['sixty'])
    assert.equal(await one.lab.stop(), 0)
    await one.lab.start()
    await one.lab.run('a4', { networks: ['fifty'] })
    assert.ok(await one.reaches('a4', '10.50.0.1'))
    assert.equal(one.lab.log().match(/that nobody has any more/g)?.length, 2, 'after the switch was away, and after kill -9')
    await one.remove(['a4'], ['fifty'])
    assert.equal(ovs[0].vsctl('list-br'), '')
    assert.equal((await one.lab.sh('ip link show eth1')).code, 0)
  })
})

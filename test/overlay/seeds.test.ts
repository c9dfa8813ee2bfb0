/** The seeds' overlay experiment between whole engines: two hosts on two subnets, a router between them, a cluster store. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { etcdMissing } from '../../testkit/etcd.ts'
import { type Lab, startLab } from '../../testkit/lab.ts'
import { Experiment } from '../../testkit/lab-experiment.ts'

const skip = etcdMissing() ?? false
let lab: Lab
let experiment: Experiment

before(async () => {
  if (skip) return
  lab = await startLab({ hosts: 2 })
  experiment = new Experiment(lab, () => {})
})
after(async () => {
  if (!skip) assert.deepEqual(await lab.close(), [], 'nothing is left behind')
})

const columns = (table: string): string[] => table.split('\n').map((line) => line.replaceAll(/ +/g, ' ').trim())

test('every step of the experiment succeeds', { skip }, async () => {
  await experiment.run()
})

test('both networks stand on both hosts with one id, and nothing else until they are used', { skip }, () => {
  const [one, two] = ['host1', 'host2'].map((where) => experiment.out(where, 'causeway network ls')) as [string, string]
  for (const name of ['net1', 'net2']) {
    const row = columns(one).find((line) => line.includes(` ${name} overlay global`))
    assert.ok(row && columns(two).includes(row), `${name} on both: ${one}${two}`)
  }
  const listings = experiment.steps.filter((s) => s.where === 'host1' && s.command === 'causeway network ls').map((s) => s.out)
  assert.deepEqual(
    listings.map((out) => out.includes('docker_gwbridge')),
    [false, false, true],
  )
})

test('net1c1 has eth0 on net1 with 1450 bytes and eth1 on docker_gwbridge with the default route', { skip }, () => {
  assert.deepEqual(columns(experiment.out('net1c1', 'ip route')).slice(0, 3), [
    'default via 172.18.0.1 dev eth1',
    '10.0.0.0/24 dev eth0 scope link src 10.0.0.2',
    '172.18.0.0/16 dev eth1 scope link src 172.18.0.2',
  ])
  const addresses = experiment.out('net1c1', 'ip a')
  assert.match(addresses, /eth0@if\d+: <[^>]*UP[^>]*> mtu 1450 /)
  assert.match(addresses, /link\/ether 02:42:0a:00:00:02 /)
  assert.match(addresses, /eth1@if\d+: <[^>]*UP[^>]*> mtu 1500 /)
})

test('the network’s namespace is named, filled and joined as in the seeds', { skip }, () => {
  assert.match(experiment.out('host1', 'ip netns'), /^1-[0-9a-f]{10}\b/m)
  assert.match(
    experiment.out('host1', /^ip netns exec 1-\w+ ip route$/),
    /^10\.0\.0\.0\/24 dev br0 proto kernel scope link src 10\.0\.0\.1 *\n$/,
  )
  assert.match(experiment.out('host1', /^ip netns exec 1-\w+ brctl show$/), /br0\t+8000\.\w+\t+no\t+veth0\n\t+vxlan0\n/)
  assert.equal(experiment.out('host1', /^ip netns exec 1-\w+ arp -a$/), '? (10.0.0.3) at 02:42:0a:00:00:03 [ether] PERM on vxlan0\n')
  assert.match(experiment.out('host1', /^ip netns exec 1-\w+ ip -d link$/), /vxlan id 256 .*dstport 4789 /)
  const peer = /peer_ifindex: (\d+)/.exec(experiment.out('host1', /ethtool -S eth0$/))?.[1]
  assert.match(experiment.out('host1', /^ip netns exec 1-\w+ ip a$/), new RegExp(`^${peer}: veth0@`, 'm'))
  assert.match(experiment.out('host1', 'brctl show'), /docker0\t+8000\.\w+\t+no\t*\n/)
})

test('on the wire: VXLAN id 256 from host to host, no ARP', { skip }, () => {
  const wire = experiment.out('router', /^tcpdump/)
  assert.match(
    wire,
    /IP 10\.10\.126\.101\.\d+ > 10\.10\.105\.71\.4789: VXLAN, flags \[I\] \(0x08\), vni 256\nIP 10\.0\.0\.2 > 10\.0\.0\.3: ICMP/,
  )
  assert.doesNotMatch(wire, /ARP/)
})

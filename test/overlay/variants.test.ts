/** Overlay networks of other shapes: several subnets, IPv6 inside, IPv6 underlay, jumbo frames. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { parseCidr, parseIp } from '../../src/base/address.ts'
import type { OverlaySegment } from '../../src/drivers/overlay/config.ts'
import { initNetns } from '../../src/sys/netns.ts'
import { buildLabNet, type LabNet } from '../../testkit/lab-net.ts'
import { Members, pings } from './members.ts'

const alive = setInterval(() => {}, 1000)
let net: LabNet

before(async () => {
  await initNetns()
  net = buildLabNet({ hosts: 2, mtu: 9000 })
})
after(() => {
  net.close()
  clearInterval(alive)
})

const subnet = (cidr: string, gateway: string) => ({ subnet: parseCidr(cidr), gateway: parseIp(gateway) })

async function withMembers(options: ConstructorParameters<typeof Members>[1], body: (lab: Members) => Promise<void>): Promise<void> {
  const lab = new Members(net, options)
  try {
    await body(lab)
  } finally {
    await lab.close()
  }
}

test('several subnets: a segment with a VXLAN id for each, routed by the gateways', async () => {
  const segments: OverlaySegment[] = [
    { vni: 300, subnets: [subnet('10.1.0.0/24', '10.1.0.1')] },
    { vni: 301, subnets: [subnet('10.2.0.0/24', '10.2.0.1')] },
  ]
  await withMembers({ segments }, async (lab) => {
    const a = await lab.add(0, '10.1.0.2')
    const b = await lab.add(1, '10.2.0.2')
    const c = await lab.add(1, '10.1.0.3')
    assert.ok(await pings(a, c.ip))
    assert.match((await a.sh(`ping -c 1 -W 2 ${b.ip}`)).out, / ttl=63 /)
    assert.match((await c.sh(`ping -c 1 -W 2 ${b.ip}`)).out, / ttl=63 /)
    assert.ok(await pings(b, a.ip))
    assert.equal((await lab.inside(1, 'ip -br link show type vxlan | cut -d@ -f1')).out, 'vxlan0\nvxlan1\n')
    assert.deepEqual(lab.sandboxes[0]?.reconcile(lab.facts(0), lab.endpoints), [])
    await lab.remove(b)
    // the gateway has asked for b itself: that entry goes as well
    assert.doesNotMatch((await lab.inside(0, 'ip neigh show')).out, /10\.2\.0\.2/)
  })
})

test('IPv6 inside: neighbours are answered from the table, gateways need no detection of duplicates', async () => {
  const segments = [{ vni: 310, subnets: [subnet('10.1.0.0/24', '10.1.0.1'), subnet('fd01::/64', 'fd01::1')] }]
  await withMembers({ segments }, async (lab) => {
    const a = await lab.add(0, '10.1.0.2', 'fd01::2')
    const b = await lab.add(1, '10.1.0.3', 'fd01::3')
    assert.ok(await pings(a, 'fd01::3'))
    assert.ok(await pings(b, 'fd01::2'))
    assert.ok(await pings(a, 'fd01::1'))
    assert.match((await lab.inside(0, 'ip -6 neigh show dev vxlan0')).out, /^fd01::3 lladdr 02:42:0a:01:00:03 PERMANENT/)
    assert.deepEqual(lab.sandboxes[0]?.reconcile(lab.facts(0), lab.endpoints), [])
    assert.deepEqual(
      lab.sandboxes[0]?.kernelEntries(lab.networkId).map((e) => e.ip),
      ['10.1.0.2', '10.1.0.3', 'fd01::2', 'fd01::3'],
    )
  })
})

test('IPv6 underlay: tunnels between IPv6 addresses', async () => {
  const segments = [{ vni: 320, subnets: [subnet('10.1.0.0/24', '10.1.0.1')] }]
  await withMembers({ segments, ipv6Underlay: true, mtu: 8930 }, async (lab) => {
    const a = await lab.add(0, '10.1.0.2')
    const b = await lab.add(1, '10.1.0.3')
    assert.ok(await pings(a, b.ip))
    assert.match((await lab.inside(0, 'bridge fdb show dev vxlan0')).out, /02:42:0a:01:00:03 dst fd10:10:105::71 /)
    assert.ok(await pings(a, b.ip, '-M do -s 8902'))
    assert.deepEqual(lab.sandboxes[0]?.reconcile(lab.facts(0), lab.endpoints), [])
  })
})

test('jumbo underlay: 8950 bytes inside pass whole', async () => {
  await withMembers({ mtu: 8950 }, async (lab) => {
    const a = await lab.add(0, '10.0.0.2')
    const b = await lab.add(1, '10.0.0.3')
    assert.ok(await pings(a, b.ip, '-M do -s 8922'))
    assert.notEqual((await a.sh(`ping -c 1 -W 1 -M do -s 8923 ${b.ip}`)).code, 0)
  })
})

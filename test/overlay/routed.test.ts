/** Overlay networks in routed mode: three hosts on one link, no encapsulation; a host behind a router is named. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { initNetns } from '../../src/sys/netns.ts'
import { buildLabNet, type LabNet } from '../../testkit/lab-net.ts'
import { type Member, Members, pings } from './members.ts'

const alive = setInterval(() => {}, 1000)
let net: LabNet
let lab: Members
let a: Member
let b: Member

before(async () => {
  await initNetns()
  net = buildLabNet({ hosts: 3, flat: true })
  for (const host of net.hosts) await host.sh('sysctl -qw net.ipv4.conf.eth0.forwarding=1') // the engine's part
  lab = new Members(net, { isRouted: true, mtu: 1500 })
  a = await lab.add(0, '10.0.0.2')
  b = await lab.add(1, '10.0.0.3')
})
after(async () => {
  await lab.close()
  net.close()
  clearInterval(alive)
})

const hostRoutes = async (i: number) => (await lab.host(i).sh('ip -4 route show proto 202')).out.trim().split(' \n').sort()

test('members reach each other with the whole MTU, and on the wire their own addresses are seen', async () => {
  const capture = lab.host(1).sh('timeout 5 tcpdump -nn --immediate-mode -c 2 -i eth0 icmp', 6000)
  await new Promise((resolve) => setTimeout(resolve, 700))
  assert.ok(await pings(a, b.ip, '-M do -s 1472'))
  assert.ok(await pings(b, a.ip))
  assert.match((await a.sh('ping -c 1 -W 1 10.0.0.3')).out, / ttl=60 /)
  const { out } = await capture
  assert.match(out, /IP 10\.0\.0\.2 > 10\.0\.0\.3: ICMP echo request/)
  // one block for both: the first host has it, the other's member stands for itself
  assert.deepEqual(await hostRoutes(0), ['10.0.0.0/28 via 169.254.77.2 dev gw-da3d1b5fcb onlink', '10.0.0.3 via 10.10.126.71 dev eth0'])
  assert.deepEqual(await hostRoutes(1), ['10.0.0.0/28 via 10.10.126.101 dev eth0', '10.0.0.3 via 169.254.77.2 dev gw-da3d1b5fcb onlink'])
})

test('a second look finds nothing; what is deleted by hand comes back', async () => {
  assert.deepEqual(lab.sandboxes[0]?.reconcile(lab.facts(0), lab.endpoints), [])
  for (const harm of ['ip route del 10.0.0.3', 'ip link del gw-da3d1b5fcb', 'ip route replace 10.0.0.3 via 10.10.126.31 proto 202']) {
    assert.equal((await lab.host(0).sh(harm)).err, '', harm)
    assert.notDeepEqual(lab.sandboxes[0]?.reconcile(lab.facts(0), lab.endpoints), [], harm)
    assert.ok(await pings(a, b.ip), harm)
    assert.deepEqual(lab.sandboxes[0]?.reconcile(lab.facts(0), lab.endpoints), [], harm)
  }
  assert.deepEqual(
    lab.sandboxes[0]?.kernelEntries(lab.networkId).map((e) => `${e.ip} ${e.host}`),
    ['10.0.0.2 10.10.126.101', '10.0.0.3 10.10.126.71'],
  )
})

test('an endpoint that moves is reached at its new host; the last member leaves nothing', async () => {
  await lab.remove(b)
  assert.deepEqual(await hostRoutes(0), ['10.0.0.0/28 via 169.254.77.2 dev gw-da3d1b5fcb onlink'])
  assert.deepEqual(await hostRoutes(1), [''])
  assert.equal((await lab.host(1).sh('ip -o link show type veth | grep gw-')).out, '')
  b = await lab.add(2, '10.0.0.3')
  assert.ok(await pings(a, b.ip))
  assert.ok(await pings(b, a.ip))
})

test('a host that is not concerned has one route for a host’s whole block; members in it and outside of it are reached from everywhere', async () => {
  const more = [await lab.add(1, '10.0.0.20'), await lab.add(1, '10.0.0.21'), await lab.add(1, '10.0.0.22'), await lab.add(0, '10.0.0.23')]
  assert.deepEqual(await hostRoutes(2), [
    '10.0.0.0/28 via 10.10.126.101 dev eth0',
    '10.0.0.16/28 via 10.10.126.71 dev eth0',
    '10.0.0.23 via 10.10.126.101 dev eth0',
    '10.0.0.3 via 169.254.77.2 dev gw-da3d1b5fcb onlink',
  ])
  const members = [a, b, ...more]
  for (const from of members) for (const to of members) if (from !== to) assert.ok(await pings(from, to.ip), `${from.ip} to ${to.ip}`)
  for (const i of [0, 1, 2]) assert.deepEqual(lab.sandboxes[i]?.reconcile(lab.facts(i), lab.endpoints), [])
  // the block changes hands, nobody is lost meanwhile
  const pinging = Promise.all([more[2], more[3]].map((to) => b.sh(`ping -n -c 40 -i 0.05 -q ${to?.ip}`)))
  for (const member of more.slice(0, 2)) await lab.remove(member)
  for (const { out } of await pinging) assert.match(out, / 0% packet loss/)
  assert.ok((await hostRoutes(2)).includes('10.0.0.16/28 via 10.10.126.101 dev eth0'))
})

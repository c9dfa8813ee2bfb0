/** An overlay network over three hosts in the real kernel: what stands in its namespaces, what goes over the wire, what is repaired. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { after, before, test } from 'node:test'
import type { OverlayFacts } from '../../src/drivers/overlay/wanted.ts'
import { initNetns } from '../../src/sys/netns.ts'
import { Reactor } from '../../src/sys/reactor.ts'
import { buildLabNet, type LabNet } from '../../testkit/lab-net.ts'
import { seeded } from '../../testkit/random.ts'
import { until } from '../../testkit/until.ts'
import { exec, type Member, Members, pings } from './members.ts'

const alive = setInterval(() => {}, 1000)
let net: LabNet
let reactor: Reactor
let lab: Members
let c1: Member
let c2: Member

before(async () => {
  await initNetns()
  reactor = await Reactor.start()
  net = buildLabNet({ hosts: 3 })
  lab = new Members(net, { reactor })
  c1 = await lab.add(0, '10.0.0.2')
  c2 = await lab.add(1, '10.0.0.3')
})

after(async () => {
  await lab.close()
  net.close()
  await reactor.close()
  clearInterval(alive)
})

const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '')

test('the namespace holds br0 with the gateway, vxlan0 and veth0, as in the seeds', async () => {
  const links = JSON.parse((await lab.inside(0, 'ip -d -j link')).out)
  const link = (name: string) => links.find((l: { ifname: string }) => l.ifname === name)
  assert.deepEqual(links.map((l: { ifname: string }) => l.ifname).sort(), ['br0', 'lo', 'veth0', 'vxlan0'])
  for (const name of ['br0', 'veth0', 'vxlan0']) assert.equal(link(name).mtu, 1450, name)
  for (const name of ['veth0', 'vxlan0']) assert.equal(link(name).master, 'br0', name)
  const { info_data: vxlan } = link('vxlan0').linkinfo
  assert.deepEqual([vxlan.id, vxlan.port, vxlan.proxy, vxlan.l2miss, vxlan.l3miss, vxlan.learning], [256, 4789, true, true, true, false])
  assert.match((await lab.inside(0, 'ip -br addr show br0')).out, /br0 +UP +10\.0\.0\.1\/24 *\n/)
  assert.equal((await lab.inside(0, 'arp -an')).out, '? (10.0.0.3) at 02:42:0a:00:00:03 [ether] PERM on vxlan0\n')
  const fdb = (await lab.inside(0, 'bridge fdb show dev vxlan0 | grep -v "master br0 permanent" | sed "s/ link-netnsid 0//"')).out
  assert.deepEqual(
    lines(fdb)
      .map((line) => line.trim())
      .sort(),
    [
      '00:00:00:00:00:00 dst 10.10.105.71 self permanent',
      '02:42:0a:00:00:03 dst 10.10.105.71 self permanent',
      '02:42:0a:00:00:03 master br0 static',
    ],
  )
})

test('containers on two hosts reach each other and their gateways, with 1450 bytes and no more', async () => {
  assert.ok(await pings(c1, c2.ip))
  assert.ok(await pings(c2, c1.ip))
  assert.ok(await pings(c1, '10.0.0.1'))
  assert.ok(await pings(c1, c2.ip, '-M do -s 1422'))
  const tooLong = await c1.sh(`ping -c 1 -W 1 -M do -s 1423 ${c2.ip}`)
  assert.match(tooLong.out + tooLong.err, /message too long, mtu=1450/)
})

test('on the wire: VXLAN 256 on UDP 4789 between the hosts, and no ARP of the containers', async () => {
  const capture = spawn('nsenter', [
    `--net=${net.router.netns}`,
    'tcpdump',
    '-nn',
    '-l',
    '--immediate-mode',
    '-c',
    '4',
    '-i',
    'h0',
    'udp',
    'port',
    '4789',
  ])
  let out = ''
  capture.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  await new Promise((resolve) => capture.stderr.once('data', resolve))
  await c1.sh('ip neigh flush dev eth0')
  const gone = new Promise((resolve) => capture.once('close', resolve))
  assert.ok(await pings(c1, c2.ip))
  await gone
  assert.match(
    out,
    /IP 10\.10\.126\.101\.\d+ > 10\.10\.105\.71\.4789: VXLAN, flags \[I\] \(0x08\), vni 256\nIP 10\.0\.0\.2 > 10\.0\.0\.3: ICMP echo request/,
  )
  assert.match(
    out,
    /IP 10\.10\.105\.71\.\d+ > 10\.10\.126\.101\.4789: VXLAN, flags \[I\] \(0x08\), vni 256\nIP 10\.0\.0\.3 > 10\.0\.0\.2: ICMP echo reply/,
  )
  assert.doesNotMatch(out, /ARP/)
})

test('broadcast and multicast reach the members of all hosts once', async () => {
  const c3 = await lab.add(2, '10.0.0.4')
  const c4 = await lab.add(2, '10.0.0.5')
  const listen = (port: number) => `
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", ${port}))
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("4s4s", socket.inet_aton("239.1.2.3"), socket.inet_aton(sys.argv[1])))
print("ready", flush=True)
s.settimeout(1.5)
n = 0
try:
    while True: n += s.recv(100) == b"hello"
except TimeoutError: pass
print(n)`
  const send = (to: string) => `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 4); s.bind(("10.0.0.2", 0))
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.0.0.2"))
s.sendto(b"hello", ("${to}", 5007))`
  for (const to of ['255.255.255.255', '10.0.0.255', '239.1.2.3']) {
    const heard = [c2, c3, c4].map((c) => {
      const child = spawn('nsenter', [`--net=${c.netns}`, 'python3', '-c', listen(5007), c.ip], { stdio: ['ignore', 'pipe', 'inherit'] })
      let out = ''
      let ready: () => void
      const isReady = new Promise<void>((resolve) => (ready = resolve))
      child.stdout.on('data', (chunk: Buffer) => {
        out += chunk.toString()
        if (out.includes('ready')) ready()
      })
      return { isReady, count: new Promise<string>((resolve) => child.once('close', () => resolve(lines(out).at(-1) ?? ''))) }
    })
    await Promise.all(heard.map((h) => h.isReady))
    const sent = await c1.sh(`ip route replace default dev eth0; python3 -c '${send(to)}'`)
    assert.equal(sent.code, 0, sent.err)
    assert.deepEqual(await Promise.all(heard.map((h) => h.count)), ['1', '1', '1'], to)
  }
  await lab.remove(c4)
  await lab.remove(c3)
})

test('what is deleted or changed by hand is repaired, and said', async () => {
  // without what is made by chance: indexes, and the MACs of veth0 and vxlan0
  const read = `ip -o addr show br0 | cut -d' ' -f2-; ip neigh show dev vxlan0; bridge fdb show dev vxlan0 | grep -v 'master br0 permanent'
    ip -o link | sed 's/@.*master/ master/; s/link.ether.*//' | grep -v ' lo:' | cut -d' ' -f2-`
  const state = async () =>
    lines((await lab.inside(0, read)).out)
      .sort()
      .join('\n')
  const healthy = await state()
  for (const harm of [
    'ip neigh del 10.0.0.3 dev vxlan0',
    'bridge fdb del 02:42:0a:00:00:03 dev vxlan0 self',
    'bridge fdb del 02:42:0a:00:00:03 dev vxlan0 master',
    'bridge fdb del 00:00:00:00:00:00 dev vxlan0 dst 10.10.105.71 self',
    'bridge fdb replace 02:42:0a:00:00:03 dev vxlan0 dst 10.10.117.31 self permanent',
    'ip neigh add 10.0.0.77 lladdr 02:42:0a:00:00:4d dev vxlan0 nud permanent',
    'bridge fdb add 02:42:0a:00:00:4d dev vxlan0 dst 10.10.117.31 self permanent',
    'ip addr flush dev br0',
    'ip link set br0 down',
    'ip link set vxlan0 nomaster',
    'ip link set veth0 nomaster',
    'ip link del vxlan0',
    'ip link del br0',
  ]) {
    lab.repairs.length = 0
    assert.equal((await lab.inside(0, harm)).err, '', harm)
    await until(`repair after ${harm}`, async () => lab.repairs.length > 0 && (await pings(c1, c2.ip)))
    await until(`state after ${harm}`, async () => (await state()) === healthy)
  }
})

test('an endpoint that moves to another host is reached there at once, also when the address comes here', async () => {
  for (const to of [2, 0, 1]) {
    await lab.remove(c2)
    const entries = (await lab.inside(0, 'ip neigh show nud permanent; bridge fdb show dev vxlan0 | grep -v "master br0 permanent"')).out
    assert.equal(entries, '', 'no entry outlives the endpoint')
    c2 = await lab.add(to, '10.0.0.3')
    assert.ok(await pings(c1, c2.ip), `moved to host ${to}`)
    assert.ok(await pings(c2, c1.ip))
    if (to === 0)
      assert.equal(
        (await lab.inside(0, 'ip neigh show nud permanent; bridge fdb show dev vxlan0 | grep -v "master br0 permanent"')).out,
        '',
      )
  }
})

test('after a crash what is there is taken up: nothing is made anew, traffic goes on', async () => {
  const index = async () => (await lab.inside(0, 'cat /sys/class/net/vxlan0/ifindex; ip -o link show vxlan0 | cut -d: -f1')).out
  const before = await index()
  await lab.sandboxes[0]?.close()
  lab.sandboxes[0] = lab.open(0)
  assert.deepEqual(await lab.sandboxes[0].ensure(lab.facts(0), lab.endpoints), [])
  assert.equal(await index(), before)
  assert.equal(lab.sandboxes[0].interfaceName(lab.networkId, c1.id), 'veth0')
  assert.ok(await pings(c1, c2.ip))
})

test('a namespace whose file was deleted gets it back', async () => {
  const path = lab.place(0)
  const ended = await exec(['sh', '-c', `umount -l ${path} && rm ${path}`])
  assert.equal(ended.err, '')
  assert.match(JSON.stringify(await lab.sandboxes[0]?.ensure(lab.facts(0), lab.endpoints)), /had no file/)
  assert.equal((await lab.inside(0, 'true')).code, 0)
  assert.ok(await pings(c1, c2.ip))
})

test('random sets of endpoints: the kernel holds exactly what belongs there, and the second look finds nothing', async () => {
  const random = seeded(Number(process.env['CAUSEWAY_SEED'] ?? Date.now() % 1e9))
  const own = lab.endpoints
  for (let round = 0; round < 25; round++) {
    const extra = Array.from({ length: random.below(30) }, (_, i) => {
      const n = 10 + random.below(60)
      const host = 1 + random.below(2)
      return { id: `${i}x${n}`.padStart(64, '0'), ipv4: `10.0.0.${n}`, mac: `02:42:0a:00:00:${n.toString(16).padStart(2, '0')}`, host }
    })
    const unique = [...new Map(extra.map((e) => [e.ipv4, e])).values()]
    const endpoints = [
      ...own,
      ...unique.map((e) => ({ ...e, ipv6: '', hostId: `h${e.host}`, vteps: lab.vteps(e.host) }) as (typeof own)[number]),
    ]
    lab.sandboxes[0]?.reconcile(lab.facts(0), endpoints)
    assert.deepEqual(lab.sandboxes[0]?.reconcile(lab.facts(0), endpoints), [], `seed ${random.seed}, round ${round}`)
    const neighbours = lines((await lab.inside(0, 'ip neigh show dev vxlan0 nud permanent')).out)
      .map((l) => l.trim())
      .sort()
    const remote = endpoints.filter((e) => e.hostId !== 'h0')
    assert.deepEqual(neighbours, remote.map((e) => `${e.ipv4} lladdr ${e.mac} PERMANENT`).sort(), `seed ${random.seed}, round ${round}`)
    const tunnels = lines((await lab.inside(0, 'bridge fdb show dev vxlan0 | grep dst | grep -v 00:00:00:00:00:00')).out)
    assert.deepEqual(
      tunnels
        .map((l) =>
          l
            .split(' ')
            .filter((w) => /[.:]/.test(w))
            .join(' '),
        )
        .sort(),
      remote.map((e) => `${e.mac} ${e.vteps[0]}`).sort(),
      `seed ${random.seed}, round ${round}`,
    )
    const entries = lab.sandboxes[0]?.kernelEntries(lab.networkId) ?? []
    assert.deepEqual(entries.map((e) => e.ip).sort(), endpoints.map((e) => e.ipv4).sort())
  }
  await lab.spread()
})

test('the last member takes the namespace along, its VXLAN id is free at once', async () => {
  await lab.remove(c2)
  assert.equal((await lab.inside(1, 'true')).code, 1)
  c2 = await lab.add(1, '10.0.0.3')
  assert.ok(await pings(c1, c2.ip))
})

test('an interface that a crash has left between record and kernel goes, those of live endpoints stay', async () => {
  const stray = `causeway:endpoint:${'f'.repeat(64)}`
  await lab.inside(0, `ip link add stray0 type veth peer name stray1; ip link set stray0 alias ${stray} master br0; ip link set stray0 up`)
  await lab.sandboxes[0]?.removeStrayPorts(lab.networkId, new Set(lab.endpoints.map(({ id }) => id)))
  await until('it is gone', async () => !(await lab.inside(0, 'ip -o link')).out.includes('stray'))
  assert.ok(await pings(c1, c2.ip))
})

test('the id of a network that is just leaving is had by the next one', async () => {
  const sandboxes = lab.sandboxes[2] as Members['sandboxes'][number]
  const [old, next] = ['a', 'b'].map((digit) => ({ ...lab.facts(2), networkId: digit.repeat(64) })) as [OverlayFacts, OverlayFacts]
  await sandboxes.ensure(old, [])
  assert.deepEqual(sandboxes.holdersOf(next), [old.networkId])
  assert.deepEqual(sandboxes.holdersOf(old), [], 'not itself')
  const leaving = sandboxes.drop(old.networkId)
  await sandboxes.ensure(next, [])
  assert.match(
    (await exec(['nsenter', `--net=${sandboxes.pathOf(next.networkId)}`, 'ip', '-d', 'link', 'show', 'vxlan0'])).out,
    /vxlan id 256 /,
  )
  await leaving
  await sandboxes.drop(next.networkId)
})

test('a VXLAN id that somebody else uses on this host is named', async () => {
  await net.hosts[2]?.sh('ip link add other type vxlan id 256 dstport 4789; ip link set other up')
  await assert.rejects(lab.add(2, '10.0.0.9'), /VXLAN id 256 on UDP port 4789 is in use on this host by another device/)
  await net.hosts[2]?.sh('ip link del other')
  lab.endpoints = lab.endpoints.filter((e) => e.ipv4 !== '10.0.0.9')
  await lab.spread()
})

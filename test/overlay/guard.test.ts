/** The guard of overlay networks: nobody takes another's place on the network, neither by MAC nor by address; routers may forward. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { parseCidr, parseIp } from '../../src/base/address.ts'
import { initNetns } from '../../src/sys/netns.ts'
import { buildLabNet, type LabNet } from '../../testkit/lab-net.ts'
import { until } from '../../testkit/until.ts'
import { type Member, Members, pings } from './members.ts'

const alive = setInterval(() => {}, 1000)
let net: LabNet
let lab: Members
let victim: Member
let thief: Member
let far: Member

before(async () => {
  await initNetns()
  net = buildLabNet({ hosts: 2 })
  const subnets = [
    { subnet: parseCidr('10.0.0.0/24'), gateway: parseIp('10.0.0.1') },
    { subnet: parseCidr('fd01::/64'), gateway: parseIp('fd01::1') },
  ]
  lab = new Members(net, { segments: [{ vni: 256, subnets }] })
  victim = await lab.add(0, '10.0.0.2', 'fd01::2')
  thief = await lab.add(0, '10.0.0.3', 'fd01::3')
  far = await lab.add(1, '10.0.0.4', 'fd01::4')
})
after(async () => {
  await lab.close()
  net.close()
  clearInterval(alive)
})

/** The first frame that arrives at `at` while `from` runs the commands one after the other: of all but the last nothing must come. */
async function first(at: Member, filter: string, from: Member, ...commands: string[]): Promise<string> {
  const capture = at.sh(`timeout 8 tcpdump -nn --immediate-mode -e -c 1 -i eth0 '${filter}'`)
  await until('tcpdump listens', async () => (await at.sh('wc -l </proc/net/packet')).out.trim() !== '1')
  for (const command of commands) assert.equal((await from.sh(command)).err, '')
  return (await capture).out
}

const python = (frame: string) =>
  `python3 -c 'import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0)); [s.send(bytes.fromhex("${frame}")) for _ in range(3)]'`
const EVERYONE = 'ffffffffffff'
const MAC = { victim: '02420a000002', thief: '02420a000003' }
const arp = (source: string, ip: string) => python(`${EVERYONE}${source}08060001080006040002${source}${ip}${EVERYONE}${ip}`)
/** From 10.0.0.3 to 10.0.0.4; UDP to port 9. */
const udp = (mac: string, ip: string) => python(`${EVERYONE}${mac}08004500001c000000004011${'0000'}${ip}0a000004${'00090009'}00080000`)

test('members talk, by both families', async () => {
  for (const [from, to] of [
    [thief, victim],
    [thief, far],
    [far, victim],
  ] as const) {
    assert.ok(await pings(from, to.ip))
    assert.ok(await pings(from, to.ip.replace('10.0.0.', 'fd01::')))
  }
})

test('frames under another’s MAC go nowhere, and the bridge does not follow them', async () => {
  const stolen = [MAC.victim, '02420a000004', '02420a000009'].map((mac) => udp(mac, '0a000003'))
  const got = await first(far, 'udp port 9', thief, ...stolen, udp(MAC.thief, '0a000003'))
  assert.match(got, /02:42:0a:00:00:03 > .* 10\.0\.0\.3\.9 > 10\.0\.0\.4\.9/)
  assert.ok(await pings(far, victim.ip))
  assert.ok(await pings(victim, far.ip))
})

test('packets and ARP under another’s address, or the gateway’s, go nowhere; a router’s packets pass', async () => {
  const others = ['0a000002', '0a000004', '0a000001', '0a000063']
  const packet = await first(far, 'udp port 9', thief, ...others.map((ip) => udp(MAC.thief, ip)), udp(MAC.thief, 'c0a80909'))
  assert.match(packet, /192\.168\.9\.9\.9 > 10\.0\.0\.4\.9/)
  const filter = 'arp and ether src 02:42:0a:00:00:03'
  const question = await first(victim, filter, thief, ...others.map((ip) => arp(MAC.thief, ip)), arp(MAC.thief, '0a000003'))
  assert.match(question, /10\.0\.0\.3/)
})

test('IPv6: another’s address, and a neighbour advertisement for it', async () => {
  const send = (source: string, target: string) =>
    `python3 -c 'import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58); s.setsockopt(41, socket.IPV6_MULTICAST_HOPS, 255); s.bind(("${source}", 0)); s.sendto(bytes([136,0,0,0,0x20,0,0,0]) + socket.inet_pton(socket.AF_INET6, "${target}") + bytes.fromhex("020102420a000003"), ("ff02::1", 0, 0, socket.if_nametoindex("eth0")))'`
  const stolen = [
    'ip -6 addr add fd01::4/64 dev eth0 nodad',
    send('fd01::4', 'fd01::3'),
    send('fd01::3', 'fd01::4'),
    send('fd01::3', 'fd01::1'),
  ]
  const got = await first(victim, 'icmp6 and ip6[40] == 136 and dst ff02::1', thief, ...stolen, send('fd01::3', 'fd01::3'))
  await thief.sh('ip -6 addr del fd01::4/64 dev eth0')
  assert.match(got, /fd01::3 > ff02::1: .*neighbor advertisement, tgt is fd01::3/)
})

test('IPv6 link-local: another’s address made from a MAC, an advertisement for it, a router’s words; the own one passes', async () => {
  /** ICMPv6 with a hop limit of 255 under any source, from the thief's own MAC to all nodes. */
  const send = (source: string, message: string, head = '') =>
    `python3 -c 'import socket, struct
s, d = socket.inet_pton(10, "${source}"), socket.inet_pton(10, "ff02::1")
m = ${message}
def total(b): return sum(struct.unpack("!%dH" % (len(b) // 2), b))
t = total(s + d + struct.pack("!II", len(m), 58) + m)
while t >> 16: t = (t & 0xffff) + (t >> 16)
m = m[:2] + struct.pack("!H", ~t & 0xffff) + m[4:]
k = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); k.bind(("eth0", 0))
f = bytes.fromhex("333300000001${MAC.thief}${head}86dd60000000") + struct.pack("!HBB", len(m), 58, 255) + s + d + m
for _ in range(3): k.send(f)'`
  const echo = 'bytes([128,0,0,0,0,1,0,1]) + bytes(8)'
  const advert = (target: string) => `bytes([136,0,0,0,0x20,0,0,0]) + socket.inet_pton(10, "${target}") + bytes.fromhex("0201${MAC.thief}")`
  const router = 'bytes([134,0,0,0,64,0,7,8]) + bytes(8)'
  const redirect = 'bytes([137,0,0,0,0,0,0,0]) + socket.inet_pton(10, "fd01::9") + socket.inet_pton(10, "fd01::3")'
  const own = 'fe80::42:aff:fe00:3'
  const gateway = /inet6 (fe80:\S+)\//.exec((await lab.inside(0, 'ip -6 addr show dev br0')).out)?.[1]
  assert.ok(gateway !== undefined)
  const others = ['fe80::42:aff:fe00:2', 'fe80::42:aff:fe00:4', gateway]
  const stolen = [
    ...others.map((source) => send(source, echo)),
    ...others.map((target) => send(own, advert(target))),
    send(own, router),
    send(own, redirect),
    send(own, router, '81000000'),
  ]
  const filter = 'icmp6 and ether src 02:42:0a:00:00:03 and dst ff02::1'
  assert.match(
    await first(victim, `(${filter}) or (vlan and ether src 02:42:0a:00:00:03)`, thief, ...stolen, send(own, advert(own))),
    /fe80::42:aff:fe00:3 > ff02::1: .*neighbor advertisement, tgt is fe80::42:aff:fe00:3/,
  )
  assert.match(await first(victim, filter, thief, send('fe80::abcd', echo)), /fe80::abcd > ff02::1: .*echo request/)
  assert.ok(await pings(thief, 'fe80::42:aff:fe00:2%eth0'))
  assert.ok(await pings(victim, 'fe80::42:aff:fe00:3%eth0'))
})

test('who comes later is known from its first packet on, who goes is forgotten', async () => {
  const late = await lab.add(0, '10.0.0.5', 'fd01::5')
  assert.ok(await pings(late, far.ip))
  assert.match((await lab.inside(0, 'nft list ruleset')).out, /"veth2" \. 10\.0\.0\.5/)
  await lab.remove(late)
  assert.doesNotMatch((await lab.inside(0, 'nft list ruleset')).out, /veth2/)
  assert.ok(await pings(thief, victim.ip))
})

/** A container cannot speak under a name that is not its own; and icc=false opens what links open. Judged by who receives what. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { parseIp, parseMac } from '../../src/base/address.ts'
import { endpointElements, linkElements } from '../../src/plan/firewall/elements.ts'
import { isolate } from '../../testkit/isolated.ts'
import { FirewallLab, HOST4, type LabContainer, sh } from './firewall-lab.ts'

isolate()

let lab: FirewallLab
let evil: LabContainer
let good: LabContainer
let victim: LabContainer
let free: LabContainer

before(async () => {
  lab = await FirewallLab.build()
  // br_netfilter would itself drop our frames for their wrong checksums
  sh('sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0 || true')
  lab.network('net0')
  evil = await lab.container('evil', 'net0')
  good = await lab.container('good', 'net0')
  victim = await lab.container('victim', 'net0')
  free = await lab.container('free', 'net0')
  for (const c of [evil, good])
    lab.nft.change({
      add: endpointElements({ hostIf: c.hostIf, bridge: 'net0', mac: parseMac(c.mac), ips: [parseIp(c.ip4), parseIp(c.ip6)], guard: true }),
      remove: [],
    })
})

after(() => lab.close())

/** Counts frames that carry this text and arrive at the victim while `send` runs. */
async function received(text: string, send: () => Promise<unknown>): Promise<number> {
  const sniff = `import socket,time
s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW,socket.htons(3)); s.bind(('eth0',0)); s.settimeout(0.1)
print('.',flush=True); n=0; end=time.time()+1.2
while time.time()<end:
    try:
        d,a=s.recvfrom(2000)
        n+=(a[2]!=4 and b'${text}' in d)
    except TimeoutError: pass
print(n)`
  const counting = lab.run('victim', `python3 -c "${sniff.replaceAll('"', '\\"')}"`)
  await new Promise((resolve) => setTimeout(resolve, 500))
  await send()
  return Number((await counting).split('\n')[1])
}

/** Sends a raw frame from a container: Ethernet source, type and payload as hex. */
function frame(from: LabContainer, source: string, type: string, payload: string): Promise<string> {
  const bytes = `ffffffffffff${source.replaceAll(':', '')}${type}${payload}`
  return lab.run(
    from.name,
    `python3 -c "import socket; s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW); s.bind(('eth0',0)); s.send(bytes.fromhex('${bytes}'))"`,
  )
}

const hexOf = (text: string): string => Buffer.from(text).toString('hex')
const ip4 = (address: string): string =>
  address
    .split('.')
    .map((n) => Number(n).toString(16).padStart(2, '0'))
    .join('')
const ip6 = (address: string): string => {
  const [head = '', tail = ''] = address.split('::')
  const h = head.split(':').filter(Boolean)
  const t = tail.split(':').filter(Boolean)
  return [...h, ...new Array<string>(8 - h.length - t.length).fill('0'), ...t].map((g) => g.padStart(4, '0')).join('')
}
const udp4 = (source: string, text: string): string =>
  `45000030000000004011000${'0'}${ip4(source)}${ip4(victim.ip4)}03e803e8001c0000${hexOf(text)}`
const udp6 = (source: string, text: string): string => `60000000001c1140${ip6(source)}${ip6(victim.ip6)}03e803e8001c0000${hexOf(text)}`
const arp = (op: 1 | 2, mac: string, sender: string, text: string): string =>
  `00010800060400${`0${op}`}${mac.replaceAll(':', '')}${ip4(sender)}000000000000${ip4(victim.ip4)}${hexOf(text)}`
const na = (target: string, source: string, text: string): string =>
  `6000000000283aff${ip6(source)}ff0200000000000000000000000000018800000020000000${ip6(target)}0201020304050607${hexOf(text)}`
const ra = (source: string, text: string): string =>
  `6000000000203aff${ip6(source)}ff02000000000000000000000000000186000000400007080000000000000000${hexOf(text)}`

test('guard: ordinary traffic of guarded containers passes in both families, out and in', async () => {
  for (const to of [good.ip4, good.ip6, victim.ip4, HOST4]) assert.ok(await lab.pings('evil', to), to)
  assert.equal(await lab.call('evil', good.ip4, 80), evil.ip4)
  assert.equal(await lab.call('evil', good.ip6, 80), evil.ip6)
  assert.equal(await lab.call('free', good.ip6, 81), free.ip6)
  for (const c of ['guard_mac', 'guard_ip', 'guard_arp', 'guard_nd', 'guard_tag']) assert.equal(lab.counter(c, 'bridge'), 0, c)
})

const OWN = () => evil.mac
const OTHER = '02:00:00:00:00:99'

const CASES: readonly [
  title: string,
  counter: string,
  spoof: () => [mac: string, type: string, payload: string],
  own: () => [string, string, string],
][] = [
  [
    'a MAC',
    'guard_mac',
    () => [OTHER, '0800', udp4(evil.ip4, 'hello-from-nobody1')],
    () => [OWN(), '0800', udp4(evil.ip4, 'hello-from-nobody1')],
  ],
  [
    'an IPv4 address',
    'guard_ip',
    () => [OWN(), '0800', udp4(good.ip4, 'hello-from-nobody2')],
    () => [OWN(), '0800', udp4(evil.ip4, 'hello-from-nobody2')],
  ],
  [
    'an IPv6 address',
    'guard_ip',
    () => [OWN(), '86dd', udp6(good.ip6, 'hello-from-nobody3')],
    () => [OWN(), '86dd', udp6(evil.ip6, 'hello-from-nobody3')],
  ],
  [
    'an ARP answer',
    'guard_arp',
    () => [OWN(), '0806', arp(2, evil.mac, good.ip4, 'arp-from-nobody--4')],
    () => [OWN(), '0806', arp(2, evil.mac, evil.ip4, 'arp-from-nobody--4')],
  ],
  [
    'an ARP hardware address',
    'guard_arp',
    () => [OWN(), '0806', arp(1, OTHER, evil.ip4, 'arp-from-nobody--5')],
    () => [OWN(), '0806', arp(1, evil.mac, evil.ip4, 'arp-from-nobody--5')],
  ],
  [
    'a neighbour advertisement',
    'guard_nd',
    () => [OWN(), '86dd', na(good.ip6, evil.ip6, 'na--from-nobody--6')],
    () => [OWN(), '86dd', na(evil.ip6, evil.ip6, 'na--from-nobody--6')],
  ],
]

for (const [title, counter, spoof, own] of CASES)
  test(`guard: a container cannot forge ${title}, and can send its own`, async () => {
    const text = Buffer.from(spoof()[2].slice(-36), 'hex').toString()
    const before = lab.counter(counter, 'bridge')
    assert.equal(await received(text, () => frame(evil, ...spoof())), 0)
    assert.equal(lab.counter(counter, 'bridge'), before + 1)
    assert.equal(await received(text, () => frame(evil, ...own())), 1)
    assert.equal(lab.counter(counter, 'bridge'), before + 1)
  })

test('guard: a forgery in a priority tag, which the receiver would strip, is dropped as well', async () => {
  const inner = `00000806${arp(2, evil.mac, good.ip4, 'tag-from-nobody--7')}`
  assert.equal(await received('tag-from-nobody--7', () => frame(evil, evil.mac, '8100', inner)), 0)
  assert.equal(lab.counter('guard_tag', 'bridge'), 1)
  assert.equal(await received('tag-from-nobody--7', () => frame(free, free.mac, '8100', inner)), 1)
})

test('guard: a guarded container cannot be the router of the others', async () => {
  assert.equal(await received('ra--from-nobody--8', () => frame(evil, evil.mac, '86dd', ra('fe80::1', 'ra--from-nobody--8'))), 0)
  assert.equal(await received('ra--from-nobody--8', () => frame(free, free.mac, '86dd', ra('fe80::1', 'ra--from-nobody--8'))), 1)
})

test('guard: a port that is not guarded is not looked at', async () => {
  assert.equal(await received('hello-from-nobody9', () => frame(free, OTHER, '0800', udp4(good.ip4, 'hello-from-nobody9'))), 1)
})

test('links: with icc=false only the linked port is open, in the direction of the link', async () => {
  lab.network('closed0', { icc: false })
  sh('sysctl -qw net.ipv4.conf.closed0.proxy_arp_pvlan=1 net.ipv4.conf.closed0.send_redirects=0')
  const a = await lab.container('a', 'closed0')
  const b = await lab.container('b', 'closed0')
  for (const c of [a, b]) sh(`bridge link set dev ${c.hostIf} isolated on`)
  assert.equal(await lab.call('a', b.ip4, 80), '')
  lab.nft.change({ add: linkElements({ bridge: 'closed0', from: parseIp(a.ip4), to: parseIp(b.ip4), proto: 'tcp', port: 80 }), remove: [] })
  assert.equal(await lab.call('a', b.ip4, 80), a.ip4)
  assert.equal(await lab.call('a', b.ip4, 81), '')
  assert.equal(await lab.call('b', a.ip4, 80), '')
  assert.ok(lab.counter('drop_icc') > 0)
})

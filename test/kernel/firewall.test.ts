/** What may reach what: modes, directions and families, judged by real traffic. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { parseIp } from '../../src/base/address.ts'
import { isolate } from '../../testkit/isolated.ts'
import { CLIENT4, CLIENT6, FirewallLab, HOST4, HOST6, type LabContainer, sh } from './firewall-lab.ts'

isolate()

let lab: FirewallLab
const c: Record<string, LabContainer> = {}

before(async () => {
  lab = await FirewallLab.build()
  lab.network('nat0', { trusted: ['tun0'] })
  lab.network('nat1')
  lab.network('open0', { mode4: 'nat-unprotected', mode6: 'nat-unprotected' })
  lab.network('routed0', { mode4: 'routed', mode6: 'routed' })
  lab.network('int0', { internal: true })
  lab.network('noicc0', { icc: false })
  await Promise.all([
    lab.serve('client', '80'),
    ...['nat0', 'nat1', 'open0', 'routed0', 'int0', 'noicc0'].map(async (n) => {
      c[n] = await lab.container(`c-${n}`, n)
    }),
  ])
  c['nat0b'] = await lab.container('c-nat0b', 'nat0')
  c['int0b'] = await lab.container('c-int0b', 'int0')
  lab.publish({ to: c['nat0'] as LabContainer, hostPort: 8080 })
  lab.publish({ to: c['open0'] as LabContainer, hostPort: 8082 })
  lab.publish({ to: c['noicc0'] as LabContainer, hostPort: 8084 })
  lab.publish({ to: c['nat0'] as LabContainer, hostPort: 8090, proto: 'udp' })
  lab.publish({ to: c['routed0'] as LabContainer, hostPort: 0, routed: true })
})

after(() => lab.close())

interface Case {
  readonly from: string
  readonly to: string
  readonly port: number | 'ping'
  /** Address that the server must see; `any` = some answer; `none` = no answer. */
  readonly sees: string
  readonly proto?: 'tcp' | 'udp'
}

async function check(cases: readonly Case[]): Promise<void> {
  const wrong: string[] = []
  const queue = [...cases]
  const worker = async (): Promise<void> => {
    for (let k = queue.shift(); k !== undefined; k = queue.shift()) {
      let got = ''
      // An answer that must come may be late on a loaded machine; one that must not come gets its full second once.
      for (let attempt = 0; attempt < (k.sees === 'none' ? 1 : 4) && got === ''; attempt++)
        got = k.port === 'ping' ? ((await lab.pings(k.from, k.to)) ? 'pong' : '') : await lab.call(k.from, k.to, k.port, k.proto)
      const ok = k.sees === 'none' ? got === '' : k.sees === 'any' ? got !== '' : got === k.sees
      if (!ok) wrong.push(`${k.from || 'host'} -> ${k.to} ${k.proto ?? 'tcp'} ${k.port}: got "${got}", expected ${k.sees}`)
    }
  }
  await Promise.all([worker(), worker(), worker(), worker()])
  assert.deepEqual(wrong, [])
}

const both = (container: LabContainer | undefined): string[] => [container?.ip4 as string, container?.ip6 as string]
const hosts = [HOST4, HOST6]
const clientOf = (address: string): string => (address.includes(':') ? CLIENT6 : CLIENT4)

test('firewall: from outside, a container by its own address is reached only as its mode says', () =>
  check([
    ...both(c['nat0']).flatMap((to): Case[] => [80, 81, 'ping' as const].map((port) => ({ from: 'client', to, port, sees: 'none' }))),
    ...both(c['open0']).flatMap((to): Case[] => [
      { from: 'client', to, port: 80, sees: clientOf(to) },
      { from: 'client', to, port: 81, sees: clientOf(to) },
      { from: 'client', to, port: 'ping', sees: 'any' },
    ]),
    ...both(c['routed0']).flatMap((to): Case[] => [
      { from: 'client', to, port: 80, sees: clientOf(to) },
      { from: 'client', to, port: 81, sees: 'none' },
      { from: 'client', to, port: 'ping', sees: 'any' },
    ]),
    ...both(c['int0']).flatMap((to): Case[] => [80, 'ping' as const].map((port) => ({ from: 'client', to, port, sees: 'none' }))),
  ]))

test('firewall: a published port is reached through the host and sees the address of the client', () =>
  check(
    hosts.flatMap((to): Case[] => [
      { from: 'client', to, port: 8080, sees: clientOf(to) },
      { from: 'client', to, port: 8082, sees: clientOf(to) },
      { from: 'client', to, port: 8084, sees: clientOf(to) },
      { from: 'client', to, port: 8090, proto: 'udp', sees: clientOf(to) },
      { from: 'client', to, port: 8099, sees: 'none' },
    ]),
  ))

test('firewall: a trusted interface reaches published container ports by address and no others', () =>
  check(
    both(c['nat0']).flatMap((to): Case[] => [
      { from: 'vpn', to, port: 80, sees: to.includes(':') ? '2001:db8:fe::2' : '198.51.100.2' },
      { from: 'vpn', to, port: 81, sees: 'none' },
    ]),
  ))

test('firewall: containers of different networks meet only through a published port of the host', () =>
  check([
    ...both(c['nat0']).flatMap((to): Case[] => [80, 'ping' as const].map((port) => ({ from: 'c-nat1', to, port, sees: 'none' }))),
    ...both(c['nat0']).map((to): Case => ({ from: 'c-int0', to, port: 80, sees: 'none' })),
    ...both(c['int0']).map((to): Case => ({ from: 'c-nat1', to, port: 80, sees: 'none' })),
    ...both(c['routed0']).map((to): Case => ({ from: 'c-nat1', to, port: 81, sees: 'none' })),
    ...hosts.map((to): Case => ({ from: 'c-nat1', to, port: 8080, sees: 'any' })),
    ...hosts.map((to): Case => ({ from: 'c-int0', to, port: 8080, sees: 'none' })),
  ]))

test('firewall: a network with a source address of its own leaves with that address', async () => {
  sh('ip addr add 203.0.113.77/32 dev lo; ip addr add 2001:db8:aa::77/128 dev lo')
  lab.network('snat0', { snat4: parseIp('203.0.113.77'), snat6: parseIp('2001:db8:aa::77') })
  await lab.container('c-snat0', 'snat0')
  await check([
    { from: 'c-snat0', to: CLIENT4, port: 80, sees: '203.0.113.77' },
    { from: 'c-snat0', to: CLIENT6, port: 80, sees: '2001:db8:aa::77' },
  ])
})

test('firewall: the segment size of forwarded connections is lowered to what the path carries', async () => {
  sh('ip link set out0 mtu 1300')
  const seen = lab.run('client', "timeout 10 tcpdump -nlc1 -i eth0 'tcp[tcpflags] & tcp-syn != 0 and dst port 80' 2>/dev/null")
  let isSeen = false
  void seen.finally(() => {
    isSeen = true
  })
  while (!isSeen) await lab.call('c-nat0', CLIENT4, 80) // the first ones may come before tcpdump listens
  sh('ip link set out0 mtu 1500')
  assert.match(await seen, /mss 1260,/)
})

/** br_netfilter lets bridged packets pass our hooks too; another engine on the host may have switched it on. */
const BRIDGE_NF = 'net.bridge.bridge-nf-call-iptables'
const bridgeNf = sh(`sysctl -n ${BRIDGE_NF} 2>/dev/null || true`).trim()

for (const state of bridgeNf === '' ? ['absent'] : ['0', '1'])
  test(`firewall: containers of one network reach each other, also through the host, and themselves (br_netfilter ${state})`, async () => {
    if (state !== 'absent') sh(`sysctl -qw ${BRIDGE_NF}=${state} net.bridge.bridge-nf-call-ip6tables=${state}`)
    await check([
      ...both(c['nat0']).map((to): Case => ({ from: 'c-nat0b', to, port: 81, sees: 'any' })),
      ...both(c['int0']).map((to): Case => ({ from: 'c-int0b', to, port: 81, sees: 'any' })),
      ...hosts.map((to): Case => ({ from: 'c-nat0b', to, port: 8080, sees: 'any' })),
      ...hosts.map((to): Case => ({ from: 'c-nat0', to, port: 8080, sees: 'any' })),
      ...hosts.map((to): Case => ({ from: 'c-noicc0', to, port: 8084, sees: 'any' })),
    ])
  })

test('firewall: outgoing calls carry the address of the host in nat modes, the own one in routed mode, and stay inside when internal', () =>
  check([
    { from: 'c-nat0', to: CLIENT4, port: 80, sees: HOST4 },
    { from: 'c-nat0', to: CLIENT6, port: 80, sees: HOST6 },
    { from: 'c-open0', to: CLIENT4, port: 80, sees: HOST4 },
    { from: 'c-routed0', to: CLIENT4, port: 80, sees: c['routed0']?.ip4 as string },
    { from: 'c-routed0', to: CLIENT6, port: 80, sees: c['routed0']?.ip6 as string },
    { from: 'c-int0', to: CLIENT4, port: 80, sees: 'none' },
    { from: 'c-int0', to: CLIENT6, port: 80, sees: 'none' },
  ]))

test('firewall: the host reaches every container and published ports by its loopback address', () =>
  check([
    ...both(c['nat0']).map((to): Case => ({ from: '', to, port: 81, sees: 'any' })),
    ...both(c['int0']).map((to): Case => ({ from: '', to, port: 81, sees: 'any' })),
    { from: '', to: '127.0.0.1', port: 8080, sees: 'any' },
    { from: '', to: HOST4, port: 8080, sees: HOST4 },
    { from: '', to: HOST6, port: 8080, sees: HOST6 },
  ]))

test('firewall: a call to [::1] is left to the socket on the host', async () => {
  await lab.serve('', '8080')
  assert.equal(await lab.call('', '::1', 8080), '::1')
})

test('firewall: every refusal is counted under its reason', async () => {
  const reasons = { drop_unpublished: 0, drop_isolation: 0, drop_internal: 0 }
  for (const name of Object.keys(reasons) as (keyof typeof reasons)[]) reasons[name] = lab.counter(name)
  await Promise.all([
    lab.call('client', c['nat0']?.ip4 as string, 81),
    lab.call('c-nat1', c['nat0']?.ip4 as string, 81),
    lab.call('c-int0', CLIENT4, 80),
  ])
  for (const name of Object.keys(reasons) as (keyof typeof reasons)[]) assert.ok(lab.counter(name) > reasons[name], name)
})

test('firewall: a port on 127.0.0.1 works on the host and not from outside, even with a crafted route and route_localnet', async () => {
  const to = c['nat0'] as LabContainer
  lab.publish({ to, hostPort: 8100, at: '127.0.0.1' })
  assert.notEqual(await lab.call('', '127.0.0.1', 8100), '')
  await check([{ from: 'client', to: HOST4, port: 8100, sees: 'none' }])
  sh('sysctl -qw net.ipv4.conf.out0.route_localnet=1')
  for (const [ns, gateway] of [
    ['client', HOST4],
    ['c-nat1', (c['nat1'] as LabContainer).ip4.replace(/\d+$/, '1')],
  ] as const)
    sh(`ip -n ${ns} route flush table local 127.0.0.0/8 || true
      ip -n ${ns} route del local 127.0.0.0/8 dev lo table local || true; ip -n ${ns} route del local 127.0.0.1 dev lo table local || true
      ip netns exec ${ns} sysctl -qw net.ipv4.conf.eth0.route_localnet=1
      ip -n ${ns} route add 127.0.0.1 via ${gateway}`)
  const before = lab.counter('drop_loopback')
  await check([
    { from: 'client', to: '127.0.0.1', port: 8100, sees: 'none' },
    { from: 'client', to: '127.0.0.1', port: 8080, sees: 'none' },
    { from: 'c-nat1', to: '127.0.0.1', port: 8100, sees: 'none' },
  ])
  assert.ok(lab.counter('drop_loopback') >= before + 3, 'the packets did arrive and were dropped')
})

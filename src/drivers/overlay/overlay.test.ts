import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseCidr, parseIp, parseMac } from '../../base/address.ts'
import { hasCode } from '../../base/errors.ts'
import type { Route } from '../../model/kernel-state.ts'
import { insideMtu, parseOverlayConfig, segmentCount, segmentsOf } from './config.ts'
import { isEmptyPlan, planOverlay } from './plan.ts'
import { planRouted, routedWanted } from './routed.ts'
import { type OverlayEndpoint, type OverlayFacts, overlayMac, overlayWanted } from './wanted.ts'

const MTU = 'com.docker.network.driver.mtu'
const VNIS = 'com.docker.network.driver.overlay.vxlanid_list'
const pool = (subnet: string, gateway?: string) => ({
  subnet: parseCidr(subnet),
  aux: {},
  ...(gateway === undefined ? {} : { gateway: parseIp(gateway) }),
})

test('options: mtu is the underlay’s, encrypted needs no value, ids are a list', () => {
  assert.deepEqual(parseOverlayConfig({}), { mode: 'vxlan', encrypted: false, underlayMtu: 0, vnis: [] })
  assert.deepEqual(parseOverlayConfig({ [MTU]: '1400', encrypted: '', [VNIS]: '300,301' }), {
    mode: 'vxlan',
    encrypted: true,
    underlayMtu: 1400,
    vnis: [300, 301],
  })
  for (const [options, text] of [
    [{ [VNIS]: '300,x' }, /^invalid vxlan id value "x" passed$/],
    [{ [VNIS]: '16777216' }, /^invalid vxlan id value "16777216" passed$/],
    [{ [VNIS]: '300,300' }, /each subnet needs an id of its own/],
    [{ [MTU]: '-1' }, /^invalid MTU value: -1$/],
    [{ [MTU]: 'big' }, /^failed to parse big: strconv.Atoi: parsing "big": invalid syntax$/],
    [{ [MTU]: '90' }, /^invalid MTU value: 90: .*expected 118 to 65535$/],
    [{ mode: 'gre' }, /^invalid overlay mode "gre": expected vxlan \(encapsulated\) or host-gw \(plain routes\)$/],
    [{ mode: 'host-gw', encrypted: '' }, /cannot be encrypted/],
  ] as const)
    assert.throws(
      () => parseOverlayConfig(options),
      (error: Error) => hasCode(error, 'invalid') && text.test(error.message),
    )
})

test('MTU: 50 bytes less over IPv4, 70 over IPv6, 37 more for ESP; nothing less in host-gw mode', () => {
  const of = (options: Record<string, string>, found: number, vtep: string) => insideMtu(parseOverlayConfig(options), found, parseIp(vtep))
  assert.equal(of({}, 1500, '10.0.0.1'), 1450)
  assert.equal(of({}, 9000, '10.0.0.1'), 8950)
  assert.equal(of({}, 0, '10.0.0.1'), 1450)
  assert.equal(of({ [MTU]: '1400' }, 9000, '10.0.0.1'), 1350)
  assert.equal(of({}, 1500, 'fd00::1'), 1430)
  assert.equal(of({ encrypted: '' }, 1500, '10.0.0.1'), 1413)
  assert.equal(of({ mode: 'host-gw' }, 1500, '10.0.0.1'), 1500)
})

test('segments: one for each IPv4 subnet, IPv6 subnets join in order', () => {
  const pools = [pool('10.1.0.0/24', '10.1.0.1'), pool('10.2.0.0/24', '10.2.0.1'), pool('fd01::/64', 'fd01::1'), pool('fd02::/64')]
  const segments = segmentsOf(pools, [256, 257])
  assert.equal(segmentCount(pools), 2)
  assert.deepEqual(
    segments.map(({ vni, subnets }) => [vni, ...subnets.map((s) => s.subnet)]),
    [
      [256, '10.1.0.0/24', 'fd01::/64'],
      [257, '10.2.0.0/24', 'fd02::/64'],
    ],
  )
  assert.deepEqual(
    segmentsOf([pool('fd01::/64')], [9]).map((s) => [s.vni, s.subnets.length]),
    [[9, 1]],
  )
})

const facts: OverlayFacts = {
  networkId: 'a'.repeat(64),
  segments: [{ vni: 256, subnets: [{ subnet: parseCidr('10.0.0.0/24'), gateway: parseIp('10.0.0.1') }] }],
  mtu: 1450,
  vtep: parseIp('192.0.2.1'),
  port: 4789,
  hostId: 'one',
}
const endpoint = (n: number, hostId: string, vtep: string): OverlayEndpoint => ({
  id: String(n),
  ipv4: parseIp(`10.0.0.${n}`),
  ipv6: '',
  mac: overlayMac(parseIp(`10.0.0.${n}`)),
  hostId,
  vteps: [parseIp(vtep)],
})

test('entries: three for each endpoint elsewhere, one for each host, none for endpoints of this host', () => {
  const want = overlayWanted(facts, [
    endpoint(2, 'one', '192.0.2.1'),
    endpoint(3, 'two', '192.0.2.2'),
    endpoint(4, 'two', '192.0.2.2'),
    endpoint(5, 'three', '192.0.2.3'),
  ])
  assert.deepEqual(
    want.neighbours.map((n) => `${n.ip} ${n.mac} ${n.dev}`),
    ['10.0.0.3 02:42:0a:00:00:03 vxlan0', '10.0.0.4 02:42:0a:00:00:04 vxlan0', '10.0.0.5 02:42:0a:00:00:05 vxlan0'],
  )
  assert.deepEqual(
    want.fdb.map((f) => `${f.mac} ${f.dst ?? 'bridge'}`),
    [
      '02:42:0a:00:00:03 192.0.2.2',
      '02:42:0a:00:00:03 bridge',
      '00:00:00:00:00:00 192.0.2.2',
      '02:42:0a:00:00:04 192.0.2.2',
      '02:42:0a:00:00:04 bridge',
      '02:42:0a:00:00:05 192.0.2.3',
      '02:42:0a:00:00:05 bridge',
      '00:00:00:00:00:00 192.0.2.3',
    ],
  )
})

test('entries: an address that is here stands in no table, whatever others claim', () => {
  const want = overlayWanted(facts, [endpoint(2, 'one', '192.0.2.1'), { ...endpoint(2, 'two', '192.0.2.2'), id: 'stale' }])
  assert.deepEqual([want.neighbours, want.fdb], [[], []])
})

test('entries: a host without a tunnel end of our family is named and left out', () => {
  const want = overlayWanted(facts, [endpoint(3, 'two', 'fd00::2')])
  assert.deepEqual(want.fdb, [])
  assert.match(want.problems.join(), /^endpoint 3 on host two has no IPv4 tunnel end \(fd00::2\), this host has 192\.0\.2\.1$/)
})

test('routed mode: a route for each block and for members outside of their host’s; a host behind a router is named', () => {
  const at = (hostId: string, vtep: string, ...numbers: number[]) => numbers.map((n) => endpoint(n, hostId, vtep))
  const members = [...at('one', '192.0.2.1', 2, 5), ...at('two', '192.0.2.2', 3, 17, 18), ...at('far', '198.51.100.9', 4)]
  const on = (hostId: string) => routedWanted({ ...facts, hostId, isRouted: true }, members, (ip) => ip.startsWith('192.0.2.'))
  const text = (routes: readonly Route[]) => routes.map((r) => `${r.dst} ${r.gateway ?? ''} ${r.dev ?? ''}`)
  const one = on('one')
  assert.deepEqual(text(one.host.routes), ['10.0.0.0/28 169.254.77.2 gw-aaaaaaaaaa', '10.0.0.16/28 192.0.2.2 ', '10.0.0.3/32 192.0.2.2 '])
  assert.deepEqual(text(one.inside.routes), ['10.0.0.16/28 169.254.77.1 up0', '10.0.0.3/32 169.254.77.1 up0'])
  assert.deepEqual(one.problems, ['host far (198.51.100.9) is behind a router: mode host-gw needs hosts on one link, use mode vxlan'])
  const two = on('two')
  assert.deepEqual(text(two.host.routes), [
    '10.0.0.0/28 192.0.2.1 ',
    '10.0.0.16/28 169.254.77.2 gw-aaaaaaaaaa',
    '10.0.0.3/32 169.254.77.2 gw-aaaaaaaaaa',
  ])
  assert.deepEqual(text(two.inside.routes), ['10.0.0.0/28 169.254.77.1 up0', '10.0.0.3/32  br0'])
  assert.deepEqual(planRouted(one.host, one.host), { steps: [], findings: [] })
  // what takes over comes first, longest prefixes before all
  const steps = planRouted(two.host, one.host).steps.map((step) =>
    step.op === 'route.delete' || step.op === 'route.replace' ? `${step.op} ${step.route.dst}` : step.op,
  )
  assert.deepEqual(steps, ['neigh.replace', 'route.replace 10.0.0.3/32', 'route.replace 10.0.0.0/28', 'route.replace 10.0.0.16/28'])
})

test('gateways have the same address on every host and MACs of their own, which stay', () => {
  const mac = (hostId: string) => overlayWanted({ ...facts, hostId }, []).bridges[0]?.spec.mac
  assert.equal(mac('one'), mac('one'))
  assert.notEqual(mac('one'), mac('two'))
  assert.match(mac('one') ?? '', /^06:/)
})

test('plan: stale neighbours of the gateway go, what containers themselves have stays', () => {
  const want = overlayWanted(facts, [endpoint(2, 'one', '192.0.2.1')])
  const links = [...want.bridges, ...want.tunnels].map(({ spec }, i) => ({
    index: i + 2,
    name: spec.name,
    kind: spec.kind,
    mac: spec.mac ?? parseMac('02:00:00:00:00:01'),
    mtu: 1450,
    up: true,
    running: true,
    loopback: false,
    master: spec.master === undefined ? 0 : 2,
    link: 0,
    group: 0,
    alias: spec.alias ?? '',
    txQueueLen: 0,
    ...(spec.kind === 'vxlan' ? { vxlan: spec.vxlan } : {}),
  }))
  const neighbour = (ip: string, mac: string, state = 'stale') => ({ dev: 'br0', ip: parseIp(ip), mac: parseMac(mac), state })
  const seen = [
    neighbour('10.0.0.2', '02:42:0a:00:00:02'),
    neighbour('fe80::42:aff:fe00:2', '02:42:0a:00:00:02'),
    neighbour('10.0.0.9', '02:42:0a:00:00:09'),
    neighbour('10.0.0.2', '02:42:0a:00:00:07'),
    neighbour('10.0.0.8', '02:42:0a:00:00:08', 'failed'),
  ]
  const plan = planOverlay(want, {
    links: () => links,
    link: (name) => links.find((l) => l.name === name),
    nameOf: (index) => links.find((l) => l.index === index)?.name,
    addressesOf: (name) => want.bridges.find((b) => b.spec.name === name)?.addresses ?? [],
    neighboursOf: (dev) => (dev === 'br0' ? seen : []),
    fdbOf: () => [],
  })
  assert.deepEqual(
    plan.after.map((step) => (step.op === 'neigh.delete' ? `${step.neigh.ip} ${step.neigh.mac}` : step.op)),
    ['10.0.0.9 02:42:0a:00:00:09', '10.0.0.2 02:42:0a:00:00:07'],
  )
  assert.equal(isEmptyPlan(plan), false)
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as captured from '../../testkit/captured-netlink.ts'
import { type Random, seeded } from '../../testkit/random.ts'
import { type Ip, type Mac, parseIp } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import { decodeAttrs, MessageWriter } from './netlink.ts'
import { type AddressMessage, decodeAddress, writeAddress } from './rtnetlink-addr.ts'
import { decodeLink, type LinkMessage, writeLink } from './rtnetlink-link.ts'
import type { LinkInfo } from './rtnetlink-link-info.ts'
import { decodeNeighbour, type NeighbourMessage, writeNeighbour } from './rtnetlink-neigh.ts'
import { decodeRoute, type RouteMessage, writeRoute } from './rtnetlink-route.ts'
import { decodeRule, type RuleMessage, writeRule } from './rtnetlink-rule.ts'

/** Decoder, encoder and bytes of the fixed header of one kind of object. */
interface Codec<T> {
  readonly name: string
  readonly header: number
  readonly decode: (payload: Uint8Array, keep?: boolean) => T
  readonly write: (w: MessageWriter, value: T) => void
}

const link: Codec<LinkMessage> = { name: 'link', header: 16, decode: decodeLink, write: writeLink }
const address: Codec<AddressMessage> = { name: 'address', header: 8, decode: decodeAddress, write: writeAddress }
const route: Codec<RouteMessage> = { name: 'route', header: 12, decode: decodeRoute, write: writeRoute }
const neighbour: Codec<NeighbourMessage> = { name: 'neighbour', header: 12, decode: decodeNeighbour, write: writeNeighbour }
const rule: Codec<RuleMessage> = { name: 'rule', header: 12, decode: decodeRule, write: writeRule }

function encode<T>(codec: Codec<T>, value: T): Uint8Array {
  const w = new MessageWriter(32)
  codec.write(w, value)
  return w.bytes().slice()
}

interface Captured {
  readonly what: string
  readonly header: number
  readonly bytes: Uint8Array
  /** Reads the payload, keeping what is not understood. */
  read(payload: Uint8Array): unknown
  /** Reads the payload and writes it again. */
  again(payload: Uint8Array): Uint8Array
}

const capture = <T>(what: string, codec: Codec<T>, bytes: Uint8Array): Captured => ({
  what,
  header: codec.header,
  bytes,
  read: (payload) => codec.decode(payload, true),
  again: (payload) => encode(codec, codec.decode(payload, true)),
})

const CAPTURED: readonly Captured[] = [
  capture('bridge', link, captured.BRIDGE_LINK),
  capture('bridge port', link, captured.BRIDGE_PORT_LINK),
  capture('vxlan', link, captured.VXLAN_LINK),
  capture('macvlan', link, captured.MACVLAN_LINK),
  capture('IPv4 address', address, captured.IPV4_ADDRESS),
  capture('IPv6 address', address, captured.IPV6_ADDRESS),
  capture('default route', route, captured.DEFAULT_ROUTE),
  capture('subnet route', route, captured.SUBNET_ROUTE),
  capture('multipath route', route, captured.MULTIPATH_ROUTE),
  capture('IPv4 route through an IPv6 gateway', route, captured.VIA_ROUTE),
  capture('neighbour', neighbour, captured.NEIGHBOUR),
  capture('proxy neighbour', neighbour, captured.PROXY_NEIGHBOUR),
  capture('forwarding entry', neighbour, captured.FDB_ENTRY),
  capture('rule', rule, captured.RULE),
]

test('captured attributes are written back byte for byte', () => {
  for (const { what, header, bytes } of CAPTURED) {
    const w = new MessageWriter()
    w.attrs(decodeAttrs(bytes.subarray(header)))
    assert.deepEqual(w.bytes().slice(), bytes.slice(header), what)
  }
})

test('captured objects keep all they hold through decode and encode, also what the codec does not know', () => {
  for (const { what, header, bytes, read, again } of CAPTURED) {
    const written = again(bytes)
    assert.deepEqual(read(written), read(bytes), what)
    assert.deepEqual(written.slice(0, header), bytes.slice(0, header), what)
    if (header === 16) continue // links write their nests in another order; the first equality covers them
    const sorted = (payload: Uint8Array) => decodeAttrs(payload.subarray(header)).sort((a, b) => a.type - b.type)
    const types = new Set(sorted(bytes).map((attr) => attr.type))
    const kept = sorted(written).filter((attr) => types.has(attr.type))
    assert.deepEqual(kept, sorted(bytes), what)
  }
})

test('nothing is lost of a link: every attribute is decoded or kept', () => {
  for (const bytes of [captured.BRIDGE_LINK, captured.BRIDGE_PORT_LINK, captured.VXLAN_LINK, captured.MACVLAN_LINK]) {
    const types = (payload: Uint8Array) => new Set(decodeAttrs(payload.subarray(16)).map((attr) => attr.type))
    assert.deepEqual(types(encode(link, decodeLink(bytes, true))), types(bytes))
  }
})

test('captured objects cut off at any byte are refused or read shorter, never looped over', () => {
  for (const { what, bytes, read } of CAPTURED)
    for (let length = 0; length < bytes.length; length++)
      try {
        read(bytes.slice(0, length))
      } catch (error) {
        assert.ok(error instanceof NetError, `${what} at ${length}: ${error}`)
      }
})

test('captured objects with one damaged byte are refused or read differently, never looped over', () => {
  const random = seeded(7)
  for (const { what, bytes, read } of CAPTURED)
    for (let i = 0; i < 400; i++) {
      const damaged = bytes.slice()
      damaged[random.below(damaged.length)] = random.below(256)
      try {
        read(damaged)
      } catch (error) {
        assert.ok(error instanceof NetError, `${what}, seed 7, round ${i}: ${error}`)
      }
    }
})

test('a bridge is read with its MAC, counters and timers', () => {
  const m = decodeLink(captured.BRIDGE_LINK)
  assert.equal(m.name, 'br0')
  assert.equal(m.index, 2)
  assert.equal(m.mac, '02:00:00:00:00:01')
  assert.equal(m.mtu, 1500)
  assert.equal((m.flags ?? 0) & 1, 1)
  assert.equal(m.info?.kind, 'bridge')
  assert.deepEqual(m.info?.bridge, { ageingTime: 30_000, stp: false, vlanFiltering: false, mcastSnooping: true })
  assert.ok(m.counters)
  assert.equal(m.unknown, undefined)
})

test('a bridge port is read with its master, group, alias and flags', () => {
  const m = decodeLink(captured.BRIDGE_PORT_LINK)
  assert.deepEqual([m.name, m.master, m.link, m.group, m.alias], ['veth1', 2, 3, 7, 'hello'])
  assert.equal(m.info?.kind, 'veth')
  assert.equal(m.info?.portKind, 'bridge')
  assert.deepEqual(m.info?.port, { hairpin: false, learning: true, unicastFlood: true, neighSuppress: false, isolated: true })
})

test('a vxlan is read with its switches', () => {
  const expected = { vni: 4097, port: 4789, local: '192.0.2.1', learning: false, proxy: true, l2miss: true, l3miss: true }
  assert.deepEqual(decodeLink(captured.VXLAN_LINK).info?.vxlan, expected)
  assert.deepEqual(decodeLink(captured.MACVLAN_LINK).info?.macvlan, { mode: 4 })
})

test('addresses, routes, neighbours and rules are read as the commands made them', () => {
  const a4 = decodeAddress(captured.IPV4_ADDRESS)
  assert.deepEqual([a4.local, a4.prefixLength, a4.broadcast, a4.label, a4.peer], ['10.0.0.1', 24, '10.0.0.255', 'br0', undefined])
  const a6 = decodeAddress(captured.IPV6_ADDRESS)
  assert.deepEqual([a6.local, a6.prefixLength, a6.flags & 0x82], ['fd00::1', 64, 0x82])
  const byDefault = decodeRoute(captured.DEFAULT_ROUTE)
  assert.deepEqual([byDefault.dstLength, byDefault.gateway, byDefault.oif, byDefault.table], [0, '10.0.0.9', 2, 254])
  assert.deepEqual(decodeRoute(captured.MULTIPATH_ROUTE).hops, [
    { flags: 16, weight: 3, oif: 2, gateway: '10.0.0.2' },
    { flags: 16, weight: 1, oif: 2, gateway: '10.0.0.3' },
  ])
  assert.equal(decodeRoute(captured.VIA_ROUTE).gateway, 'fd00::9')
  const n = decodeNeighbour(captured.NEIGHBOUR)
  assert.deepEqual([n.dst, n.mac, n.state, n.index], ['10.0.0.7', '02:00:00:00:00:07', 0x80, 2])
  assert.deepEqual([decodeNeighbour(captured.PROXY_NEIGHBOUR).flags, decodeNeighbour(captured.PROXY_NEIGHBOUR).dst], [8, 'fd00::5'])
  const fdb = decodeNeighbour(captured.FDB_ENTRY)
  assert.deepEqual([fdb.mac, fdb.dst, fdb.flags], ['02:00:00:00:00:08', '203.0.113.5', 2])
  const r = decodeRule(captured.RULE)
  assert.deepEqual([r.priority, r.src, r.srcLength, r.mark, r.mask, r.table], [100, '10.0.0.0', 24, 16, 255, 300])
})

test('the peer of a veth is written as a link message inside VETH_INFO_PEER', () => {
  const bytes = encode(link, { name: 'a', info: { kind: 'veth' }, peer: { name: 'b', mtu: 1400, netnsFd: 9 } })
  const info = decodeAttrs(decodeAttrs(bytes.subarray(16)).find((attr) => attr.type === 18)?.data ?? new Uint8Array())
  const data = decodeAttrs(info.find((attr) => attr.type === 2)?.data ?? new Uint8Array())
  const peer = data.find((attr) => attr.type === 1)
  assert.ok(peer)
  assert.deepEqual(decodeLink(peer.data), { family: 0, arphrd: 0, index: 0, flags: 0, change: 0, name: 'b', mtu: 1400, netnsFd: 9 })
})

function randomIp(random: Random, family: 4 | 6): Ip {
  const digits = Array.from({ length: family === 4 ? 4 : 8 }, () => random.below(family === 4 ? 256 : 65_536))
  return parseIp(family === 4 ? digits.join('.') : digits.map((n) => n.toString(16)).join(':'))
}

const randomMac = (random: Random): Mac => Array.from({ length: 6 }, () => random.below(256).toString(16).padStart(2, '0')).join(':') as Mac

/** A value with a random choice of its optional members. */
function some<T extends object>(random: Random, members: T): Partial<T> {
  return Object.fromEntries(Object.entries(members).filter(() => random.below(2) === 0)) as Partial<T>
}

test('random objects of every kind survive encode and decode', () => {
  const random = seeded(99)
  const same = <T>(codec: Codec<T>, value: T) => assert.deepEqual(codec.decode(encode(codec, value)), value, `${codec.name}, seed 99`)
  for (let i = 0; i < 500; i++) {
    const family = random.pick([4, 6] as const)
    const number = family === 4 ? 2 : 10
    const u32 = () => random.below(2 ** 32)
    const infos: LinkInfo[] = [
      { kind: 'bridge', bridge: { ageingTime: u32(), ...some(random, { vlanDefaultPvid: random.below(4096), vlanFiltering: true }) } },
      {
        kind: 'vxlan',
        vxlan: { vni: random.below(2 ** 24), ...some(random, { port: random.below(65_536), local: randomIp(random, family) }) },
      },
      { kind: 'macvlan', macvlan: { mode: random.below(9) } },
      { kind: 'ipvlan', ipvlan: { mode: random.below(3), ...some(random, { flags: random.below(3) }) } },
      { kind: 'vlan', vlan: { id: random.below(4096) } },
      { kind: 'veth', portKind: 'bridge', port: some(random, { isolated: true, hairpin: false, learning: false }) },
    ]
    same(link, {
      family: 0,
      arphrd: 1,
      index: random.below(2 ** 31),
      flags: u32(),
      change: u32(),
      ...some(random, {
        name: `eth${i}`,
        mac: randomMac(random),
        mtu: u32(),
        master: u32(),
        group: u32(),
        alias: 'ä'.repeat(random.below(20)),
        linkNetnsId: random.below(2) - 1,
        info: random.pick(infos),
      }),
    } as LinkMessage)
    same(address, {
      family: number,
      prefixLength: random.below(33),
      index: u32(),
      scope: random.below(256),
      flags: u32(),
      local: randomIp(random, family),
      ...some(random, { broadcast: randomIp(random, family), label: `eth${i}` }),
    })
    same(route, {
      family: number,
      dstLength: random.below(33),
      srcLength: 0,
      tos: 0,
      table: u32() || 1,
      protocol: random.below(256),
      scope: random.below(256),
      type: random.below(11),
      flags: u32(),
      ...some(random, {
        dst: randomIp(random, family),
        gateway: randomIp(random, random.pick([4, 6] as const)),
        oif: u32(),
        priority: u32(),
        hops: [
          { flags: 0, weight: 1 + random.below(256), oif: random.below(2 ** 31), gateway: randomIp(random, random.pick([4, 6] as const)) },
          { flags: 4, weight: 1, oif: random.below(2 ** 31) },
        ],
      }),
    })
    same(neighbour, {
      family: number,
      index: random.below(2 ** 31),
      state: random.below(65_536),
      flags: random.below(256),
      type: random.below(256),
      ...some(random, { dst: randomIp(random, family), mac: randomMac(random), vni: u32(), port: random.below(65_536) }),
    })
    same(rule, {
      family: number,
      dstLength: random.below(33),
      srcLength: random.below(33),
      tos: 0,
      table: u32() || 1,
      action: 1,
      flags: u32(),
      ...some(random, { src: randomIp(random, family), iif: 'eth0', priority: u32(), mark: u32(), mask: u32() }),
    })
  }
})

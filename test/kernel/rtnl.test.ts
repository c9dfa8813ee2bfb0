import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { after, afterEach, before, test } from 'node:test'
import { type Cidr, type Ip, type IpPrefix, type Mac, parseCidr, parseIp, parseIpPrefix, parseMac } from '../../src/base/address.ts'
import { hasCode, NetError } from '../../src/base/errors.ts'
import { openRtnl } from '../../src/kernel/rtnl.ts'
import type { Rtnl } from '../../src/kernel/types.ts'
import type { LinkSpec, Step } from '../../src/model/kernel-state.ts'
import { closeNetns, createNetns, initNetns, type Netns, openNetns, removeNetns } from '../../src/sys/netns.ts'

const ip = (text: string): Ip => parseIp(text)
const net = (text: string): Cidr => parseCidr(text)
const at = (text: string): IpPrefix => parseIpPrefix(text)
const mac = (text: string): Mac => parseMac(text)

// biome-ignore lint/suspicious/noExplicitAny: what the judge prints has no type
type Json = any

function json(command: string): Json {
  const run = spawnSync('sh', ['-c', command], { encoding: 'utf8' })
  assert.equal(run.status, 0, `${command}: ${run.stderr}`)
  return JSON.parse(run.stdout === '' ? '[]' : run.stdout).filter((row: object) => Object.keys(row).length > 0)
}
const judge = (name: string, ns = ''): Json => json(`${ns} ip -d -j link show dev ${name}`)[0]
const inside = (): string => `nsenter --net=${ns.path}`

let dir: string
let ns: Netns
let home: Rtnl
let there: Rtnl

before(async () => {
  await initNetns()
  dir = mkdtempSync('/tmp/causeway-rtnl-')
  createNetns(`${dir}/a`)
  ns = openNetns(`${dir}/a`)
  home = openRtnl()
  there = openRtnl(ns)
})

after(() => {
  home.close()
  there.close()
  closeNetns(ns)
  removeNetns(`${dir}/a`)
  rmSync(dir, { recursive: true })
})

afterEach(() => {
  for (const rtnl of [home, there])
    for (const link of rtnl.links())
      if (!link.loopback && rtnl.link(link.index) !== undefined) rtnl.apply([{ op: 'link.delete', dev: link.name }])
})

const add = (link: LinkSpec): Step => ({ op: 'link.add', link })
const bridge = (name: string): Step => add({ name, kind: 'bridge', up: true })

function failure(fn: () => void): NetError {
  try {
    fn()
  } catch (error) {
    assert.ok(error instanceof NetError, String(error))
    return error
  }
  return assert.fail('expected an error')
}

test('a bridge is created with MTU, MAC, alias, group and no fe80:: address', () => {
  const wanted = {
    mtu: 1450,
    mac: mac('02:42:00:00:00:01'),
    alias: 'causeway:bridge:1',
    group: 9,
    txQueueLen: 77,
    addrGenMode: 'none' as const,
  }
  home.apply([add({ name: 'br0', kind: 'bridge', up: true, ageingTimeSeconds: 20, ...wanted })])
  const seen = judge('br0')
  assert.equal(seen.mtu, 1450)
  assert.equal(seen.address, '02:42:00:00:00:01')
  assert.equal(seen.ifalias, 'causeway:bridge:1')
  assert.equal(seen.group, '9')
  assert.equal(seen.txqlen, 77)
  assert.equal(seen.inet6_addr_gen_mode, 'none')
  assert.equal(seen.linkinfo.info_data.ageing_time, 2000)
  assert.ok(seen.flags.includes('UP'))
  const { mtu, mac: address, alias, group, up, kind } = home.link('br0') ?? assert.fail()
  assert.deepEqual([mtu, address, alias, group, up, kind], [1450, '02:42:00:00:00:01', 'causeway:bridge:1', 9, true, 'bridge'])
})

test('a bridge keeps the MTU it was given when a port with another joins', () => {
  home.apply([
    add({ name: 'br0', kind: 'bridge', mtu: 1400, up: true }),
    add({ name: 'v0', kind: 'veth', master: 'br0', up: true, peer: { name: 'v1', up: true } }),
  ])
  assert.equal(judge('v0').mtu, 1500)
  assert.equal(judge('br0').mtu, 1400)
})

test('a veth is born with its peer in another namespace, enslaved, up, marked and isolated', () => {
  home.apply([
    bridge('br0'),
    add({
      name: 'veth0',
      kind: 'veth',
      master: 'br0',
      up: true,
      group: 7,
      alias: 'causeway:endpoint:1',
      port: { isolated: true, hairpin: true, unicastFlood: false },
      peer: { name: 'eth0', netnsFd: ns.fd, mtu: 1400, mac: mac('02:42:0a:00:00:02'), group: 3, txQueueLen: 0 },
    }),
  ])
  const host = judge('veth0')
  assert.deepEqual([host.master, host.group, host.ifalias], ['br0', '7', 'causeway:endpoint:1'])
  assert.ok(host.flags.includes('UP'))
  const port = host.linkinfo.info_slave_data
  assert.deepEqual([port.isolated, port.hairpin, port.flood, port.learning], [true, true, false, true])
  const guest = judge('eth0', inside())
  assert.deepEqual([guest.mtu, guest.address, guest.group], [1400, '02:42:0a:00:00:02', '3'])
  const seen = home.link('veth0') ?? assert.fail()
  assert.deepEqual(seen.port, { isolated: true, hairpin: true, learning: true, neighSuppress: false, unicastFlood: false })
  assert.equal(typeof seen.linkNetnsId, 'number')
  assert.equal(seen.master, home.link('br0')?.index)
})

test('what a peer cannot be born with is set afterwards, in its own namespace', () => {
  home.apply([
    add({ name: 'veth0', kind: 'veth', up: true, peer: { name: 'eth0', netnsFd: ns.fd, up: true, alias: 'inside', addrGenMode: 'none' } }),
    add({ name: 'veth1', kind: 'veth', up: true, peer: { name: 'veth2', up: true, alias: 'here' } }),
  ])
  const guest = judge('eth0', inside())
  assert.ok(guest.flags.includes('UP'))
  assert.deepEqual([guest.ifalias, guest.inet6_addr_gen_mode], ['inside', 'none'])
  assert.deepEqual(there.addresses({ dev: 'eth0' }), [])
  assert.equal(judge('veth2').ifalias, 'here')
  assert.ok(judge('veth2').flags.includes('UP'))
})

test('a link with an MTU too small for IPv6 is made like any other', () => {
  home.apply([
    add({
      name: 'veth0',
      kind: 'veth',
      mtu: 1250,
      up: true,
      addrGenMode: 'none',
      peer: { name: 'eth0', mtu: 1250, up: true, addrGenMode: 'none' },
    }),
  ])
  assert.deepEqual([judge('veth0').mtu, judge('eth0').mtu], [1250, 1250])
  assert.ok(judge('veth0').flags.includes('UP') && judge('eth0').flags.includes('UP'))
})

test('a link itself can be born in another namespace', () => {
  home.apply([add({ name: 'far0', kind: 'bridge', netnsFd: ns.fd, alias: 'far', up: true })])
  assert.equal(home.link('far0'), undefined)
  const far = judge('far0', inside())
  assert.equal(far.ifalias, 'far')
  assert.ok(far.flags.includes('UP'))
})

test('an attachment built from both sides carries traffic', () => {
  home.apply([
    bridge('br0'),
    { op: 'addr.add', addr: { dev: 'br0', address: at('10.7.0.1/24') } },
    add({ name: 'veth0', kind: 'veth', master: 'br0', up: true, peer: { name: 'eth0', netnsFd: ns.fd } }),
  ])
  there.apply([
    { op: 'link.set', dev: 'lo', set: { up: true } },
    { op: 'link.set', dev: 'eth0', set: { up: true } },
    { op: 'addr.add', addr: { dev: 'eth0', address: at('10.7.0.2/24') } },
    { op: 'route.add', route: { family: 4, dst: 'default', gateway: ip('10.7.0.1') } },
  ])
  assert.equal(spawnSync('ping', ['-c1', '-W2', '10.7.0.2']).status, 0)
  assert.ok((home.link('veth0')?.stats?.rxPackets ?? 0) > 0)
  const learned = home.fdb('veth0').find((entry) => entry.mac === there.link('eth0')?.mac)
  assert.equal(learned?.permanent, false)
  const route = there.routeTo('192.0.2.1')
  assert.deepEqual([route.gateway, route.dev, route.src, route.table], ['10.7.0.1', 'eth0', '10.7.0.2', 254])
})

test('steps stop at the first that fails: none behind it is run', () => {
  const error = failure(() => home.apply([bridge('br0'), bridge('br0'), bridge('br1'), { op: 'link.set', dev: 'br0', set: { up: false } }]))
  assert.equal(error.message, 'Cannot add link "br0": EEXIST')
  assert.equal(error.code, 'conflict')
  assert.deepEqual([error.detail.op, error.detail.subject, error.detail.errno], ['add link', 'br0', 'EEXIST'])
  assert.deepEqual(
    json('ip -j link show type bridge').map((l: Json) => l.ifname),
    ['br0'],
  )
  assert.ok(judge('br0').flags.includes('UP'))
})

test('the sentence of the kernel is part of the error', () => {
  home.apply([bridge('br0'), { op: 'addr.add', addr: { dev: 'br0', address: at('10.0.0.1/24') } }])
  const again = failure(() => home.apply([{ op: 'addr.add', addr: { dev: 'br0', address: at('10.0.0.1/24') } }]))
  assert.equal(again.message, 'Cannot add address "10.0.0.1/24 on br0": EEXIST, kernel says "ipv4: Address already assigned"')
  const small = failure(() => home.apply([{ op: 'link.set', dev: 'br0', set: { mtu: 10 } }]))
  assert.equal(small.message, 'Cannot change link "br0": EINVAL, kernel says "mtu less than device minimum"')
  assert.equal(small.code, 'invalid')
})

test('a link that cannot be completed is taken away again', () => {
  const spec: LinkSpec = { name: 'veth0', kind: 'veth', alias: 'x'.repeat(300), peer: { name: 'veth1' } }
  assert.equal(failure(() => home.apply([add(spec)])).detail.subject, 'veth0')
  assert.equal(home.link('veth0'), undefined)
  assert.equal(home.link('veth1'), undefined)
})

test('a name that is not there is told with the step that used it', () => {
  const error = failure(() => home.apply([add({ name: 'v0', kind: 'veth', master: 'nobr', peer: { name: 'v1' } })]))
  assert.equal(error.message, 'Cannot add link "v0": there is no link "nobr"')
  assert.equal(error.code, 'not-found')
  assert.equal(error.detail.errno, 'ENODEV')
  assert.equal(home.link('v0'), undefined)
  assert.throws(() => home.addresses({ dev: 'nobr' }), /there is no such link/)
})

test('names follow what earlier steps of the same call did to them', () => {
  home.apply([
    bridge('br0'),
    bridge('br1'),
    { op: 'link.rename', dev: 'br0', name: 'old' },
    { op: 'link.rename', dev: 'br1', name: 'br0' },
    { op: 'addr.add', addr: { dev: 'br0', address: at('10.1.0.1/24') } },
    { op: 'link.delete', dev: 'br0' },
    bridge('br0'),
    { op: 'addr.add', addr: { dev: 'br0', address: at('10.2.0.1/24') } },
  ])
  const seen = json('ip -j -4 addr show').map((l: Json) => [l.ifname, ...l.addr_info.map((a: Json) => a.local)])
  assert.deepEqual(
    seen.filter(([name]: string[]) => name !== 'lo'),
    [['br0', '10.2.0.1']],
  )
})

test('a link is moved to another namespace, with a new name', () => {
  home.apply([add({ name: 'a0', kind: 'veth', peer: { name: 'b0' } }), { op: 'link.move', dev: 'b0', netnsFd: ns.fd, name: 'moved0' }])
  assert.equal(home.link('b0'), undefined)
  assert.equal(judge('moved0', inside()).ifname, 'moved0')
})

test('settings of a link change one by one and all at once', () => {
  home.apply([bridge('br0'), bridge('br1'), add({ name: 'v0', kind: 'veth', peer: { name: 'v1' } })])
  home.apply([
    {
      op: 'link.set',
      dev: 'v0',
      set: { master: 'br0', port: { isolated: true }, up: true, alias: 'all', mtu: 1300, group: 4, mac: mac('02:00:00:00:00:09') },
    },
  ])
  let seen = judge('v0')
  assert.deepEqual([seen.master, seen.ifalias, seen.mtu, seen.group, seen.address], ['br0', 'all', 1300, '4', '02:00:00:00:00:09'])
  assert.equal(seen.linkinfo.info_slave_data.isolated, true)
  home.apply([{ op: 'link.set', dev: 'v0', set: { port: { isolated: false, neighSuppress: true } } }])
  assert.deepEqual([judge('v0').linkinfo.info_slave_data.isolated, judge('v0').linkinfo.info_slave_data.neigh_suppress], [false, true])
  home.apply([
    { op: 'link.set', dev: 'v0', set: { master: 'br1' } },
    { op: 'link.set', dev: 'v0', set: { up: false } },
  ])
  seen = judge('v0')
  assert.equal(seen.master, 'br1')
  assert.ok(!seen.flags.includes('UP'))
  home.apply([
    { op: 'link.set', dev: 'v0', set: { master: '', alias: '' } },
    { op: 'link.set', dev: 'v0', set: {} },
  ])
  assert.equal(judge('v0').master, undefined)
  assert.equal(home.link('v0')?.master, 0)
  assert.equal(home.link('v0')?.alias, '')
})

test('a vxlan is created and read back with all its switches, over both families', () => {
  const common = { vni: 4097, port: 4789, learning: false, proxy: true, l2miss: true, l3miss: true }
  home.apply([
    add({ name: 'vx4', kind: 'vxlan', vxlan: { ...common, local: ip('192.0.2.1') }, mtu: 1450 }),
    add({ name: 'vx6', kind: 'vxlan', vxlan: { ...common, vni: 4098, port: 4790, local: ip('2001:db8::1') } }),
    add({
      name: 'vxa',
      kind: 'vxlan',
      vxlan: { vni: 4099, port: 4791, learning: true, proxy: false, l2miss: false, l3miss: false },
      group6: true,
    }),
  ])
  const data = judge('vx4').linkinfo.info_data
  assert.deepEqual(
    [data.id, data.port, data.local, data.learning, data.proxy, data.l2miss, data.l3miss],
    [4097, 4789, '192.0.2.1', false, true, true, true],
  )
  assert.deepEqual(home.link('vx4')?.vxlan, { ...common, local: '192.0.2.1' })
  assert.equal(judge('vx6').linkinfo.info_data.local6, '2001:db8::1')
  assert.equal(home.link('vx6')?.vxlan?.local, '2001:db8::1')
  assert.deepEqual(
    home.links('vxlan').map((l) => l.name),
    ['vx4', 'vx6', 'vxa'],
  )
})

test('a vxlan that is born in a namespace keeps its tunnel in the one it was made from', () => {
  const vxlan = { vni: 5000, port: 4789, learning: false, proxy: false, l2miss: false, l3miss: false, local: ip('127.0.0.1') }
  home.apply([add({ name: 'vx0', kind: 'vxlan', vxlan, netnsFd: ns.fd, up: true })])
  assert.equal(judge('vx0', inside()).linkinfo.info_data.id, 5000)
  const listens = (prefix: string) => spawnSync('sh', ['-c', `${prefix} cat /proc/net/udp`], { encoding: 'utf8' }).stdout.includes(':12B5')
  assert.deepEqual([listens(''), listens(inside())], [true, false])
  assert.equal(failure(() => home.apply([add({ name: 'vx1', kind: 'vxlan', vxlan, netnsFd: ns.fd, up: true })])).detail.errno, 'EEXIST')
  there.apply([add({ name: 'vx1', kind: 'vxlan', vxlan, up: true })])
})

test('macvlan modes are set and read back', () => {
  home.apply([bridge('br0')])
  for (const mode of ['bridge', 'vepa', 'private'] as const) home.apply([add({ name: `mv-${mode}`, kind: 'macvlan', parent: 'br0', mode })])
  for (const mode of ['bridge', 'vepa', 'private']) {
    assert.equal(judge(`mv-${mode}`).linkinfo.info_data.mode, mode)
    assert.equal(home.link(`mv-${mode}`)?.macvlanMode, mode)
    assert.equal(home.link(`mv-${mode}`)?.link, home.link('br0')?.index)
  }
})

test('kinds that this kernel lacks are told as unavailable, with its words; kinds it has work', (t) => {
  home.apply([bridge('br0')])
  const specs: LinkSpec[] = [
    { name: 'x0', kind: 'dummy' },
    { name: 'x1', kind: 'vlan', parent: 'br0', vlanId: 50 },
    { name: 'x2', kind: 'ipvlan', parent: 'br0', mode: 'l3', flag: 'private' },
  ]
  for (const spec of specs) {
    try {
      home.apply([add(spec)])
      const data = judge(spec.name).linkinfo.info_data
      if (spec.kind === 'vlan') assert.deepEqual([data.id, home.link('x1')?.vlanId], [50, 50])
      if (spec.kind === 'ipvlan') assert.equal(data.mode, 'l3')
    } catch (error) {
      if (!hasCode(error, 'unavailable')) throw error
      t.diagnostic(`no ${spec.kind} in this kernel`)
      assert.match((error as Error).message, /kernel says "Unknown device type": this kernel has no \S+ links \(module \S+\)$/)
    }
  }
})

test('addresses are added once, replaced any number of times, and read back with scope and flags', () => {
  home.apply([bridge('br0')])
  const four = { dev: 'br0', address: at('10.3.0.1/24'), broadcast: ip('10.3.0.255') }
  const six = { dev: 'br0', address: at('fd00:3::1/64'), noDad: true }
  home.apply([
    { op: 'addr.add', addr: four },
    { op: 'addr.add', addr: six },
    { op: 'addr.add', addr: { dev: 'br0', address: at('169.254.3.1/16'), scope: 'link' } },
  ])
  const seen = json('ip -j addr show dev br0')[0].addr_info
  const find = (local: string): Json => seen.find((a: Json) => a.local === local)
  assert.deepEqual([find('10.3.0.1').prefixlen, find('10.3.0.1').broadcast, find('10.3.0.1').scope], [24, '10.3.0.255', 'global'])
  assert.equal(find('fd00:3::1').nodad, true)
  assert.equal(find('169.254.3.1').scope, 'link')
  for (const addr of [four, six]) {
    assert.equal(failure(() => home.apply([{ op: 'addr.add', addr }])).detail.errno, 'EEXIST')
    home.apply([
      { op: 'addr.replace', addr },
      { op: 'addr.replace', addr },
    ])
  }
  const read = home.addresses({ dev: 'br0', family: 4 }).map((a) => [a.address, a.scope, a.broadcast, a.permanent])
  assert.deepEqual(read.sort(), [
    ['10.3.0.1/24', 'global', '10.3.0.255', true],
    ['169.254.3.1/16', 'link', undefined, true],
  ])
  assert.equal(home.addresses({ family: 6 }).find((a) => a.address === 'fd00:3::1/64')?.noDad, true)
  home.apply([
    { op: 'addr.delete', addr: four },
    { op: 'addr.delete', addr: six },
  ])
  for (const addr of [four, six]) assert.equal(failure(() => home.apply([{ op: 'addr.delete', addr }])).code, 'not-found')
})

test('routes of both families are added, replaced, deleted and read back', () => {
  home.apply([
    bridge('br0'),
    { op: 'addr.add', addr: { dev: 'br0', address: at('10.4.0.1/24') } },
    { op: 'addr.add', addr: { dev: 'br0', address: at('fd00:4::1/64'), noDad: true } },
  ])
  home.apply([
    { op: 'route.add', route: { family: 4, dst: 'default', gateway: ip('10.4.0.9'), metric: 50 } },
    { op: 'route.add', route: { family: 6, dst: 'default', gateway: ip('fd00:4::9'), dev: 'br0' } },
    { op: 'route.add', route: { family: 4, dst: net('192.0.2.0/24'), dev: 'br0', src: ip('10.4.0.1'), protocol: 'static' } },
    { op: 'route.add', route: { family: 4, dst: net('198.51.100.0/24'), type: 'blackhole', table: 1000 } },
    { op: 'route.add', route: { family: 6, dst: net('2001:db8::/32'), type: 'unreachable' } },
    { op: 'route.add', route: { family: 4, dst: net('203.0.113.0/24'), gateway: ip('172.31.0.1'), dev: 'br0', onlink: true } },
    { op: 'route.add', route: { family: 4, dst: net('203.0.114.0/24'), gateway: ip('fd00:4::9'), dev: 'br0' } },
  ])
  const seen = json('ip -j -d -4 route show')
  const to = (dst: string): Json => seen.find((r: Json) => r.dst === dst)
  assert.deepEqual(
    [to('default').gateway, to('default').metric, to('default').protocol, to('default').dev],
    ['10.4.0.9', 50, 'boot', 'br0'],
  )
  assert.deepEqual([to('192.0.2.0/24').prefsrc, to('192.0.2.0/24').scope, to('192.0.2.0/24').protocol], ['10.4.0.1', 'link', 'static'])
  assert.deepEqual(to('203.0.113.0/24').flags, ['onlink'])
  assert.deepEqual(to('203.0.114.0/24').via, { family: 'inet6', host: 'fd00:4::9' })
  assert.equal(json('ip -j -d -4 route show table 1000')[0].type, 'blackhole')
  assert.equal(json('ip -j -6 route show default')[0].gateway, 'fd00:4::9')

  const read = home
    .routes({ family: 4, dev: 'br0' })
    .map((r) => `${r.dst} ${r.gateway ?? '-'} ${r.dev} ${r.metric ?? '-'} ${r.onlink ?? '-'}`)
  assert.deepEqual(read.sort(), [
    '10.4.0.0/24 - br0 - -',
    '192.0.2.0/24 - br0 - -',
    '203.0.113.0/24 172.31.0.1 br0 - true',
    '203.0.114.0/24 fd00:4::9 br0 - -',
    'default 10.4.0.9 br0 50 -',
  ])
  assert.deepEqual(
    home.routes({ family: 4, table: 1000 }).map((r) => [r.dst, r.type, r.table]),
    [['198.51.100.0/24', 'blackhole', 1000]],
  )
  assert.deepEqual(home.routes({ table: 4242 }), [])
  assert.ok(home.routes({ table: 'all' }).some((r) => r.table === 255))
  assert.ok(home.routes().every((r) => r.table === 254))

  assert.equal(
    failure(() => home.apply([{ op: 'route.add', route: { family: 4, dst: 'default', gateway: ip('10.4.0.9'), metric: 50 } }])).detail
      .errno,
    'EEXIST',
  )
  home.apply([{ op: 'route.replace', route: { family: 4, dst: 'default', gateway: ip('10.4.0.8'), metric: 50 } }])
  assert.deepEqual(
    json('ip -j -4 route show default').map((r: Json) => r.gateway),
    ['10.4.0.8'],
  )
  home.apply([
    { op: 'route.delete', route: { family: 4, dst: 'default' } },
    { op: 'route.delete', route: { family: 6, dst: 'default' } },
    { op: 'route.delete', route: { family: 4, dst: net('198.51.100.0/24'), table: 1000 } },
    { op: 'route.delete', route: { family: 6, dst: net('2001:db8::/32') } },
  ])
  assert.deepEqual(json('ip -j -4 route show default'), [])
  const missing = failure(() => home.apply([{ op: 'route.delete', route: { family: 4, dst: 'default', gateway: ip('10.4.0.8') } }]))
  assert.equal(missing.code, 'not-found')
  assert.equal(missing.message, 'Cannot delete route "default via 10.4.0.8": ESRCH')
})

test('a multipath route is read by its first way out', () => {
  home.apply([bridge('br0'), { op: 'addr.add', addr: { dev: 'br0', address: at('10.4.0.1/24') } }])
  assert.equal(spawnSync('ip', 'route add 192.0.2.0/24 nexthop via 10.4.0.2 nexthop via 10.4.0.3'.split(' ')).status, 0)
  const route = home.routes({ dev: 'br0' }).find((r) => r.dst === '192.0.2.0/24')
  assert.deepEqual([route?.gateway, route?.dev], ['10.4.0.2', 'br0'])
})

test('a destination without a way out throws what the kernel answers', () => {
  const error = failure(() => home.routeTo('192.0.2.77'))
  assert.equal(error.detail.errno, 'ENETUNREACH')
  assert.match(error.message, /^Cannot look up route "192.0.2.77": ENETUNREACH/)
})

test('neighbours and proxy neighbours are replaced, listed and deleted', () => {
  home.apply([bridge('br0'), { op: 'addr.add', addr: { dev: 'br0', address: at('10.5.0.1/24') } }])
  const fixed = { dev: 'br0', ip: ip('10.5.0.2'), mac: mac('02:00:00:00:00:05'), state: 'permanent' }
  const proxy = { dev: 'br0', ip: ip('fd00:5::2'), state: 'none', proxy: true }
  home.apply([
    { op: 'neigh.replace', neigh: { ...fixed, mac: mac('02:00:00:00:00:04') } },
    { op: 'neigh.replace', neigh: fixed },
    { op: 'neigh.replace', neigh: proxy },
  ])
  const seen = json('ip -j neigh show dev br0 nud permanent')
  assert.deepEqual(
    seen.map((n: Json) => [n.dst, n.lladdr, n.state]),
    [['10.5.0.2', '02:00:00:00:00:05', ['PERMANENT']]],
  )
  assert.match(spawnSync('ip', ['-6', 'neigh', 'show', 'proxy'], { encoding: 'utf8' }).stdout, /^fd00:5::2 dev br0 +proxy *$/m)
  assert.deepEqual(
    home.neighbours({ family: 4, dev: 'br0' }).filter((n) => n.state === 'permanent'),
    [fixed],
  )
  assert.deepEqual(
    home.neighbours({ family: 6 }).filter((n) => n.proxy),
    [proxy],
  )
  home.apply([
    { op: 'neigh.delete', neigh: fixed },
    { op: 'neigh.delete', neigh: proxy },
  ])
  for (const neigh of [fixed, proxy]) assert.equal(failure(() => home.apply([{ op: 'neigh.delete', neigh }])).code, 'not-found')
})

test('forwarding entries: several tunnel ends by append, one by replace, port entries in the table of the bridge', () => {
  const vxlan = { vni: 1, port: 4789, learning: false, proxy: false, l2miss: false, l3miss: false, local: ip('192.0.2.1') }
  home.apply([
    bridge('br0'),
    add({ name: 'vx0', kind: 'vxlan', vxlan, up: true }),
    add({ name: 'v0', kind: 'veth', master: 'br0', peer: { name: 'v1' } }),
  ])
  const everyone = mac('00:00:00:00:00:00')
  const one = mac('02:00:00:00:00:01')
  home.apply([
    { op: 'fdb.append', fdb: { dev: 'vx0', mac: everyone, dst: ip('192.0.2.2') } },
    { op: 'fdb.append', fdb: { dev: 'vx0', mac: everyone, dst: ip('192.0.2.3') } },
    { op: 'fdb.append', fdb: { dev: 'vx0', mac: everyone, dst: ip('192.0.2.3') } },
    { op: 'fdb.replace', fdb: { dev: 'vx0', mac: one, dst: ip('192.0.2.2') } },
    { op: 'fdb.replace', fdb: { dev: 'vx0', mac: one, dst: ip('192.0.2.3') } },
    { op: 'fdb.replace', fdb: { dev: 'v0', mac: one } },
  ])
  const tunnel = json('bridge -j fdb show dev vx0').map((f: Json) => `${f.mac} ${f.dst} ${f.state} ${f.flags}`)
  assert.deepEqual(tunnel.sort(), [
    '00:00:00:00:00:00 192.0.2.2 permanent self',
    '00:00:00:00:00:00 192.0.2.3 permanent self',
    '02:00:00:00:00:01 192.0.2.3 permanent self',
  ])
  assert.equal(json('bridge -j fdb show dev v0').find((f: Json) => f.mac === one).state, 'static')
  assert.deepEqual(
    home
      .fdb('vx0')
      .map((f) => `${f.mac} ${f.dst} ${f.self} ${f.permanent} ${f.dev}`)
      .sort(),
    ['00:00:00:00:00:00 192.0.2.2 true true vx0', '00:00:00:00:00:00 192.0.2.3 true true vx0', '02:00:00:00:00:01 192.0.2.3 true true vx0'],
  )
  const gone = { dev: 'vx0', mac: everyone, dst: ip('192.0.2.2') }
  home.apply([{ op: 'fdb.delete', fdb: gone }])
  assert.deepEqual(
    home
      .fdb('vx0')
      .filter((f) => f.mac === everyone)
      .map((f) => f.dst),
    ['192.0.2.3'],
  )
  // A second end that is not there while others are is fine for the kernel; an entry that is not there is not.
  home.apply([{ op: 'fdb.delete', fdb: { ...gone, dst: ip('192.0.2.3') } }])
  assert.equal(failure(() => home.apply([{ op: 'fdb.delete', fdb: gone }])).code, 'not-found')
})

test('rules are added, listed and deleted in both families', () => {
  const four = {
    family: 4 as const,
    priority: 100,
    from: net('10.0.0.0/8'),
    to: net('192.0.2.0/24'),
    iif: 'lo',
    mark: 0x10,
    mask: 0xff,
    table: 300,
  }
  const six = { family: 6 as const, priority: 101, oif: 'lo', table: 100 }
  home.apply([
    { op: 'rule.add', rule: four },
    { op: 'rule.add', rule: six },
  ])
  const seen = json('ip -j rule show pref 100')[0]
  assert.deepEqual(
    [seen.src, seen.srclen, seen.dst, seen.iif, seen.fwmark, seen.fwmask, seen.table],
    ['10.0.0.0', 8, '192.0.2.0', 'lo', '0x10', '0xff', '300'],
  )
  assert.equal(json('ip -j -6 rule show pref 101')[0].oif, 'lo')
  assert.deepEqual(
    home.rules(4).find((r) => r.priority === 100),
    four,
  )
  assert.equal(home.rules(6).find((r) => r.priority === 101)?.table, 100)
  assert.equal(failure(() => home.apply([{ op: 'rule.add', rule: four }])).detail.errno, 'EEXIST')
  home.apply([
    { op: 'rule.delete', rule: four },
    { op: 'rule.delete', rule: six },
  ])
  assert.equal(failure(() => home.apply([{ op: 'rule.delete', rule: four }])).code, 'not-found')
})

test('deleting what is not there is not-found, whatever it is', () => {
  home.apply([bridge('br0')])
  const steps: Step[] = [
    { op: 'link.delete', dev: 'nope' },
    { op: 'link.deleteGroup', group: 12_345 },
    { op: 'addr.delete', addr: { dev: 'br0', address: at('10.0.0.1/24') } },
    { op: 'route.delete', route: { family: 6, dst: net('2001:db8::/32') } },
    { op: 'neigh.delete', neigh: { dev: 'br0', ip: ip('10.0.0.2'), state: 'permanent' } },
    { op: 'rule.delete', rule: { family: 4, priority: 77, table: 5 } },
  ]
  for (const step of steps) assert.equal(failure(() => home.apply([step])).code, 'not-found', step.op)
})

test('a group of links goes in one request, and group 0 is refused', () => {
  home.apply([bridge('br0'), ...[1, 2, 3].map((n) => add({ name: `v${n}`, kind: 'veth', group: 77, peer: { name: `p${n}` } }))])
  const error = failure(() => home.apply([{ op: 'link.deleteGroup', group: 0 }]))
  assert.equal(error.code, 'invalid')
  home.apply([{ op: 'link.deleteGroup', group: 77 }])
  assert.deepEqual(
    home.links().map((l) => l.name),
    ['lo', 'br0'],
  )
})

test('groups are deleted in the background while this thread goes on', async () => {
  home.apply(Array.from({ length: 40 }, (_, n) => add({ name: `v${n}`, kind: 'veth', group: 78, peer: { name: `p${n}` } })))
  let turns = 0
  let isOver = false
  const turn = () => {
    turns++
    if (!isOver) setImmediate(turn)
  }
  turn()
  await Promise.all([home.deleteGroupInBackground(78), home.deleteGroupInBackground(78)])
  isOver = true
  assert.deepEqual(home.links('veth'), [])
  assert.ok(turns > 1, 'the event loop stood still meanwhile')
  await home.deleteGroupInBackground(78)
  await assert.rejects(home.deleteGroupInBackground(0), NetError)
})

test('a background deletion works in the namespace of the handle, and after its file was closed', async () => {
  createNetns(`${dir}/b`)
  const other = openNetns(`${dir}/b`)
  const rtnl = openRtnl(other)
  closeNetns(other)
  rtnl.apply([add({ name: 'v0', kind: 'veth', group: 79, peer: { name: 'p0' } })])
  home.apply([add({ name: 'v0', kind: 'veth', group: 79, peer: { name: 'p0' } })])
  await rtnl.deleteGroupInBackground(79)
  assert.deepEqual(rtnl.links('veth'), [])
  assert.equal(home.links('veth').length, 2)
  rtnl.close()
  removeNetns(`${dir}/b`)
})

test('listing is complete although links come and go meanwhile', async () => {
  home.apply(Array.from({ length: 150 }, (_, n) => add({ name: `stay${n}`, kind: 'veth', peer: { name: `peer${n}` } })))
  const script = 'for i in $(seq 60); do ip link add tmp type veth peer name tmp2; ip link set stay7 alias a$i; ip link del tmp; done'
  const churn = spawn('sh', ['-c', script], { stdio: 'ignore' })
  let isOver = false
  churn.once('exit', () => {
    isOver = true
  })
  let lists = 0
  while (!isOver) {
    const names = new Set(home.links().map((l) => l.name))
    for (let n = 0; n < 150; n++) assert.ok(names.has(`stay${n}`) && names.has(`peer${n}`), `stay${n} is missing in list ${lists}`)
    lists++
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  assert.ok(lists > 3)
  home.apply(Array.from({ length: 150 }, (_, n) => ({ op: 'link.set', dev: `stay${n}`, set: { group: 80 } })))
  home.apply([{ op: 'link.deleteGroup', group: 80 }])
})

test('lists longer than one receive are read to their end', () => {
  home.apply([bridge('br0')])
  const addresses = Array.from({ length: 2000 }, (_, n) => at(`10.${n >> 8}.${n & 255}.1/32`))
  home.apply(addresses.map((address) => ({ op: 'addr.add', addr: { dev: 'br0', address } })))
  assert.deepEqual(new Set(home.addresses({ dev: 'br0', family: 4 }).map((a) => a.address)), new Set(addresses))
})

test('handles leave no descriptor behind', async () => {
  const count = () => readdirSync('/proc/self/fd').length
  const before = count()
  for (let i = 0; i < 20; i++) {
    const rtnl = openRtnl(ns)
    rtnl.links()
    rtnl.close()
    rtnl.close()
  }
  // descriptors are closed on a thread of the pool
  for (let i = 0; i < 200 && count() !== before; i++) await new Promise((resolve) => setTimeout(resolve, 10))
  assert.equal(count(), before)
  const closed = openRtnl()
  closed.close()
  assert.throws(() => closed.links(), /it is closed/)
})

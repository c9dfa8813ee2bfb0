import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { hasCode } from '../../src/base/errors.ts'
import type { LinkSpec } from '../../src/model/kernel-state.ts'
import { add, bridge, failure, ip, judge, mac, openRtnlLab } from './rtnl-lab.ts'

const { home, inside, ns, there } = await openRtnlLab()

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
  const guest = judge('eth0', inside)
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
  const guest = judge('eth0', inside)
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
  const far = judge('far0', inside)
  assert.equal(far.ifalias, 'far')
  assert.ok(far.flags.includes('UP'))
})

test('a link is moved to another namespace, with a new name', () => {
  home.apply([add({ name: 'a0', kind: 'veth', peer: { name: 'b0' } }), { op: 'link.move', dev: 'b0', netnsFd: ns.fd, name: 'moved0' }])
  assert.equal(home.link('b0'), undefined)
  assert.equal(judge('moved0', inside).ifname, 'moved0')
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
  assert.equal(judge('vx0', inside).linkinfo.info_data.id, 5000)
  const listens = (prefix: string) => spawnSync('sh', ['-c', `${prefix} cat /proc/net/udp`], { encoding: 'utf8' }).stdout.includes(':12B5')
  assert.deepEqual([listens(''), listens(inside)], [true, false])
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

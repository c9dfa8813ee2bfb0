import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { add, at, bridge, failure, ip, type Json, json, mac, net, openRtnlLab } from './rtnl-lab.ts'

const { home } = await openRtnlLab()

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

import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { test } from 'node:test'
import { NetError } from '../../src/base/errors.ts'
import { openRtnl } from '../../src/kernel/rtnl.ts'
import type { LinkSpec, Step } from '../../src/model/kernel-state.ts'
import { closeNetns, createNetns, openNetns, removeNetns } from '../../src/sys/netns.ts'
import { add, at, bridge, failure, ip, type Json, json, judge, net, openRtnlLab } from './rtnl-lab.ts'

const { dir, home, ns, there } = await openRtnlLab()

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

/** ipvlan networks, and networks without a parent, end to end. Needs ipvlan and dummy links in the kernel. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { isolate } from '../../testkit/isolated.ts'
import { until } from '../e2e/site.ts'
import { type LanHost, lanReaches, skipWithout, startLan } from './lan-lab.ts'

isolate()
const skip = skipWithout('ipvlan', 'dummy')
const lan = skip ? undefined : await startLan(1)
const [one] = (lan?.hosts ?? []) as [LanHost]
const machine = lan?.machine as NonNullable<typeof lan>['machine']
after(() => lan?.close())

const SUBNET = ['--subnet', '10.10.126.0/24', '--ip-range', '10.10.126.128/28', '--gateway', '10.10.126.1']
const ipvlan = (...args: string[]) => ['-d', 'ipvlan', ...args]
const l3 = (mode: string, ...more: string[]) =>
  ipvlan('--subnet', '10.60.0.0/24', '-o', 'parent=eth0', '-o', `ipvlan_mode=${mode}`, ...more)

test('ipvlan l2: on the LAN with the parent’s MAC and the gateway that was named', { skip }, async () => {
  const id = await one.network(...ipvlan(...SUBNET, '-o', 'parent=eth0', 'flat'))
  await one.lab.run('f1', { networks: ['flat'] })
  await one.lab.run('f2', { networks: ['flat'] })
  const f1 = await one.endpoint('f1', 'flat')
  assert.deepEqual([f1.IPAddress, f1.Gateway, f1.MacAddress], ['10.10.126.128', '10.10.126.1', ''])
  assert.ok(await lanReaches(machine, '10.10.126.128'))
  const nicMac = (await one.lab.sh('cat /sys/class/net/eth0/address')).out.trim()
  assert.match((await machine.sh('ip neigh show 10.10.126.128')).out, new RegExp(nicMac))
  assert.ok(await one.reaches('f1', '10.10.126.129'))
  assert.match(await one.inside('f1', 'ip -d link show eth0'), /ipvlan +mode l2 bridge/)
  const mac = one.lab.run('f3', { networks: ['flat'], body: { MacAddress: '02:00:00:00:00:01' } })
  await assert.rejects(mac, /400 .*ipvlan interfaces do not support custom mac address assignment/)
  assert.match(
    await one.refused(...ipvlan('--subnet', '10.61.0.0/24', '-o', 'parent=eth0', 'second')),
    new RegExp(`network di-${id.slice(0, 12)} is already using parent interface eth0`),
  )
  await one.remove(['f1', 'f2', 'f3'], ['flat'])
})

test('ipvlan l3 and l3s: the interface is the default route, the host answers for the subnet’s routes, flags reach the kernel', {
  skip,
}, async () => {
  for (const mode of ['l3', 'l3s']) {
    await one.network(...l3(mode, '--gateway', '10.60.0.1', `net-${mode}`))
    await one.lab.run('r1', { networks: [`net-${mode}`] })
    const r1 = await one.endpoint('r1', `net-${mode}`)
    assert.equal(r1.Gateway, '')
    assert.match(await one.inside('r1', 'ip route'), /^default dev eth0/m)
    assert.match(await one.inside('r1', 'ip -d link show eth0'), new RegExp(`ipvlan +mode ${mode} bridge`))
    await machine.sh(`ip route replace 10.60.0.0/24 via ${one.host.ip}`)
    assert.ok(await until(() => lanReaches(machine, r1.IPAddress, 1), 10_000), mode)
    assert.ok(await one.reaches('r1', '10.10.126.1'), mode)
    await one.remove(['r1'], [`net-${mode}`])
  }
  await one.network(...l3('l3', '-o', 'ipvlan_flag=private', 'apart'))
  await one.lab.run('p1', { networks: ['apart'] })
  await one.lab.run('p2', { networks: ['apart'] })
  assert.match(await one.inside('p1', 'ip -d link show eth0'), /ipvlan +mode l3 private/)
  assert.equal(await one.reaches('p1', (await one.endpoint('p2', 'apart')).IPAddress, 1), false)
  await one.remove(['p1', 'p2'], ['apart'])
  assert.match(await one.refused(...l3('l4', 'bad')), /requested ipvlan mode 'l4' is not valid, 'l2' mode is the ipvlan driver default/)
  assert.match(
    await one.refused(...l3('l3', '-o', 'ipvlan_flag=x', 'bad')),
    /requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan/,
  )
})

test('without a parent a network is internal: a dummy of its own, members find each other by name, nothing else is asked', {
  skip,
}, async () => {
  for (const [driver, prefix] of [
    ['macvlan', 'dm'],
    ['ipvlan', 'di'],
  ]) {
    const id = await one.network('-d', driver as string, '--subnet', '10.62.0.0/24', '--gateway', '10.62.0.1', 'island')
    const dummy = `${prefix}-${id.slice(0, 12)}`
    assert.match((await one.lab.sh(`ip -d -o link show ${dummy}`)).out, /dummy/)
    await one.lab.run('i1', { networks: ['island'] })
    await one.lab.run('i2', { networks: ['island'] })
    assert.equal((await one.inside('i1', 'ip route')).includes('default'), false)
    assert.equal((await one.endpoint('i1', 'island')).Gateway, '')
    assert.equal((await one.lab.exec('i1', 'ping', '-c', '1', '-W', '5', 'i2')).code, 0)
    const asked = await one.lab.exec('i1', 'nslookup', 'example.com')
    assert.match(asked.out + asked.err, /SERVFAIL|can't find|server can't/)
    await one.remove(['i1', 'i2'], ['island'])
    assert.ok(await until(async () => !(await one.links()).includes(dummy), 10_000))
  }
})

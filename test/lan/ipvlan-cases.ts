/** ipvlan networks, and networks without a parent, end to end. Needs ipvlan and dummy links in the kernel. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { until } from '../e2e/site.ts'
import { type Lan, type LanHost, lanReaches, skipWithout } from './lan-lab.ts'

const SUBNET = ['--subnet', '10.10.126.0/24', '--ip-range', '10.10.126.128/28', '--gateway', '10.10.126.1']
const ipvlan = (...args: string[]) => ['-d', 'ipvlan', ...args]
const l3 = (mode: string, ...more: string[]) =>
  ipvlan('--subnet', '10.60.0.0/24', '-o', 'parent=eth0', '-o', `ipvlan_mode=${mode}`, ...more)

/** Tests on one host; `lan` is only asked for where the kernel can do it. */
export function ipvlanCases(lan: Lan | undefined): void {
  const skip = skipWithout('ipvlan', 'dummy')
  const [one] = (lan?.hosts ?? []) as [LanHost]
  const machine = lan?.machine as Lan['machine']

  test('ipvlan l2: on the LAN with the parent’s MAC and the gateway that was named', { skip }, async () => {
    const id = await one.network(...ipvlan(...SUBNET, '-o', 'parent=eth0', 'flat'))
    await one.lab.run('f1', { networks: ['flat'] })
    const f1 = await one.endpoint('f1', 'flat')
    assert.deepEqual([f1.IPAddress, f1.Gateway, f1.MacAddress], ['10.10.126.128', '10.10.126.1', ''])
    assert.ok(await lanReaches(machine, '10.10.126.128'))
    const nicMac = (await one.lab.sh('cat /sys/class/net/eth0/address')).out.trim()
    assert.match((await machine.sh('ip neigh show 10.10.126.128')).out, new RegExp(nicMac))
    assert.ok(await one.reaches('f1', '10.10.126.1'))
    assert.match(await one.inside('f1', 'ip -d link show eth0'), /ipvlan +mode l2 bridge/)
    const mac = one.lab.run('f3', { networks: ['flat'], body: { MacAddress: '02:00:00:00:00:01' } })
    await assert.rejects(mac, /400 .*ipvlan interfaces do not support custom mac address assignment/)
    assert.match(
      await one.refused(...ipvlan('--subnet', '10.61.0.0/24', '-o', 'parent=eth0', 'second')),
      new RegExp(`network di-${id.slice(0, 12)} is already using parent interface eth0`),
    )
    await one.remove(['f1', 'f3'], ['flat'])
  })

  test('ipvlan l3 and l3s: the interface is the default route, the host answers for the subnet’s routes, flags reach the kernel', {
    skip,
  }, async () => {
    await one.network(...l3('l3', '--gateway', '10.60.0.1', 'routed'))
    await one.lab.run('r1', { networks: ['routed'] })
    const r1 = await one.endpoint('r1', 'routed')
    assert.equal(r1.Gateway, '')
    assert.match(await one.inside('r1', 'ip route'), /^default dev eth0/m)
    assert.match(await one.inside('r1', 'ip -d link show eth0'), /ipvlan +mode l3 bridge/)
    await machine.sh(`ip route replace 10.60.0.0/24 via ${one.host.ip}`)
    assert.ok(await until(() => lanReaches(machine, r1.IPAddress, 1), 10_000))
    assert.ok(await one.reaches('r1', '10.10.126.1'))
    await one.remove(['r1'], ['routed'])
    await one.network(...l3('l3s', '-o', 'ipvlan_flag=private', 'apart'))
    await one.lab.run('p1', { networks: ['apart'] })
    await one.lab.run('p2', { networks: ['apart'] })
    assert.match(await one.inside('p1', 'ip -d link show eth0'), /ipvlan +mode l3s private/)
    assert.ok(await one.reaches('p1', '10.10.126.1'))
    assert.equal(await one.reaches('p1', (await one.endpoint('p2', 'apart')).IPAddress, 1), false)
    await one.remove(['p1', 'p2'], ['apart'])
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
      assert.equal((await one.inside('i1', 'ip route')).includes('default'), false)
      const { Gateway, IPAddress } = await one.endpoint('i1', 'island')
      assert.equal(Gateway, '')
      const asked = async (name: string) => one.inside('i1', `busybox nslookup -type=a ${name} 127.0.0.11`)
      assert.match(await asked('i1'), new RegExp(`Address.*: ${IPAddress}`))
      assert.match(await asked('example.com'), /SERVFAIL|can't find/)
      if (driver === 'macvlan') {
        await one.lab.run('i2', { networks: ['island'] })
        assert.ok(await one.reaches('i1', (await one.endpoint('i2', 'island')).IPAddress))
        await one.remove(['i2'], [])
      }
      await one.remove(['i1'], ['island'])
      assert.ok(await until(async () => !(await one.links()).includes(dummy), 10_000))
    }
  })
}

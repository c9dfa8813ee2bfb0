/** VLANs on a trunk: hosts with engines whose containers live in VLANs of the one link they share. Needs 802.1q in the kernel. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { test } from 'node:test'
import { systemEnv } from '../../testkit/lab-net.ts'
import { until } from '../e2e/site.ts'
import { type Lan, type LanHost, lanReaches, skipWithout } from './lan-lab.ts'

const create = (vlan: number, range: string, name: string, ...more: string[]) => {
  const subnet = ['--subnet', `10.7.${vlan}.0/24`, '--ip-range', `10.7.${vlan}.${range}/28`, '--gateway', `10.7.${vlan}.1`]
  return ['-d', 'macvlan', ...subnet, ...more, name]
}
const parentOf = (host: LanHost, dev: string) => host.lab.sh(`ip -d -o link show ${dev}`)

/** Tests on two hosts; `lan` is only asked for where the kernel can do it. */
export function vlanCases(lan: Lan | undefined): void {
  const skip = skipWithout('vlan')
  const [one, two] = (lan?.hosts ?? []) as [LanHost, LanHost]
  const machine = lan?.machine as Lan['machine']

  test('two hosts, one VLAN, one subnet: containers meet, with the tag on the wire; those of another VLAN are out of reach', {
    skip,
  }, async () => {
    await one.network(...create(50, '128', 'fifty', '-o', 'parent=eth0.50'))
    await two.network(...create(50, '144', 'fifty', '-o', 'parent=eth0', '-o', 'vlan=50'))
    await two.network(...create(60, '144', 'sixty', '-o', 'parent=eth0.60'))
    assert.match((await parentOf(one, 'eth0.50')).out, /eth0\.50@eth0.*vlan protocol 802\.1Q id 50/)
    await one.lab.run('a50', { networks: ['fifty'] })
    await two.lab.run('b50', { networks: ['fifty'] })
    // an address of the same subnet in the other VLAN: only the tag keeps them apart
    await two.network('-d', 'macvlan', '--subnet', '10.7.50.0/24', '--ip-range', '10.7.50.192/28', '-o', 'parent=eth0.60', 'mixed')
    await two.lab.run('b60', { networks: ['mixed'] })
    const capture = spawn(
      'nsenter',
      [`--net=${machine.netns}`, 'tcpdump', '-c', '2', '-e', '-n', '-l', '-i', 'h0', 'icmp or (vlan and icmp)'],
      {
        env: systemEnv,
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    )
    let seen = ''
    let listening = false
    capture.stdout.setEncoding('utf8').on('data', (text: string) => (seen += text))
    capture.stderr.setEncoding('utf8').on('data', (text: string) => (listening ||= text.includes('listening on')))
    try {
      assert.ok(await until(async () => listening, 10_000), 'tcpdump listens')
      assert.ok(await one.reaches('a50', '10.7.50.144'), 'the same VLAN')
      assert.ok(await until(async () => seen.split('\n').length > 2, 10_000), 'tcpdump has seen both packets')
      for (const line of seen.trim().split('\n'))
        assert.match(line, /ethertype 802\.1Q \(0x8100\).*vlan 50,.*10\.7\.50\.(128|144) > 10\.7\.50\./)
    } finally {
      capture.kill('SIGKILL')
    }
    assert.equal(await one.reaches('a50', '10.7.50.192', 1), false, 'another VLAN')
    assert.equal(await two.reaches('b60', '10.7.50.144', 1), false, 'another VLAN of the same host')
    assert.equal(await lanReaches(machine, '10.7.50.128', 1), false, 'the untagged LAN')
    await one.remove(['a50'], ['fifty'])
    await two.remove(['b50', 'b60'], ['fifty', 'sixty'])
    // two networks had eth0.60: the first one to go has left it
    assert.ok((await two.links()).includes('eth0.60'))
    await two.remove([], ['mixed'])
    for (const host of [one, two])
      assert.ok(await until(async () => !(await host.links()).some((name) => name.startsWith('eth0.')), 10_000))
  })

  test('a router on a stick joins the VLANs of one host', { skip }, async () => {
    await machine.sh(`for v in 10 20; do ip link add link h0-trunk name r.$v type vlan id $v 2>/dev/null ||
    ip link add link lan0 name r.$v type vlan id $v; ip addr add 10.7.$v.1/24 dev r.$v; ip link set r.$v up; done`)
    await one.network(...create(10, '128', 'ten', '-o', 'parent=eth0.10'))
    await one.network(...create(20, '128', 'twenty', '-o', 'parent=eth0.20'))
    await one.lab.run('a10', { networks: ['ten'] })
    await one.lab.run('a20', { networks: ['twenty'] })
    assert.ok(await until(() => one.reaches('a10', '10.7.20.128'), 10_000))
    await machine.sh('ip link set r.20 down')
    assert.equal(await one.reaches('a10', '10.7.20.128', 1), false)
    await machine.sh('ip link del r.10; ip link del r.20')
    await one.remove(['a10', 'a20'], ['ten', 'twenty'])
  })

  test('a VLAN interface that was there before stays; one of ours comes back with the engine after kill -9', { skip }, async () => {
    await one.lab.sh('ip link add link eth0 name eth0.70 type vlan id 70; ip link set eth0.70 up')
    await one.network(...create(70, '128', 'theirs', '-o', 'parent=eth0.70'))
    await one.remove([], ['theirs'])
    await one.network(...create(80, '128', 'ours', '-o', 'parent=eth0.80'))
    await one.lab.kill9()
    assert.ok((await one.links()).includes('eth0.80'))
    await one.lab.sh('ip link del eth0.80')
    await one.lab.start()
    assert.ok((await one.links()).includes('eth0.80'))
    await one.remove([], ['ours'])
    assert.ok(await until(async () => !(await one.links()).includes('eth0.80'), 10_000))
    assert.ok((await one.links()).includes('eth0.70'), 'somebody else made it')
    await one.lab.sh('ip link del eth0.70')
  })
}

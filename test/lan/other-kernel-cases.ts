/** What other units of the LAN do with VLANs and ipvlan: leases for ipvlan networks, wires with tags. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { until } from '../e2e/site.ts'
import { serveDhcp } from './lan-dhcp.ts'
import { type Lan, type LanHost, lanReaches, skipWithout } from './lan-lab.ts'

/** Tests on one host; `lan` is only asked for where the kernel can do it. */
export function otherKernelCases(lan: Lan | undefined): void {
  const [one] = (lan?.hosts ?? []) as [LanHost]
  const machine = lan?.machine as Lan['machine']

  test('ipvlan l2 with leases of the LAN: containers of one MAC have addresses of their own, also of a server that knows MACs alone', {
    skip: skipWithout('ipvlan'),
  }, async () => {
    const dhcp = await serveDhcp(machine, 8)
    try {
      const made = await one.lab.api('POST', '/networks/create', {
        Name: 'leased',
        Driver: 'ipvlan',
        Options: { parent: 'eth0' },
        IPAM: { Driver: 'dhcp', Config: [] },
      })
      assert.equal(made.status, 201, made.text)
      const { IPAM } = (await one.lab.api('GET', '/networks/leased')).json
      assert.deepEqual(IPAM.Config, [{ Subnet: '10.10.126.0/24', Gateway: '10.10.126.1' }])
      await one.lab.run('d1', { networks: ['leased'] })
      await one.lab.run('d2', { networks: ['leased'] })
      const [d1, d2] = [await one.endpoint('d1', 'leased'), await one.endpoint('d2', 'leased')]
      for (const { IPAddress, MacAddress, Gateway } of [d1, d2]) {
        assert.match(IPAddress, /^10\.10\.126\.2(0\d|10)$/)
        assert.deepEqual([MacAddress, Gateway], ['', '10.10.126.1'])
        assert.ok(await lanReaches(machine, IPAddress))
      }
      assert.notEqual(d1.IPAddress, d2.IPAddress)
      assert.ok(await one.reaches('d1', d2.IPAddress))
      const acks = (ip: string) => dhcp.said().split(`sending ACK to ${ip}`).length - 1
      const before = [acks(d1.IPAddress), acks(d2.IPAddress)] as const
      assert.ok(
        await until(async () => acks(d1.IPAddress) > before[0] && acks(d2.IPAddress) > before[1], 15_000),
        `renewed: ${dhcp.said()}`,
      )
      assert.equal((await one.endpoint('d2', 'leased')).IPAddress, d2.IPAddress)
      await one.remove(['d1', 'd2'], ['leased'])
    } finally {
      await dhcp.close()
    }
  })

  test('a wire with a VLAN: the frames on the bridge have the tag, and only wires of the same VLAN meet', {
    skip: skipWithout('vlan'),
  }, async () => {
    await one.lab.run('w1', { networks: ['none'] })
    const processes = (await one.lab.sh('for i in 1 2; do unshare --net sleep 300 >/dev/null 2>&1 & echo $!; done')).out
      .trim()
      .split('\n')
      .map(Number)
    const [w2, w3] = processes as [number, number]
    const home = (await one.lab.sh('readlink /proc/self/ns/net')).out
    for (const pid of processes)
      assert.ok(await until(async () => (await one.lab.sh(`readlink /proc/${pid}/ns/net`)).out !== home), 'a namespace of its own')
    const wire = async (end: object, ip: string, vlan: number) => {
      const { status, text } = await one.lab.api('POST', '/causeway/v1/wires', { ...end, bridge: 'wbr1', addresses: [ip], vlan })
      assert.equal(status, 200, text)
      return (JSON.parse(text) as { id: string }).id
    }
    await wire({ container: 'w1' }, '10.20.0.1/24', 20)
    const others = [await wire({ pid: w2 }, '10.20.0.2/24', 20), await wire({ pid: w3 }, '10.20.0.3/24', 30)]
    assert.ok(await one.reaches('w1', '10.20.0.2'), 'the same VLAN')
    assert.equal(await one.reaches('w1', '10.20.0.3', 1), false, 'another VLAN')
    assert.match(await one.inside('w1', 'ip -d link show eth1'), /eth1@.* vlan protocol 802\.1Q id 20/s)
    // the host as a machine of the VLAN: what it has on the bridge proves the tag
    await one.lab.sh('ip link add link wbr1 name wbr1.20 type vlan id 20; ip addr add 10.20.0.9/24 dev wbr1.20; ip link set wbr1.20 up')
    assert.ok(await one.reaches('w1', '10.20.0.9'))
    assert.notEqual((await one.lab.sh(`nsenter --net=/proc/${w3}/ns/net ping -n -c 1 -W 1 10.20.0.9`)).code, 0)
    await one.lab.sh('ip link del wbr1.20')
    await one.remove(['w1'], [])
    for (const id of others) assert.equal((await one.lab.api('DELETE', `/causeway/v1/wires/${id}`)).status, 204)
    await one.lab.sh(`kill -9 ${processes.join(' ')}`)
    assert.ok(await until(async () => !(await one.links()).includes('wbr1'), 10_000))
  })
}

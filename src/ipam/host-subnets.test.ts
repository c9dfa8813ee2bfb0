import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Cidr } from '../base/address.ts'
import type { Route } from '../model/kernel-state.ts'
import { hostSubnets, subnetConflicts } from './host-subnets.ts'

const route = (dst: string, more: Partial<Route> = {}): Route => ({
  family: dst.includes(':') ? 6 : 4,
  dst: dst as Cidr | 'default',
  dev: 'eth0',
  ...more,
})
const via = { gateway: '192.168.1.1' as Route['gateway'] & string }

test('attached subnets and name servers are reserved, subnets behind a gateway avoided', () => {
  const got = hostSubnets({
    routes: [
      route('default', via),
      route('192.168.1.0/24'),
      route('10.8.0.0/16', { ...via, dev: 'tun0' }),
      route('fd12::/64'),
      route('fe80::/64'),
      route('169.254.0.0/16'),
      route('224.0.0.0/4'),
      route('192.168.1.7/32', { type: 'local' }),
      route('10.0.0.0/8', { type: 'blackhole' }),
      route('172.17.0.0/16', { dev: 'docker0' }),
      route('10.8.0.0/16'),
    ],
    nameservers: ['172.20.0.10', '127.0.0.53', 'fe80::1%eth0', '::1', 'fd99::53', 'nonsense'],
    ownDevices: new Set(['docker0']),
  })
  assert.deepEqual(got, { reserved: ['192.168.1.0/24', 'fd12::/64', '10.8.0.0/16', '172.20.0.10/32', 'fd99::53/128'], avoid: [] })
  assert.deepEqual(hostSubnets({ routes: [route('10.8.0.0/16', via)], nameservers: [] }), { reserved: [], avoid: ['10.8.0.0/16'] })
})

test('a full-tunnel VPN reserves nothing, whether by default route or by halves', () => {
  const halves = [route('0.0.0.0/1', { dev: 'tun0' }), route('128.0.0.0/1', { dev: 'tun0' }), route('8000::/1', { dev: 'tun0' })]
  assert.deepEqual(hostSubnets({ routes: [route('default', via), ...halves], nameservers: [] }), { reserved: [], avoid: [] })
})

test('a route that comes later over one of our subnets is a conflict, one that our bridge wins against is not', () => {
  const ours = ['172.18.0.0/16', '172.19.0.0/16'] as Cidr[]
  const bridges = new Set(['br-1', 'br-2'])
  const own = [route('172.18.0.0/16', { dev: 'br-1' }), route('172.19.0.0/16', { dev: 'br-2' })]
  assert.deepEqual(subnetConflicts(ours, [...own, route('172.16.0.0/12', via), route('10.0.0.0/8', via)], bridges), [])
  const vpn = route('172.18.5.0/24', { ...via, dev: 'tun0' })
  assert.deepEqual(subnetConflicts(ours, [...own, vpn], bridges), [{ subnet: '172.18.0.0/16', route: vpn }])
  const lan = route('172.16.0.0/12', { dev: 'eth1' })
  assert.deepEqual(
    subnetConflicts(ours, [...own, lan], bridges).map((c) => c.subnet),
    ours,
  )
})

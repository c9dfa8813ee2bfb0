import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Cidr, Ip, Mac } from '../../base/address.ts'
import type { Network } from '../../model/network.ts'
import type { HostFacts } from '../types.ts'
import { ipvlanDriver } from './ipvlan.ts'

const network = (options: Record<string, string>, id = '0123456789abcdef'): Network => ({
  id,
  name: 'lan',
  created: '',
  driver: 'ipvlan',
  scope: 'local',
  enableIpv4: true,
  enableIpv6: false,
  internal: false,
  attachable: false,
  ingress: false,
  configOnly: false,
  configFrom: '',
  ipamDriver: 'default',
  ipamOptions: null,
  pools: [{ subnet: '10.1.0.0/24' as Cidr, gateway: '10.1.0.1' as Ip, aux: {} }],
  options,
  labels: {},
  predefined: false,
})
const endpoint = {
  id: 'e',
  ifname: 'eth0',
  hostIfname: '',
  mac: '' as Mac | '',
  ipv4: '10.1.0.5' as Ip,
  ipv6: '' as const,
  linkLocalIps: [],
  sysctls: [],
  netnsFd: 9,
  data: {},
}

test('ipvlan: modes and flags; others are refused in Docker’s words', () => {
  const born = (options: Record<string, string>) => {
    const { plug } = ipvlanDriver.endpointWanted(network(options), endpoint)
    return plug.kind === 'born' && plug.link.kind === 'ipvlan' ? [plug.link.mode, plug.link.flag, plug.link.parent] : []
  }
  assert.deepEqual(born({ parent: 'eth0' }), ['l2', 'bridge', 'eth0'])
  assert.deepEqual(born({ parent: 'eth0.7', ipvlan_mode: 'l3s', ipvlan_flag: 'vepa' }), ['l3s', 'vepa', 'eth0.7'])
  assert.deepEqual(born({}), ['l2', 'bridge', 'di-0123456789ab'])
  assert.throws(() => born({ ipvlan_mode: 'x' }), {
    message: `requested ipvlan mode 'x' is not valid, 'l2' mode is the ipvlan driver default`,
  })
  assert.throws(() => born({ ipvlan_flag: 'x' }), {
    message: `requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan driver default`,
  })
  assert.throws(() => born({ parent: 'lo' }), { message: 'loopback interface is not a valid ipvlan parent link' })
})

test('ipvlan: l2 uses the gateway, layer 3 the interface itself, an island neither', () => {
  const ways = (options: Record<string, string>) => [
    ipvlanDriver.gatewayOf(network(options), {}, endpoint).ipv4,
    ipvlanDriver.deviceRoute?.(network(options)).ipv4,
  ]
  assert.deepEqual(ways({ parent: 'eth0' }), ['10.1.0.1', false])
  assert.deepEqual(ways({ parent: 'eth0', ipvlan_mode: 'l3' }), ['', true])
  assert.deepEqual(ways({ parent: 'eth0', ipvlan_mode: 'l3s' }), ['', true])
  assert.deepEqual(ways({ ipvlan_mode: 'l3' }), ['', false])
  assert.deepEqual(ways({}), ['', false])
})

test('ipvlan: a parent has one network, and a MAC cannot be chosen', () => {
  const host: HostFacts = { link: () => undefined, addressesOf: () => [] }
  assert.throws(() => ipvlanDriver.checkHost?.(network({ parent: 'eth0' }), host, [network({ parent: 'eth0' }, 'fedcba9876543210')]), {
    message: 'network di-fedcba987654 is already using parent interface eth0',
  })
  assert.throws(() => ipvlanDriver.endpointWanted(network({ parent: 'eth0' }), { ...endpoint, mac: '02:00:00:00:00:01' as Mac }), {
    code: 'invalid',
    message: 'ipvlan interfaces do not support custom mac address assignment',
  })
})

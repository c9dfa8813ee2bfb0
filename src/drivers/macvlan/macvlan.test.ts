import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Cidr, type Ip, type Mac, parseIpPrefix } from '../../base/address.ts'
import type { NetError } from '../../base/errors.ts'
import type { Address, Link } from '../../model/kernel-state.ts'
import type { Network } from '../../model/network.ts'
import type { HostFacts } from '../types.ts'
import { macvlanDriver } from './macvlan.ts'

const ID = '0123456789abcdef0123456789abcdef'
const network = (options: Record<string, string>, more: Partial<Network> = {}): Network => ({
  id: ID,
  name: 'lan',
  created: '',
  driver: 'macvlan',
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
  ...more,
})
const link = (name: string, more: Partial<Link> = {}): Link => ({
  index: 2,
  name,
  kind: '',
  mac: '',
  mtu: 1500,
  up: true,
  running: true,
  loopback: false,
  master: 0,
  link: 0,
  group: 0,
  alias: '',
  txQueueLen: 0,
  ...more,
})
const host = (names: string[], addresses: Address[] = []): HostFacts => ({
  link: (name) => (names.includes(name) ? link(name, { loopback: name === 'lo' || name === 'lo2' }) : undefined),
  addressesOf: (dev) => addresses.filter((addr) => addr.dev === dev),
})
const here = host(['lo', 'lo2', 'eth0', 'br0'])
const refusal = (options: Record<string, string>, others: Network[] = []): string => {
  try {
    macvlanDriver.validate({ ...network(options), subnets: [] })
    macvlanDriver.checkHost?.(network(options), here, others)
  } catch (error) {
    return `${(error as NetError).code}: ${(error as NetError).message}`
  }
  return ''
}
const endpoint = {
  id: 'e',
  ifname: 'eth0',
  hostIfname: '',
  mac: '02:00:00:00:00:01' as Mac,
  ipv4: '10.1.0.5' as Ip,
  ipv6: '' as const,
  linkLocalIps: [],
  sysctls: [],
  netnsFd: 9,
  data: {},
}

test('macvlan: wrong options are refused in Docker’s words', () => {
  assert.equal(refusal({ parent: 'eth0' }), '')
  assert.equal(refusal({ parent: 'eth0.50' }), '')
  assert.equal(
    refusal({ parent: 'eth0', macvlan_mode: 'x' }),
    `internal: requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default`,
  )
  assert.equal(refusal({ parent: 'lo' }), 'internal: loopback interface is not a valid macvlan parent link')
  assert.match(refusal({ parent: 'lo2' }), /^internal: loopback interface/)
  assert.equal(refusal({ parent: 'nope0' }), 'internal: invalid subinterface vlan name nope0, example formatting is eth0.10')
  assert.equal(refusal({ parent: 'nope0.10' }), 'internal: -o parent interface was not found on the host: nope0')
  for (const id of [0, 4095, 99999]) {
    assert.equal(refusal({ parent: `eth0.${id}` }), `internal: vlan id must be between 1-4094, received: ${id}`)
    assert.equal(refusal({ parent: 'eth0', vlan: String(id) }), `internal: vlan id must be between 1-4094, received: ${id}`)
  }
  assert.match(refusal({ parent: 'eth0', vlan: 'x' }), /unable to parse a valid vlan id from: x/)
  assert.match(refusal({ parent: 'a-very-long-nic', vlan: '4000' }), /at most 15 characters/)
})

test('macvlan: a parent is shared by networks of all modes but passthru', () => {
  const other = network({ parent: 'eth0' }, { id: 'other' })
  const alone = network({ parent: 'eth0', macvlan_mode: 'passthru' }, { id: 'alone' })
  assert.equal(refusal({ parent: 'eth0', macvlan_mode: 'private' }, [other]), '')
  assert.equal(
    refusal({ parent: 'eth0', macvlan_mode: 'passthru' }, [other]),
    'internal: cannot use mode passthru, macvlan network other is already using parent interface eth0',
  )
  assert.equal(
    refusal({ parent: 'eth0' }, [alone]),
    'internal: macvlan network alone is already using parent interface eth0 in mode passthru',
  )
  assert.equal(refusal({ parent: 'br0', macvlan_mode: 'passthru' }, [other]), '')
})

test('macvlan: what the host gets: nothing for a link, a VLAN made when missing, a dummy without a parent', () => {
  const wanted = (options: Record<string, string>) => macvlanDriver.networkWanted(network(options)).links
  assert.deepEqual(wanted({ parent: 'eth0' }), [])
  for (const options of [{ parent: 'eth0.50' }, { parent: 'eth0', vlan: '50' }]) {
    const [vlan] = wanted(options as Record<string, string>)
    assert.equal(vlan?.madeWhenMissing, true)
    assert.deepEqual(vlan?.spec, {
      name: 'eth0.50',
      kind: 'vlan',
      parent: 'eth0',
      vlanId: 50,
      up: true,
      alias: 'causeway:parent:eth0.50',
      addrGenMode: 'none',
    })
  }
  const [dummy] = wanted({})
  assert.deepEqual([dummy?.spec.kind, dummy?.spec.name, dummy?.madeWhenMissing], ['dummy', 'dm-0123456789ab', undefined])
})

test('macvlan: an endpoint is born in its sandbox; the gateway is the one of its own subnet, and there is none inside an island', () => {
  const several = network(
    { parent: 'eth0' },
    {
      pools: [
        { subnet: '10.1.0.0/24' as Cidr, aux: {} },
        { subnet: '10.2.0.0/16' as Cidr, gateway: '10.2.0.1' as Ip, aux: {} },
      ],
    },
  )
  const { plug, inside } = macvlanDriver.endpointWanted(several, { ...endpoint, ipv4: '10.2.0.9' as Ip })
  assert.deepEqual(plug, {
    kind: 'born',
    link: { name: 'eth0', netnsFd: 9, kind: 'macvlan', parent: 'eth0', mode: 'bridge', mac: endpoint.mac },
  })
  assert.deepEqual(
    inside.addresses.map((addr) => addr.address),
    ['10.2.0.9/16'],
  )
  const gateway = (of: Network, ipv4: string) => macvlanDriver.gatewayOf(of, {}, { ipv4: ipv4 as Ip, ipv6: '' }).ipv4
  assert.equal(gateway(several, '10.1.0.9'), '')
  assert.equal(gateway(several, '10.2.0.9'), '10.2.0.1')
  assert.equal(gateway(network({}), '10.1.0.5'), '')
  assert.equal(gateway(network({ parent: 'eth0' }, { internal: true }), '10.1.0.5'), '')
  assert.equal(macvlanDriver.macFor?.('', network({ parent: 'eth0', macvlan_mode: 'passthru' })), '')
  assert.equal(macvlanDriver.macFor?.('', network({ parent: 'eth0' })), undefined)
})

test('macvlan: the host’s own interface has a route and a neighbour for each member, from an address that members know', () => {
  const options = { parent: 'eth0', 'causeway.macvlan.host': 'true' }
  const members = [{ ipv4: '10.1.0.5' as Ip, ipv6: '' as const, mac: endpoint.mac }]
  const own = host(['eth0'], [{ dev: 'eth0', address: parseIpPrefix('10.1.0.10/24') }])
  const [shim] = macvlanDriver.membersWanted?.(network(options), members, own) ?? []
  assert.equal(shim?.spec.name, 'mh-0123456789ab')
  assert.deepEqual(shim?.addresses, [])
  assert.deepEqual(
    shim?.routes?.map(({ dst, src }) => [dst, src]),
    [['10.1.0.5/32', '10.1.0.10']],
  )
  assert.deepEqual(shim?.neighbours, [{ dev: 'mh-0123456789ab', ip: '10.1.0.5', mac: endpoint.mac, state: 'permanent' }])
  const reserved = network(options, { pools: [{ subnet: '10.1.0.0/24' as Cidr, aux: { host: '10.1.0.99' as Ip } }] })
  const [named] = macvlanDriver.membersWanted?.(reserved, members, own) ?? []
  assert.deepEqual([named?.addresses[0]?.address, named?.routes?.[0]?.src], ['10.1.0.99/32', '10.1.0.99'])
  assert.throws(
    () => macvlanDriver.checkHost?.(network(options), host(['eth0']), []),
    /eth0 has none, reserve one with --aux-address host=ADDRESS/,
  )
  assert.throws(
    () => macvlanDriver.validate({ ...network({ ...options, macvlan_mode: 'private' }), subnets: [] }),
    /needs macvlan_mode bridge/,
  )
  assert.deepEqual(macvlanDriver.membersWanted?.(network({ parent: 'eth0' }), members, own), [])
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Ip, parseIp } from '../base/address.ts'
import type { DnsView } from './types.ts'
import { ipOfPtr, NetworkZone, nameKey, ZoneView } from './zone.ts'

const ip = (text: string): Ip => parseIp(text)

function lab(view: Partial<DnsView> = {}) {
  const zones = new Map<string, NetworkZone>()
  const zoneOf = (id: string): NetworkZone => {
    const zone = zones.get(id) ?? new NetworkZone()
    zones.set(id, zone)
    return zone
  }
  zoneOf('n1').set({ endpointId: 'e1', names: ['c1', 'web', 'abcdef012345'], ipv4: ip('10.1.0.2') })
  zoneOf('n1').set({ endpointId: 'e2', names: ['c2', 'web', 'Host.Example'], ipv4: ip('10.1.0.3'), ipv6: ip('fd01::3') })
  zoneOf('n1').set({ endpointId: 'e3', names: ['c1.net1'], ipv4: ip('10.1.0.4') })
  zoneOf('n2').set({ endpointId: 'e4', names: ['c1', 'only6'], ipv6: ip('fd02::2') })
  zoneOf('n2').set({ endpointId: 'e5', names: ['c5'], ipv4: ip('10.2.0.5') })
  const full: DnsView = {
    networks: [
      { id: 'n1', name: 'br.net1', aliases: { db: ['c2'], c5: ['c1'] } },
      { id: 'n2', name: 'net2', aliases: {} },
    ],
    upstreams: [],
    hasGateway: true,
    ndotsSet: false,
    ...view,
  }
  return { zones, zone: new ZoneView(full, zoneOf) }
}

const TABLE: readonly (readonly [name: string, family: 4 | 6, expected: readonly string[] | 'empty' | 'forward', why: string])[] = [
  ['c1', 4, ['10.1.0.2'], 'a container name'],
  ['C1', 4, ['10.1.0.2'], 'names have no case'],
  ['c1.', 4, ['10.1.0.2'], 'a final dot says nothing'],
  ['abcdef012345', 4, ['10.1.0.2'], 'a short id is a name'],
  ['host.example', 4, ['10.1.0.3'], 'a name with dots'],
  ['host', 4, 'forward', 'the short form of a dotted hostname is no name'],
  ['web', 4, ['10.1.0.2', '10.1.0.3'], 'an alias of two endpoints'],
  ['web', 6, ['fd01::3'], 'those that have the family'],
  ['c2', 6, ['fd01::3'], 'IPv6'],
  ['c1', 6, ['fd02::2'], 'the first network that has an address of that family'],
  ['c5', 6, 'empty', 'known in the other family only'],
  ['only6', 4, 'empty', 'known in IPv6 only'],
  ['c1.net2', 6, ['fd02::2'], 'name and network'],
  ['c1.net2', 4, 'empty', 'name and network, other family'],
  ['c1.br.net1', 4, ['10.1.0.2'], 'a network name with a dot'],
  ['c1.BR.Net1', 4, ['10.1.0.2'], 'a network name has no case'],
  ['c1.net1.br.net1', 4, ['10.1.0.4'], 'dots in both'],
  ['c1.net1', 4, ['10.1.0.4'], 'a whole name goes before name and network'],
  ['c1.net1.br.net1.google.com', 4, 'forward', 'a domain behind it'],
  ['c2.net2', 4, 'forward', 'not on that network'],
  ['db', 4, ['10.1.0.3'], "a link's alias"],
  ['db.br.net1', 4, ['10.1.0.3'], "a link's alias and its network"],
  ['db.net2', 4, 'forward', 'an alias belongs to its network'],
  ['c5', 4, ['10.1.0.2'], 'an alias goes before the names of all networks'],
  ['c5.net2', 4, ['10.2.0.5'], 'the hidden endpoint with its network'],
  ['nobody', 4, 'forward', 'unknown'],
  ['example.com', 4, 'forward', 'unknown with a dot'],
]

for (const [name, family, expected, why] of TABLE) {
  test(`${name} ${family === 4 ? 'A' : 'AAAA'}: ${why}`, () => {
    const answer = lab().zone.resolveAddress(nameKey(name), family)
    const got = answer === undefined ? 'forward' : answer.kind === 'addresses' ? answer.addresses : answer.kind
    assert.deepEqual(got, expected)
  })
}

test('with ndots set, unknown names without a dot are answered empty, those with a dot are forwarded', () => {
  const { zone } = lab({ ndotsSet: true })
  assert.deepEqual(zone.resolveAddress('nobody', 4), { kind: 'empty' })
  assert.equal(zone.resolveAddress('nobody.example', 4), undefined)
})

test('the gateway order of networks decides', () => {
  const { zones } = lab()
  const networks = ['n2', 'n1'].map((id) => ({ id, name: id, aliases: {} }))
  zones.get('n2')?.set({ endpointId: 'x', names: ['c1'], ipv4: ip('10.2.0.9') })
  const zone = new ZoneView({ networks, upstreams: [], hasGateway: true, ndotsSet: false }, (id) => zones.get(id) as NetworkZone)
  assert.deepEqual(zone.resolveAddress('c1', 4), { kind: 'addresses', family: 4, addresses: ['10.2.0.9'] })
})

test('a reverse name gives the first name and the network, in both families', () => {
  const { zone } = lab()
  assert.deepEqual(zone.resolvePtr('3.0.1.10.in-addr.arpa'), { kind: 'ptr', target: 'c2.br.net1' })
  const nibbles = '3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.d.f.ip6.arpa'
  assert.deepEqual(zone.resolvePtr(nibbles), { kind: 'ptr', target: 'c2.br.net1' })
  assert.equal(zone.resolvePtr('9.9.9.9.in-addr.arpa'), undefined)
})

test('a reverse name that an upstream confirmed is the upstream’s', () => {
  const { zone, zones } = lab()
  zones.get('n1')?.sawUpstream('c9', ip('10.1.0.3'))
  assert.notEqual(zone.resolvePtr('3.0.1.10.in-addr.arpa'), undefined)
  zones.get('n1')?.sawUpstream('c2', ip('10.1.0.3'))
  assert.equal(zone.resolvePtr('3.0.1.10.in-addr.arpa'), undefined)
})

test('malformed reverse names are not ours', () => {
  for (const name of [
    '1.2.3.in-addr.arpa',
    '1.2.3.4.5.in-addr.arpa',
    '300.1.1.1.in-addr.arpa',
    'in-addr.arpa',
    'x.ip6.arpa',
    '1.2.ip6.arpa',
  ])
    assert.equal(ipOfPtr(name), undefined, name)
})

test('renaming replaces all names, removing takes them away', () => {
  const { zone, zones } = lab()
  const before = zone.generation()
  zones.get('n1')?.set({ endpointId: 'e1', names: ['renamed'], ipv4: ip('10.1.0.2') })
  assert.ok(zone.generation() > before)
  assert.deepEqual(zone.resolveAddress('renamed', 4), { kind: 'addresses', family: 4, addresses: ['10.1.0.2'] })
  assert.deepEqual(zone.resolveAddress('web', 4), { kind: 'addresses', family: 4, addresses: ['10.1.0.3'] })
  zones.get('n1')?.remove('e1')
  assert.equal(zone.resolveAddress('renamed', 4), undefined)
  zones.get('n2')?.clear()
  assert.equal(zone.resolveAddress('only6', 6), undefined)
})

test('only ASCII letters lose their case', () => {
  assert.equal(nameKey('ÄB.'), Buffer.from('Äb').toString('latin1'))
})

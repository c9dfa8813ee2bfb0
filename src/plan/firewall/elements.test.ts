import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseIp, parseMac } from '../../base/address.ts'
import { hasCode } from '../../base/errors.ts'
import { hex } from '../../base/ids.ts'
import { diffElements, type NftElement } from '../../model/nft-element.ts'
import { endpointElements, type FirewallNetwork, type FirewallPort, linkElements, networkElements, portElements } from './elements.ts'
import { ElementLedger } from './ledger.ts'
import { DROP_REASONS, GUARD_REASONS, renderTables } from './tables.ts'

const NETWORK: FirewallNetwork = {
  id: '0123456789abcdef',
  bridge: 'br-1',
  mode4: 'nat',
  mode6: 'nat',
  internal: false,
  icc: true,
  masquerade: true,
  trusted: [],
}

const PORT: FirewallPort = {
  proto: 'tcp',
  hostIp: parseIp('0.0.0.0'),
  hostPort: 8080,
  count: 1,
  containerIp: parseIp('172.17.0.2'),
  containerPort: 80,
  bridge: 'br-1',
  routed: false,
}

const verdicts = (n: Partial<FirewallNetwork>): Record<string, string> =>
  Object.fromEntries(
    networkElements({ ...NETWORK, ...n })
      .filter((e) => e.verdict !== undefined)
      .map((e) => [`${e.set}${e.key.length === 32 && e.key[0] !== 98 ? ' trusted' : ''}`, JSON.stringify(e.verdict).replace(/[{}"]/g, '')]),
  )

const text = (e: NftElement): string => `${e.set} ${hex(e.key)}${e.keyEnd ? `-${hex(e.keyEnd)}` : ''}${e.data ? ` : ${hex(e.data)}` : ''}`

test('network: the mode of each family decides where packets to the bridge go', () => {
  assert.deepEqual(verdicts({ mode6: 'routed' }), {
    from: 'goto:ours',
    into: 'goto:ours',
    pairs: 'goto:pass',
    to4: 'goto:to_nat',
    to6: 'goto:to_routed',
    masq4: 'goto:masquerade_out',
  })
  assert.equal(verdicts({ mode4: 'nat-unprotected' })['to4'], 'goto:to_open')
  assert.equal(verdicts({ icc: false })['pairs'], 'goto:closed')
  assert.equal(verdicts({ snat4: parseIp('192.0.2.9') })['masq4'], 'goto:snat_out')
  assert.equal(verdicts({ trusted: ['tun0', 'tun0'] })['pairs trusted'], 'jump:trusted')
})

test('network: an internal one lets nothing in or out and is never translated, whatever else it says', () => {
  assert.deepEqual(verdicts({ internal: true, trusted: ['tun0'], snat4: parseIp('192.0.2.9') }), {
    from: 'goto:sealed_out',
    into: 'goto:sealed_in',
    pairs: 'goto:pass',
    to4: 'goto:sealed_in',
    to6: 'goto:sealed_in',
  })
})

test('network: without masquerading nothing is translated', () => {
  assert.deepEqual(
    networkElements({ ...NETWORK, masquerade: false }).filter((e) => /masq|snat|natted/.test(e.set)),
    [],
  )
})

test('network: a bridge name that cannot be an interface name is refused', () => {
  for (const bridge of ['', 'sixteen-letters-'])
    assert.throws(
      () => networkElements({ ...NETWORK, bridge }),
      (error) => hasCode(error, 'invalid'),
    )
})

test('port: one host port is one map element and one opening', () => {
  assert.deepEqual(portElements(PORT).map(text), ['dnat4_any 060000001f900000 : ac11000200500000', 'open4 ac1100020600000000500000'])
  assert.deepEqual(
    portElements({ ...PORT, hostIp: parseIp('127.0.0.1') }).map(text)[0],
    'dnat4 7f000001060000001f900000 : ac11000200500000',
  )
})

test('port: a range with equal numbers is one element however long, a shifted one an element per port', () => {
  const range = { ...PORT, proto: 'udp' as const, hostPort: 10000, containerPort: 10000, count: 40000 }
  assert.deepEqual(portElements(range).map(text), [
    'dnat4_any_range 1100000027100000-11000000c34f0000 : ac110002',
    'open4_range ac1100021100000027100000-ac11000211000000c34f0000',
  ])
  const shifted = portElements({ ...range, count: 3, hostPort: 20000 })
  assert.deepEqual(
    shifted.map((e) => e.set),
    ['dnat4_any', 'dnat4_any', 'dnat4_any', 'open4_range'],
  )
  assert.equal(text(shifted[2] as NftElement), 'dnat4_any 110000004e220000 : ac11000227120000')
})

test('port: a host address of the other family is left to a relay, a routed port has only its opening', () => {
  assert.deepEqual(portElements({ ...PORT, hostIp: parseIp('::') }), [])
  assert.deepEqual(
    portElements({ ...PORT, routed: true, hostPort: 0 }).map((e) => e.set),
    ['open4'],
  )
})

test('port: numbers beyond 65535 are refused', () => {
  for (const wrong of [{ hostPort: 0 }, { hostPort: 65536 }, { hostPort: 65000, containerPort: 65000, count: 1000 }, { count: 0 }])
    assert.throws(
      () => portElements({ ...PORT, ...wrong }),
      (error) => hasCode(error, 'invalid'),
    )
})

test('endpoint: every address is tied to port and MAC, and nothing is there without the guard', () => {
  const endpoint = {
    hostIf: 'veth1',
    bridge: 'br-1',
    mac: parseMac('02:00:00:00:00:01'),
    ips: [parseIp('10.0.0.2'), parseIp('fd00::2')],
    guard: true,
  }
  assert.deepEqual(
    endpointElements(endpoint).map((e) => `${e.family} ${e.set} ${e.key.length}`),
    ['bridge guarded 16', 'bridge own_mac 24', 'bridge own4 28', 'bridge own6 40', 'bridge own_target 32'],
  )
  assert.deepEqual(endpointElements({ ...endpoint, guard: false }), [])
})

test('link: it names both ends and refuses mixed families', () => {
  const link = { bridge: 'docker0', from: parseIp('10.0.0.2'), to: parseIp('10.0.0.3'), proto: 'tcp' as const, port: 80 }
  assert.deepEqual(linkElements(link).map(text), ['links4 0a0000020a0000030600000000500000'])
  assert.throws(() => linkElements({ ...link, to: parseIp('fd00::1') }), /different families/)
})

test('ledger: an element goes when the last that wants it goes', () => {
  const ledger = new ElementLedger()
  const one = portElements(PORT)
  const two = portElements({ ...PORT, hostPort: 8081 })
  assert.equal(ledger.take(one).length, 2)
  assert.deepEqual(
    ledger.take(two).map((e) => e.set),
    ['dnat4_any'],
  )
  assert.deepEqual(
    ledger.release(one).map((e) => e.set),
    ['dnat4_any'],
  )
  assert.deepEqual(
    ledger.release(two).map((e) => e.set),
    ['dnat4_any', 'open4'],
  )
  assert.deepEqual(ledger.release(two), [])
  assert.deepEqual(ledger.elements(), [])
})

test('diff: equal sets need nothing, another value is taken out and put in, comments do not count', () => {
  const [dnat, open] = portElements(PORT) as [NftElement, NftElement]
  assert.deepEqual(diffElements([dnat, open], [{ ...open, comment: 'x' }, dnat, dnat]), { add: [], remove: [] })
  const moved = { ...dnat, data: Uint8Array.of(1, 2, 3, 4, 0, 80, 0, 0) }
  assert.deepEqual(diffElements([dnat], [moved]), { add: [moved], remove: [dnat] })
})

test('tables: every set that elements name is declared, and every reason is used by a rule', () => {
  const rules = renderTables()
  const elements = [
    ...networkElements({ ...NETWORK, snat4: parseIp('192.0.2.1'), snat6: parseIp('fd00::1') }),
    ...['10.0.0.2', 'fd00::2'].flatMap((ip) =>
      (['0.0.0.0', '::', '127.0.0.1', '::1'] as const).flatMap((host) => [
        ...portElements({ ...PORT, containerIp: parseIp(ip), hostIp: parseIp(host) }),
        ...portElements({ ...PORT, containerIp: parseIp(ip), hostIp: parseIp(host), containerPort: 8080, count: 5 }),
      ]),
    ),
    ...endpointElements({
      hostIf: 'v',
      bridge: 'b',
      mac: parseMac('02:00:00:00:00:01'),
      ips: [parseIp('10.0.0.2'), parseIp('fd00::2')],
      guard: true,
    }),
  ]
  for (const { set } of elements) assert.match(rules, new RegExp(`(set|map) ${set} \\{`), set)
  for (const e of elements) {
    const verdict = e.verdict
    const chain = typeof verdict === 'object' ? ('goto' in verdict ? verdict.goto : verdict.jump) : undefined
    if (chain !== undefined) assert.match(rules, new RegExp(`chain ${chain} \\{`), chain)
  }
  for (const name of [...Object.keys(DROP_REASONS), ...Object.keys(GUARD_REASONS)])
    assert.match(rules, new RegExp(`counter name "${name}" drop comment`), name)
})

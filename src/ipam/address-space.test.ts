import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withSeeds } from '../../testkit/random.ts'
import { type Cidr, cidrOverlaps, type Ip, ipToBigInt } from '../base/address.ts'
import { type ErrorCode, NetError } from '../base/errors.ts'
import { AddressSpace, type PoolRequest } from './address-space.ts'

const fresh = (pools: { base: string; size: number }[] = []) =>
  new AddressSpace({ hostId: 'test-host', pools: pools.map(({ base, size }) => ({ base: base as Cidr, size })) })
const v4 = (space: AddressSpace, subnet?: string, more: Partial<PoolRequest> = {}) =>
  space.requestPool({ family: 4, ...(subnet === undefined ? {} : { subnet }), ...more })
const ip = (text: string) => text as Ip
const next = (space: AddressSpace, key: string, holder = 'c') => space.requestAddress(key, { holder })
const fails = (code: ErrorCode, text: string | RegExp, fn: () => unknown) =>
  assert.throws(fn, (error) => {
    assert.ok(error instanceof NetError)
    assert.equal(error.code, code)
    assert.match(error.message, typeof text === 'string' ? new RegExp(`^${text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&')}`) : text)
    return true
  })

test('subnets come from the documented pools, lowest first, and a released one is used again at once', () => {
  const space = fresh()
  const got = Array.from({ length: 31 }, () => v4(space))
  assert.deepEqual(
    got.map((p) => p.subnet),
    [...Array.from({ length: 15 }, (_, i) => `172.${17 + i}.0.0/16`), ...Array.from({ length: 16 }, (_, i) => `192.168.${16 * i}.0/20`)],
  )
  assert.equal(v4(space).subnet, '10.112.0.0/24')
  space.releasePool(got[3]?.key as string)
  space.releasePool(got[3]?.key as string)
  assert.equal(v4(space).subnet, '172.20.0.0/16')
  assert.equal(v4(space).subnet, '10.112.1.0/24')
})

test('2,000 networks need no configuration and none overlaps another', () => {
  const space = fresh()
  const subnets = Array.from({ length: 2000 }, () => v4(space).subnet)
  const sorted = [...subnets].sort((a, b) => (ipToBigInt(a.split('/')[0] as Ip) < ipToBigInt(b.split('/')[0] as Ip) ? -1 : 1))
  for (let i = 1; i < sorted.length; i++)
    assert.ok(!cidrOverlaps(sorted[i - 1] as Cidr, sorted[i] as Cidr), `${sorted[i - 1]} ${sorted[i]}`)
})

test('configured pools replace the documented ones, are sorted, and their end is a clear error', () => {
  const space = fresh([
    { base: '10.20.0.0/23', size: 24 },
    { base: '10.10.0.0/24', size: 26 },
  ])
  const subnets = Array.from({ length: 6 }, () => v4(space).subnet)
  assert.deepEqual(subnets, ['10.10.0.0/26', '10.10.0.64/26', '10.10.0.128/26', '10.10.0.192/26', '10.20.0.0/24', '10.20.1.0/24'])
  fails('invalid', 'all predefined address pools have been fully subnetted: 10.10.0.0/24 by /26, 10.20.0.0/23 by /24', () => v4(space))
  fails('invalid', /^invalid size value/, () => fresh([{ base: '10.0.0.0/24', size: 16 }]))
  fails('invalid', /^invalid size value/, () => fresh([{ base: '10.0.0.0/24', size: 33 }]))
})

test('automatic choice keeps away from what the host uses, a subnet asked for by name does not', () => {
  const space = fresh()
  const reserved = ['172.17.5.0/24', '172.18.0.10/32', '172.20.0.0/14', 'fd00::/8'] as Cidr[]
  assert.equal(v4(space, undefined, { reserved }).subnet, '172.19.0.0/16')
  assert.equal(v4(space, undefined, { reserved }).subnet, '172.24.0.0/16')
  assert.equal(v4(space, '172.18.0.0/16', { reserved }).subnet, '172.18.0.0/16')
})

test('subnets behind a gateway are avoided only as long as something else is free', () => {
  const space = fresh([{ base: '10.0.0.0/22', size: 24 }])
  const avoid = ['10.0.0.0/23'] as Cidr[]
  const reserved = ['10.0.3.0/24'] as Cidr[]
  const subnets = Array.from({ length: 3 }, () => v4(space, undefined, { avoid, reserved }).subnet)
  assert.deepEqual(subnets, ['10.0.2.0/24', '10.0.0.0/24', '10.0.1.0/24'])
  fails('invalid', 'all predefined', () => v4(space, undefined, { avoid, reserved }))
})

test('an unspecified subnet is any subnet of that size', () => {
  const space = fresh()
  for (const taken of ['172.17.0.0/16', '172.18.0.0/16', '172.19.0.0/16']) v4(space, taken)
  assert.equal(v4(space, '0.0.0.0/24').subnet, '172.20.0.0/24')
  assert.equal(v4(space, '0.0.0.0/24').subnet, '172.20.1.0/24')
  assert.equal(v4(space).subnet, '172.21.0.0/16')
  assert.equal(v4(space, '0.0.0.0/15').subnet, '172.22.0.0/15')
  assert.match(space.requestPool({ family: 6, subnet: '::/120' }).subnet, /^fd.*\/120$/)
})

test('IPv6 subnets come from a /48 below fd00::/8 that belongs to the host', () => {
  const take = (hostId: string) => {
    const space = new AddressSpace({ hostId })
    return [space.requestPool({ family: 6 }).subnet, space.requestPool({ family: 6 }).subnet]
  }
  const [first, second] = take('one')
  // sha256("one") starts 7692c3ad35: echo -n one | sha256sum
  assert.equal(first, 'fd76:92c3:ad35::/64')
  assert.equal(second, 'fd76:92c3:ad35:1::/64')
  assert.notEqual(take('two')[0], first)
  const space = fresh([{ base: '2001:db8::/56', size: 64 }])
  assert.equal(space.requestPool({ family: 6 }).subnet, '2001:db8::/64')
  assert.equal(v4(space).subnet, '172.17.0.0/16')
})

test('an overlapping subnet is denied with its owner named, unless a sharing driver gives an ip-range', () => {
  const space = fresh()
  v4(space, '10.1.0.0/16', { holder: 'network "a"' })
  const text = 'invalid pool request: Pool overlaps with other one on this address space: 10.1.2.0/24 overlaps 10.1.0.0/16 of network "a"'
  fails('denied', text, () => v4(space, '10.1.2.0/24'))
  fails('denied', text, () => v4(space, '10.1.2.0/24', { shared: true }))
  fails('denied', text, () => v4(space, '10.1.2.0/24', { ipRange: '10.1.2.0/25' }))
  fails('denied', /Pool overlaps/, () => v4(space, '10.0.0.0/8'))
  assert.equal(v4(space, '10.1.2.0/24', { shared: true, ipRange: '10.1.2.0/25' }).subnet, '10.1.2.0/24')
  assert.equal(v4(space, '10.2.0.0/16').subnet, '10.2.0.0/16')
})

test('two networks that share a subnet never hand out the same address, and each release frees only its own', () => {
  const space = fresh()
  const a = v4(space, '192.168.9.0/24', { shared: true, ipRange: '192.168.9.64/29', holder: 'network "a"' })
  const b = v4(space, '192.168.9.0/24', { shared: true, ipRange: '192.168.9.64/29', holder: 'network "b"' })
  assert.notEqual(a.key, b.key)
  const seen = [next(space, a.key), next(space, b.key), next(space, a.key), next(space, b.key)]
  assert.deepEqual(seen, ['192.168.9.64', '192.168.9.65', '192.168.9.66', '192.168.9.67'])
  fails('denied', 'Address already in use: 192.168.9.65 belongs to b1', () => {
    space.releaseAddress(b.key, ip('192.168.9.65'))
    space.requestAddress(b.key, { ip: ip('192.168.9.65'), holder: 'b1' })
    space.requestAddress(a.key, { ip: ip('192.168.9.65'), holder: 'a9' })
  })
  space.releaseAddress(a.key, ip('192.168.9.65')) // not a's: nothing happens
  assert.equal(next(space, a.key), '192.168.9.68')
  space.releasePool(a.key)
  assert.equal(next(space, b.key), '192.168.9.64')
  fails('denied', /Pool overlaps/, () => v4(space, '192.168.9.0/25'))
  space.releasePool(b.key)
  v4(space, '192.168.9.0/25')
})

test('a subnet stays taken while any network over it lives, in whatever order they go', () => {
  const space = fresh()
  const bridge = v4(space, '10.1.0.0/16')
  const macvlan = v4(space, '10.1.2.0/24', { shared: true, ipRange: '10.1.2.0/25' })
  space.releasePool(bridge.key)
  fails('denied', /Pool overlaps/, () => v4(space, '10.1.2.128/25'))
  v4(space, '10.1.3.0/24')
  space.releasePool(macvlan.key)
  v4(space, '10.1.2.128/25')
})

test('addresses are the lowest free ones, reused at once; the gateway is the first', () => {
  const space = fresh()
  const { key } = v4(space, '10.0.0.0/29')
  assert.equal(space.requestGateway(key, undefined), '10.0.0.1')
  assert.deepEqual([next(space, key), next(space, key), next(space, key)], ['10.0.0.2', '10.0.0.3', '10.0.0.4'])
  space.releaseAddress(key, ip('10.0.0.3'))
  space.releaseAddress(key, ip('10.0.0.3'))
  assert.equal(next(space, key), '10.0.0.3')
})

test('an ip-range: gateway and addresses from it, its first and last usable, addresses outside by name', () => {
  const space = fresh()
  const range = v4(space, '192.168.50.0/24', { ipRange: '192.168.50.64/30' })
  assert.equal(range.ipRange, '192.168.50.64/30')
  assert.equal(space.requestGateway(range.key, undefined), '192.168.50.64')
  assert.deepEqual(
    [next(space, range.key), next(space, range.key), next(space, range.key)],
    ['192.168.50.65', '192.168.50.66', '192.168.50.67'],
  )
  fails('unavailable', 'no available IPv4 addresses', () => next(space, range.key))
  assert.equal(space.requestAddress(range.key, { ip: ip('192.168.50.200'), holder: 'c' }), '192.168.50.200')
  // bip 10.2.2.1/16 with fixed-cidr 10.2.2.0/24
  const fixed = v4(space, '10.2.0.0/16', { ipRange: '10.2.2.0/24' })
  space.requestGateway(fixed.key, ip('10.2.2.1'))
  assert.deepEqual([next(space, fixed.key), next(space, fixed.key)], ['10.2.2.0', '10.2.2.2'])
})

test('network and broadcast address are not given out, except in /31 and /32; of IPv6 only the first is kept back', () => {
  const space = fresh()
  const all = (subnet: string) => {
    const { key } = space.requestPool({ family: subnet.includes(':') ? 6 : 4, subnet })
    const got: string[] = []
    for (;;) {
      try {
        got.push(next(space, key))
      } catch {
        return got
      }
    }
  }
  assert.deepEqual(all('10.0.0.0/30'), ['10.0.0.1', '10.0.0.2'])
  assert.deepEqual(all('10.0.1.0/31'), ['10.0.1.0', '10.0.1.1'])
  assert.deepEqual(all('10.0.2.7/32'), ['10.0.2.7'])
  assert.deepEqual(all('fd00:1::/126'), ['fd00:1::1', 'fd00:1::2', 'fd00:1::3'])
  const { key } = v4(space, '10.9.0.0/24')
  fails('denied', 'Address already in use: 10.9.0.255 belongs to the subnet itself', () =>
    space.requestAddress(key, { ip: ip('10.9.0.255'), holder: 'c' }),
  )
  fails('denied', /network address/, () => space.requestAddress(key, { ip: ip('10.9.0.0'), holder: 'c' }))
  fails('invalid', 'requested address is out of range: 10.8.0.1', () => space.requestAddress(key, { ip: ip('10.8.0.1'), holder: 'c' }))
})

test('errors about gateways carry the documented words', () => {
  const space = fresh()
  const { key } = v4(space, '10.9.0.0/24', { holder: 'network "n"' })
  space.requestAddress(key, { ip: ip('10.9.0.1'), holder: 'auxiliary address "x"' })
  fails('denied', 'failed to allocate gateway (10.9.0.1): Address already in use: 10.9.0.1 belongs to auxiliary address "x"', () =>
    space.requestGateway(key, ip('10.9.0.1')),
  )
  fails('invalid', 'failed to allocate gateway (10.8.0.1): requested address is out of range', () =>
    space.requestGateway(key, ip('10.8.0.1')),
  )
})

test('a full network says who holds its addresses', () => {
  const space = fresh()
  const { key } = v4(space, '10.0.0.0/30', { holder: 'network "small"' })
  space.requestGateway(key, undefined)
  next(space, key, 'container "c1"')
  assert.throws(() => space.requestAddress(key, { holder: 'c2', network: 'small (1f2e)' }), {
    message:
      'no available IPv4 addresses on this network\'s address pools: small (1f2e) (10.0.0.0/30 is held by 10.0.0.1 gateway of network "small", 10.0.0.2 container "c1")',
  })
  const big = v4(space, '10.1.0.0/24')
  for (let i = 0; i < 254; i++) next(space, big.key, `c${i}`)
  fails('unavailable', /10\.1\.0\.1 c0, .* and 246 more\)$/, () => next(space, big.key))
})

test('usage counts what cannot be given out, and what is free in the range', () => {
  const space = fresh()
  const { key } = v4(space, '192.168.77.0/24', { shared: true, ipRange: '192.168.77.64/30' })
  assert.deepEqual(space.usage(key), { ipsInUse: 2n, dynamicAvailable: 4n })
  space.requestGateway(key, ip('192.168.77.1'))
  for (const aux of ['192.168.77.65', '192.168.77.128']) space.requestAddress(key, { ip: ip(aux), holder: 'aux' })
  assert.equal(next(space, key), '192.168.77.64')
  assert.deepEqual(space.usage(key), { ipsInUse: 6n, dynamicAvailable: 2n })
  // an address of another network over the same subnet counts here too
  const other = v4(space, '192.168.77.0/24', { shared: true, ipRange: '192.168.77.64/30' })
  assert.equal(next(space, other.key), '192.168.77.66')
  assert.deepEqual(space.usage(key), { ipsInUse: 7n, dynamicAvailable: 1n })
  const plain = v4(space, '10.0.0.0/24')
  space.requestGateway(plain.key, undefined)
  assert.deepEqual(space.usage(plain.key), { ipsInUse: 3n, dynamicAvailable: 253n })
  const six = space.requestPool({ family: 6, subnet: 'fd00:5::/64' })
  assert.deepEqual(space.usage(six.key), { ipsInUse: 1n, dynamicAvailable: 2n ** 64n - 1n })
  const wide = space.requestPool({ family: 6, subnet: 'fd00:6::/48' })
  assert.equal(space.usage(wide.key).dynamicAvailable, 2n ** 64n - 1n)
})

test('declared static addresses are never taken by others, whatever the order of starts', () => {
  withSeeds(300, (random) => {
    const space = fresh()
    const { key } = v4(space, '10.0.0.0/27')
    space.requestGateway(key, undefined)
    const statics = new Map(['a', 'b', 'c', 'd'].map((name, i) => [name, ip(`10.0.0.${2 + 2 * i + random.below(2)}`)]))
    for (const [name, address] of statics) space.reserve(key, address, name)
    const starts = random.shuffled([...statics.keys(), 'e', 'f', 'g', 'h', 'i', 'j'])
    const seen = new Set<string>()
    for (const name of starts) {
      const wanted = statics.get(name)
      const got = space.requestAddress(key, { holder: name, ...(wanted === undefined ? {} : { ip: wanted }) })
      assert.ok(!seen.has(got))
      seen.add(got)
      if (wanted !== undefined) assert.equal(got, wanted)
    }
  })
})

test('declared static addresses are used when nothing else is free, and are free again when taken back by all', () => {
  const space = fresh()
  const { key } = v4(space, '10.0.0.0/29')
  for (const holder of ['x', 'y']) space.reserve(key, ip('10.0.0.1'), holder)
  space.reserve(key, ip('10.0.0.3'), 'x')
  assert.deepEqual(space.usage(key), { ipsInUse: 2n, dynamicAvailable: 6n })
  const order = Array.from({ length: 6 }, () => next(space, key))
  assert.deepEqual(order, ['10.0.0.2', '10.0.0.4', '10.0.0.5', '10.0.0.6', '10.0.0.1', '10.0.0.3'])
  for (const address of order) space.releaseAddress(key, address)
  space.unreserve(key, ip('10.0.0.1'), 'x')
  assert.equal(next(space, key), '10.0.0.2')
  space.unreserve(key, ip('10.0.0.1'), 'y')
  space.unreserve(key, ip('10.0.0.1'), 'y')
  assert.equal(next(space, key), '10.0.0.1')
  fails('invalid', 'requested address is out of range', () => space.reserve(key, ip('10.0.1.1'), 'x'))
})

test('serial order goes round the range before it reuses an address', () => {
  const space = fresh()
  const { key } = v4(space, '10.0.0.0/29', { serial: true })
  const take = () => {
    const got = next(space, key)
    space.releaseAddress(key, got)
    return got
  }
  assert.deepEqual(
    Array.from({ length: 8 }, take),
    [1, 2, 3, 4, 5, 6, 1, 2].map((n) => `10.0.0.${n}`),
  )
})

test('a restored pool comes back as it was, also when the configuration would choose otherwise now', () => {
  const before = fresh()
  const got = v4(before)
  before.requestGateway(got.key, undefined)
  const after = fresh([{ base: '10.0.0.0/16', size: 24 }])
  const key = after.restorePool({ subnet: got.subnet, gateway: ip('172.17.0.1'), aux: [ip('172.17.0.3')], holder: 'network "n"' })
  assert.equal(after.requestAddress(key, { ip: ip('172.17.0.2'), holder: 'restored' }), '172.17.0.2')
  assert.equal(next(after, key), '172.17.0.4')
  fails('denied', /172\.17\.0\.0\/16 of network "n"/, () => v4(after, '172.17.3.0/24'))
  after.releasePool(key)
  v4(after, '172.17.3.0/24')
})

test('texts that are no pool request are refused with the documented words', () => {
  const head = (pool: string, sub: string) =>
    `failed to parse pool request for address space "LocalDefault" pool "${pool}" subpool "${sub}": `
  const space = fresh()
  fails('invalid', `${head('', '10.0.0.0/24')}invalid address subpool`, () => v4(space, undefined, { ipRange: '10.0.0.0/24' }))
  fails('invalid', `${head('10.0.0.0/24', '10.0.1.0/25')}invalid address subpool`, () =>
    v4(space, '10.0.0.0/24', { ipRange: '10.0.1.0/25' }),
  )
  fails('invalid', `${head('10.0.0.0/24', '10.0.0.0/16')}invalid address subpool`, () =>
    v4(space, '10.0.0.0/24', { ipRange: '10.0.0.0/16' }),
  )
  fails('invalid', `${head('0.0.0.0/24', '10.0.0.0/25')}invalid address subpool`, () => v4(space, '0.0.0.0/24', { ipRange: '10.0.0.0/25' }))
  fails('invalid', `${head('x', '')}invalid address pool`, () => v4(space, 'x'))
  fails('invalid', `${head('fd00::/64', '')}invalid address pool`, () => v4(space, 'fd00::/64'))
  assert.equal(v4(space).subnet, '172.17.0.0/16')
})

test('any sequence of requests and releases gives what a naive model gives', () => {
  withSeeds(60, (random) => {
    const space = fresh()
    const subnet = random.pick(['10.5.0.0/27', '10.5.0.0/28', '10.5.0.0/31', 'fd05::/123'])
    const six = subnet.includes(':')
    const size = 2 ** ((six ? 128 : 32) - Number(subnet.split('/')[1]))
    const at = (n: number) => ip(six ? `fd05::${n === 0 ? '' : n.toString(16)}` : `10.5.0.${n}`)
    const half = random.below(3) === 0 && size > 8
    const { key } = space.requestPool({
      family: six ? 6 : 4,
      subnet,
      ...(half ? { ipRange: six ? 'fd05::10/124' : `10.5.0.${size / 2}/${33 - Math.log2(size)}` } : {}),
    })
    const [from, to] = half ? [size / 2, size - 1] : [0, size - 1]
    const excluded = new Set(six ? [0] : size > 2 ? [0, size - 1] : [])
    const used = new Map<number, string>()
    const statics = new Map<number, string>()
    const lowest = (spare: boolean) => {
      for (let n = from; n <= to; n++) if (!excluded.has(n) && !used.has(n) && !(spare && statics.has(n))) return n
      return undefined
    }
    for (let step = 0; step < 300; step++) {
      const n = random.below(size)
      switch (random.below(5)) {
        case 0:
        case 1: {
          const expected = lowest(true) ?? lowest(false)
          if (expected === undefined) fails('unavailable', 'no available', () => next(space, key))
          else {
            assert.equal(next(space, key), at(expected))
            used.set(expected, 'c')
          }
          break
        }
        case 2:
          if (used.has(n) || excluded.has(n))
            fails('denied', 'Address already in use', () => space.requestAddress(key, { ip: at(n), holder: 'c' }))
          else {
            space.requestAddress(key, { ip: at(n), holder: 'c' })
            used.set(n, 'c')
          }
          break
        case 3:
          space.releaseAddress(key, at(n))
          used.delete(n)
          break
        default:
          if (random.below(2) === 0) {
            space.reserve(key, at(n), 's')
            statics.set(n, 's')
          } else {
            space.unreserve(key, at(n), 's')
            statics.delete(n)
          }
      }
      const taken = new Set([...used.keys(), ...excluded])
      const free = Array.from({ length: to - from + 1 }, (_, i) => from + i).filter((m) => !taken.has(m)).length
      assert.deepEqual(space.usage(key), { ipsInUse: BigInt(taken.size), dynamicAvailable: BigInt(free) })
      assert.equal(space.holders(key).length, used.size)
    }
  })
})

test('any sequence of pools taken and released never overlaps and always gives the lowest free subnet', () => {
  withSeeds(20, (random) => {
    const space = fresh([{ base: '10.0.0.0/24', size: 28 }])
    const live = new Map<string, Cidr>()
    for (let step = 0; step < 200; step++) {
      if (random.below(2) === 0 && live.size > 0) {
        const key = random.pick([...live.keys()])
        space.releasePool(key)
        live.delete(key)
        continue
      }
      const size = random.pick([28, 28, 27, 29])
      const reserved = random.below(4) === 0 ? ([`10.0.0.${random.below(256)}/32`] as Cidr[]) : []
      const candidates = Array.from({ length: 2 ** (size - 24) }, (_, i) => `10.0.0.${i * 2 ** (32 - size)}/${size}` as Cidr)
      const expected = candidates.find((c) => ![...live.values(), ...reserved].some((other) => cidrOverlaps(c, other)))
      const ask = () => v4(space, size === 28 ? undefined : `0.0.0.0/${size}`, { reserved })
      if (expected === undefined) fails('invalid', 'all predefined', ask)
      else {
        const got = ask()
        assert.equal(got.subnet, expected)
        live.set(got.key, got.subnet)
      }
    }
  })
})

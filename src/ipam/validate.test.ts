import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NetError } from '../base/errors.ts'
import type { IpamPoolRequest } from '../model/network.ts'
import { validateIpam } from './validate.ts'

const HEAD = 'invalid network config:\n'
const cases: readonly [what: string, config: IpamPoolRequest | IpamPoolRequest[], message: string | undefined, enableIpv6?: boolean][] = [
  ['nothing', {}, undefined],
  ['a subnet', { subnet: '10.1.0.0/16' }, undefined],
  ['everything', { subnet: '10.1.0.0/16', ipRange: '10.1.5.0/24', gateway: '10.1.0.9', aux: { a: '10.1.255.254' } }, undefined],
  ['a range as large as its subnet', { subnet: '10.1.0.0/16', ipRange: '10.1.0.0/16' }, undefined],
  ['IPv6', { subnet: 'fd00:1::/64', gateway: 'fd00:1::9', ipRange: 'fd00:1::/80' }, undefined, true],
  ['any subnet of a size', { subnet: '0.0.0.0/24' }, undefined],
  ['host bits', { subnet: '10.1.2.3/16' }, 'invalid subnet 10.1.2.3/16: it should be 10.1.0.0/16'],
  ['IPv6 host bits', { subnet: 'fd00:1::5/64' }, 'invalid subnet fd00:1::5/64: it should be fd00:1::/64', true],
  ['no CIDR', { subnet: '10.1.0.0' }, 'invalid subnet 10.1.0.0: invalid CIDR block notation'],
  ['a prefix that is too long', { subnet: '10.1.0.0/33' }, 'invalid subnet 10.1.0.0/33: invalid CIDR block notation'],
  [
    'a range of the other family',
    { subnet: '10.1.0.0/16', ipRange: 'fd00::/80' },
    'invalid ip-range fd00::/80: parent subnet is an IPv4 block',
  ],
  [
    'an IPv4 range of an IPv6 subnet',
    { subnet: 'fd00::/64', ipRange: '10.0.0.0/24' },
    'invalid ip-range 10.0.0.0/24: parent subnet is an IPv6 block',
    true,
  ],
  [
    'a range bigger than its subnet',
    { subnet: '10.1.0.0/16', ipRange: '10.0.0.0/8' },
    'invalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.1.0.0/16',
  ],
  ['a range with host bits', { subnet: '10.1.0.0/16', ipRange: '10.1.5.1/24' }, 'invalid ip-range 10.1.5.1/24: it should be 10.1.5.0/24'],
  [
    'a range elsewhere',
    { subnet: '10.1.0.0/16', ipRange: '10.2.5.0/24' },
    "invalid ip-range 10.2.5.0/24: parent subnet 10.1.0.0/16 doesn't contain ip-range",
  ],
  ['a range that is no CIDR', { subnet: '10.1.0.0/16', ipRange: 'x' }, 'invalid ip-range x: invalid CIDR block notation'],
  [
    'a gateway elsewhere',
    { subnet: '10.1.0.0/16', gateway: '10.2.0.1' },
    "invalid gateway 10.2.0.1: parent subnet 10.1.0.0/16 doesn't contain this address",
  ],
  [
    'a gateway of the other family',
    { subnet: '10.1.0.0/16', gateway: 'fd00::1' },
    'invalid gateway fd00::1: parent subnet is an IPv4 block',
  ],
  ['a gateway that is no address', { subnet: '10.1.0.0/16', gateway: '10.1.0.256' }, 'invalid gateway 10.1.0.256: invalid address'],
  [
    'a gateway without a subnet',
    { gateway: '10.13.0.1' },
    "invalid gateway 10.13.0.1: parent subnet invalid Prefix doesn't contain this address",
  ],
  [
    'a range without a subnet',
    { ipRange: '10.13.0.0/24' },
    "invalid ip-range 10.13.0.0/24: parent subnet invalid Prefix doesn't contain ip-range",
  ],
  [
    'an auxiliary address elsewhere',
    { subnet: '10.1.0.0/16', aux: { printer: '10.9.0.1' } },
    "invalid auxiliary address printer: parent subnet 10.1.0.0/16 doesn't contain this address",
  ],
  ['IPv6 that is switched off', { subnet: 'fd00::5/64', gateway: '10.0.0.1' }, undefined, false],
  [
    'several problems of several subnets',
    [
      { subnet: '10.1.2.3/16', gateway: '10.2.0.1' },
      { subnet: '10.5.0.0/16', aux: { a: 'x' } },
    ],
    [
      '* invalid subnet 10.1.2.3/16: it should be 10.1.0.0/16',
      "* invalid gateway 10.2.0.1: parent subnet 10.1.2.3/16 doesn't contain this address",
      '* invalid auxiliary address a: invalid address',
    ].join('\n'),
  ],
]

for (const [what, config, message, enableIpv6 = false] of cases)
  test(`IPAM configuration: ${what} ${message === undefined ? 'passes' : 'is refused with the documented text'}`, () => {
    const run = () => validateIpam(Array.isArray(config) ? config : [config], { enableIpv6 })
    if (message === undefined) return run()
    assert.throws(run, (error) => {
      assert.ok(error instanceof NetError && error.code === 'invalid')
      assert.equal(error.message, HEAD + message)
      return true
    })
  })

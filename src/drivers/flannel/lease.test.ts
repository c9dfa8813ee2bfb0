import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isSameLease, parseSubnetEnv } from './lease.ts'

const ENV = 'FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.15.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n'
const read = (text: string) => parseSubnetEnv(text, 'subnet.env')

test('flannel: a subnet file of flanneld, with and without IPv6', () => {
  const ipv4 = { network: '10.1.0.0/16', subnet: '10.1.15.0/24', gateway: '10.1.15.1' }
  assert.deepEqual(read(ENV), { ipv4, mtu: 1450, ipMasq: true })
  const six = 'FLANNEL_IPV6_NETWORK=fd01::/48\nFLANNEL_IPV6_SUBNET=fd01:0:0:5::1/64\n'
  assert.deepEqual(read(ENV + six).ipv6, { network: 'fd01::/48', subnet: 'fd01:0:0:5::/64', gateway: 'fd01:0:0:5::1' })
  assert.deepEqual(read(ENV.replace('10.1.0.0/16', '10.9.0.0/16,10.1.0.0/16')).ipv4, ipv4)
  assert.deepEqual(read('FLANNEL_NETWORK="10.1.0.0/16"\nFLANNEL_SUBNET="10.1.15.0/24"\n'), { ipv4, mtu: 0, ipMasq: false })
})

test('flannel: what is no lease is refused, and named', () => {
  for (const [text, why] of [
    ['', /has no FLANNEL_SUBNET/],
    ['FLANNEL_SUBNET=10.1.15.1/24\n', /subnet "10\.1\.15\.1\/24" of network ""/],
    ['FLANNEL_NETWORK=10.2.0.0/16\nFLANNEL_SUBNET=10.1.15.1/24\n', /expected an IPv4 subnet inside Flannel's network/],
    ['FLANNEL_NETWORK=10.1.15.0/28\nFLANNEL_SUBNET=10.1.15.1/24\n', /inside Flannel's network/],
    ['FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=$(reboot)\n', /subnet "\$\(reboot\)"/],
    ['FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.15.1/32\n', /10\.1\.15\.1\/32/],
    [ENV.replace('1450', '99999'), /FLANNEL_MTU=99999/],
  ] as const)
    assert.throws(() => read(text), { code: 'unavailable', message: why })
})

test('flannel: a lease is another one when its addresses are', () => {
  assert.ok(isSameLease(read(ENV), read(ENV.replace('1450', '1400'))))
  assert.equal(isSameLease(read(ENV), read(ENV.replace('10.1.15.1', '10.1.16.1'))), false)
})

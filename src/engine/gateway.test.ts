import assert from 'node:assert/strict'
import { test } from 'node:test'
import { electGateways, type GatewayCandidate } from './gateway.ts'

const on = (networkName: string, change: Partial<GatewayCandidate> = {}): GatewayCandidate => ({
  endpointId: networkName,
  networkName,
  priority: 0,
  internal: false,
  isGwBridge: false,
  gateway4: '10.0.0.1',
  gateway6: '',
  ...change,
})

test('gateway: without priorities the first network in lexical order wins', () => {
  assert.equal(electGateways([on('b'), on('a'), on('c')]).v4?.networkName, 'a')
})
test('gateway: a higher priority beats the name, a negative one loses', () => {
  assert.equal(electGateways([on('a'), on('z', { priority: 5 })]).v4?.networkName, 'z')
  assert.equal(electGateways([on('a', { priority: -1 }), on('z')]).v4?.networkName, 'z')
})
test('gateway: internal networks and endpoints without a gateway are passed over', () => {
  assert.equal(electGateways([on('a', { internal: true, gateway4: '' }), on('b')]).v4?.networkName, 'b')
  assert.equal(electGateways([on('a', { gateway4: '' })]).v4, undefined)
})
test('gateway: a dual-stack endpoint goes before an IPv4-only one, and families may differ', () => {
  const both = on('z', { gateway6: 'fd00::1' })
  const elected = electGateways([on('a'), both])
  assert.equal(elected.v4?.networkName, 'z')
  const split = electGateways([on('a', { priority: 1 }), both])
  assert.equal(split.v4?.networkName, 'a')
  assert.equal(split.v6?.networkName, 'z')
})
test('gateway: docker_gwbridge is the last resort', () => {
  assert.equal(electGateways([on('docker_gwbridge', { isGwBridge: true }), on('x')]).v4?.networkName, 'x')
})

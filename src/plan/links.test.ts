import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseIpPrefix } from '../base/address.ts'
import type { Address, Link } from '../model/kernel-state.ts'
import { nothingObserved, type Observed, planLink } from './links.ts'
import type { WantedLink } from './wanted.ts'

const gateway: Address = { dev: 'br0', address: parseIpPrefix('10.1.0.1/16') }
const want: WantedLink = {
  spec: { name: 'br0', kind: 'bridge', mtu: 1450, up: true, alias: 'causeway:network:x' },
  addresses: [gateway],
  sysctls: [],
}
const healthy: Link = {
  index: 7,
  name: 'br0',
  kind: 'bridge',
  mac: '',
  mtu: 1450,
  up: true,
  running: true,
  loopback: false,
  master: 0,
  link: 0,
  group: 0,
  alias: 'causeway:network:x',
  txQueueLen: 0,
}
const observe = (link: Link | undefined, addresses: Address[] = [gateway]): Observed => ({
  link: () => link,
  nameOf: () => undefined,
  addressesOf: () => addresses,
})
const ops = (have: Observed) => planLink(want, have).steps.map((s) => s.op)

test('links: from nothing the plan creates, addresses and lifts the link, in that order', () => {
  assert.deepEqual(ops(nothingObserved), ['link.add', 'addr.replace', 'link.set'])
})
test('links: a healthy link plans nothing', () => {
  assert.deepEqual(ops(observe(healthy)), [])
})
test('links: each thing that is wrong is named and repaired', () => {
  const plan = planLink(want, observe({ ...healthy, mtu: 1500, up: false }, []))
  assert.deepEqual(
    plan.findings.map((f) => f.wrong),
    ['mtu is 1500, wanted 1450', 'link is down', 'address 10.1.0.1/16 is missing'],
  )
  assert.deepEqual(
    plan.steps.map((s) => s.op),
    ['link.set', 'addr.replace'],
  )
})
test('links: a foreign address on our bridge goes, on an adopted bridge it stays', () => {
  const foreign: Address = { dev: 'br0', address: parseIpPrefix('192.0.2.1/24') }
  assert.deepEqual(ops(observe(healthy, [gateway, foreign])), ['addr.delete'])
  assert.deepEqual(planLink({ ...want, adopted: true }, observe({ ...healthy, alias: '' }, [gateway, foreign])).steps, [])
})
test('links: a link of another kind with our name is replaced', () => {
  assert.deepEqual(ops(observe({ ...healthy, kind: 'veth' })), ['link.delete', 'link.add', 'addr.replace', 'link.set'])
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Cidr, type Ip, type Mac, parseIpPrefix } from '../base/address.ts'
import type { Address, Link, Neighbour, Route } from '../model/kernel-state.ts'
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

const vlan: WantedLink = {
  spec: { name: 'eth0.50', kind: 'vlan', parent: 'eth0', vlanId: 50, up: true, alias: 'causeway:parent:eth0.50' },
  addresses: [],
  sysctls: [],
  madeWhenMissing: true,
}

test('links: one that is made when missing is left as it is when somebody else has it, whatever it looks like', () => {
  assert.deepEqual(
    planLink(vlan, nothingObserved).steps.map((s) => s.op),
    ['link.add', 'link.set'],
  )
  const theirs: Link = { ...healthy, name: 'eth0.50', kind: 'bridge', up: false, alias: '' }
  assert.deepEqual(planLink(vlan, observe(theirs, [])).steps, [])
  const ours: Link = { ...theirs, kind: 'vlan', alias: 'causeway:parent:eth0.50' }
  assert.deepEqual(planLink(vlan, observe(ours, [])).steps, [{ op: 'link.set', dev: 'eth0.50', set: { up: true } }])
})

test('links: named routes and neighbours are set, and what somebody added beside them goes', () => {
  const route = (ip: string): Route => ({ family: 4, dst: `${ip}/32` as Cidr, dev: 'br0', src: '10.1.0.1' as Ip, protocol: 'static' })
  const neigh = (ip: string): Neighbour => ({ dev: 'br0', ip: ip as Ip, mac: '02:00:00:00:00:01' as Mac, state: 'permanent' })
  const shim: WantedLink = { ...want, routes: [route('10.1.0.5')], neighbours: [neigh('10.1.0.5')] }
  const kernel: Route = { family: 4, dst: '10.1.0.0/16' as Cidr, dev: 'br0', protocol: 'kernel' }
  const plan = (routes: Route[], neighbours: Neighbour[]) =>
    planLink(shim, { ...observe(healthy), routesOf: () => [kernel, ...routes], neighboursOf: () => neighbours }).steps
  assert.deepEqual(plan([route('10.1.0.5')], [neigh('10.1.0.5')]), [])
  assert.deepEqual(plan([route('10.1.0.6')], [neigh('10.1.0.6')]), [
    { op: 'route.replace', route: route('10.1.0.5') },
    { op: 'route.delete', route: route('10.1.0.6') },
    { op: 'neigh.replace', neigh: neigh('10.1.0.5') },
    { op: 'neigh.delete', neigh: neigh('10.1.0.6') },
  ])
  // from nothing: after the link is up, because a route needs that
  assert.deepEqual(
    planLink(shim, nothingObserved).steps.map((s) => s.op),
    ['link.add', 'addr.replace', 'link.set', 'route.replace', 'neigh.replace'],
  )
})

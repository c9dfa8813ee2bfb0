import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseIp } from '../base/address.ts'
import type { PortBinding, PortRequest } from '../model/endpoint.ts'
import { cutPorts } from './port-cuts.ts'

const bound = (hostPort: number, containerPort: number, count = 1, hostIp = '0.0.0.0'): PortBinding => ({
  proto: 'tcp',
  containerPort,
  hostIp: parseIp(hostIp),
  hostPort,
  count,
})
const ask = (hostPort: number, containerPort: number, hostIp = ''): PortRequest => ({
  proto: 'tcp',
  containerPort,
  hostIp,
  hostPort,
  hostPortEnd: hostPort,
})

test('a port ends on all addresses or on the one named; one that is not published is told', () => {
  const both = [bound(8080, 80), bound(8080, 80, 1, '::'), bound(9090, 80)]
  const cut = cutPorts(both, [ask(8080, 80), ask(1, 80)])
  assert.deepEqual(cut.gone, both.slice(0, 2))
  assert.deepEqual(cut.left, [])
  assert.deepEqual(cut.unknown, [ask(1, 80)])
  assert.deepEqual([ask(8080, 80), ask(9090, 80), ask(0, 81)].map(cut.stays), [false, true, true])
  assert.deepEqual(cutPorts(both, [ask(8080, 80, '::')]).gone, [both[1]])
  assert.deepEqual(cutPorts(both, [ask(0, 80)]).gone, both)
})

test('an interval is cut where ports are taken out of it', () => {
  const range = bound(20_000, 20_000, 2000)
  assert.deepEqual(cutPorts([range], [ask(20_500, 20_500)]).left, [bound(20_000, 20_000, 500), bound(20_501, 20_501, 1499)])
  assert.deepEqual(cutPorts([range], [ask(20_500, 20_500)]).ended, [bound(20_500, 20_500)])
  assert.deepEqual(cutPorts([range], [ask(20_000, 20_000)]).left, [bound(20_001, 20_001, 1999)])
  assert.deepEqual(cutPorts([range], [ask(0, 21_999)]).left, [bound(20_000, 20_000, 1999)])
  const all = cutPorts(
    [range],
    Array.from({ length: 2000 }, (_, i) => ask(20_000 + i, 20_000 + i)),
  )
  assert.deepEqual([all.gone, all.left, all.unknown], [[range], [], []])
  assert.equal(all.stays(ask(20_700, 20_700)), false)
  assert.deepEqual(cutPorts([range], [ask(20_500, 80)]).unknown, [ask(20_500, 80)])
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseIp } from '../base/address.ts'
import type { PortRequest } from '../model/endpoint.ts'
import { coalesce, PortTable } from './port-table.ts'

const any = parseIp('0.0.0.0')
const one = parseIp('10.0.0.1')
const tcp = (hostIp: typeof any, hostPort: number, count = 1) => ({
  proto: 'tcp' as const,
  containerPort: hostPort,
  hostIp,
  hostPort,
  count,
})

test('ports: the any-address and a specific address of one family exclude each other', () => {
  const table = new PortTable()
  table.add(tcp(one, 80), 'a')
  assert.equal(table.holderOf('tcp', any, 80)?.holder, 'a')
  assert.equal(table.holderOf('tcp', parseIp('10.0.0.2'), 80), undefined)
  assert.equal(table.holderOf('tcp', parseIp('::'), 80), undefined)
  assert.equal(table.holderOf('udp', any, 80), undefined)
  table.remove(tcp(one, 80), 'a')
  assert.equal(table.holderOf('tcp', any, 80), undefined)
})
test('ports: a range is one entry and collides with every port inside it', () => {
  const table = new PortTable()
  table.add(tcp(any, 10_000, 50_000), 'big')
  assert.deepEqual(table.holderOf('tcp', one, 59_999), { holder: 'big', port: 59_999 })
  assert.equal(table.holderOf('tcp', one, 60_000), undefined)
  table.remove(tcp(any, 10_000, 50_000), 'big')
  table.add(tcp(any, 20_000), 'small')
  assert.deepEqual(table.holderOf('tcp', any, 10_000, 59_999), { holder: 'small', port: 20_000 })
})
test('ports: long runs of equal numbers are joined, short ones and choices are not', () => {
  const request = (hostPort: number, containerPort = hostPort, end = hostPort): PortRequest => ({
    proto: 'udp',
    hostIp: '',
    hostPort,
    containerPort,
    hostPortEnd: end,
  })
  const run = Array.from({ length: 1000 }, (_, i) => request(20_000 + i))
  const joined = coalesce([request(0, 80, 0), request(8000, 80, 8010), ...run.reverse(), request(53)])
  assert.deepEqual(
    joined.map((j) => [j.request.hostPort, j.count]),
    [
      [20_000, 1000],
      [53, 1],
      [8000, 1],
      [0, 1],
    ].sort((a, b) => (a[0] === 53 ? -1 : b[0] === 53 ? 1 : 0)),
  )
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseCidr, parseIp } from '../../base/address.ts'
import { blockLength, blockOf, blockOwners, blocksToTry } from './blocks.ts'

const net = parseCidr('10.0.0.0/24')
const at = (hostId: string, ...last: number[]) => last.map((n) => ({ hostId, ipv4: parseIp(`10.0.0.${n}`) }))

test('subnets are cut into as many blocks as they bear', () => {
  const lengths = ['10.0.0.0/8', '10.0.0.0/16', '10.0.0.0/20', '10.0.0.0/24', '10.0.0.0/27', '10.0.0.0/29']
  assert.deepEqual(
    lengths.map((subnet) => blockLength(parseCidr(subnet))),
    [24, 24, 26, 28, 28, 32],
  )
  assert.equal(blockOf([net], parseIp('10.0.0.77')), '10.0.0.64/28')
  assert.equal(blockOf([net], parseIp('10.0.1.77')), undefined)
})

test('a block is routed to whoever has most of it, of several to the lowest id', () => {
  const owners = blockOwners([net], [...at('b', 2, 3, 17), ...at('a', 4, 18, 33), { hostId: 'c', ipv4: '' }])
  assert.deepEqual(
    [...owners],
    [
      ['10.0.0.0/28', 'b'],
      ['10.0.0.16/28', 'a'],
      ['10.0.0.32/28', 'a'],
    ],
  )
})

test('own blocks come first, then those that nobody has; a range keeps to itself', () => {
  const owners = blockOwners([net], [...at('a', 2), ...at('b', 18, 34)])
  const tried = (range: string, host = 'b') => [...blocksToTry(net, parseCidr(range), host, owners)]
  assert.deepEqual(tried('10.0.0.0/24').slice(0, 4), ['10.0.0.16/28', '10.0.0.32/28', '10.0.0.48/28', '10.0.0.64/28'])
  assert.equal(tried('10.0.0.0/24').length, 15)
  assert.deepEqual(tried('10.0.0.32/27'), ['10.0.0.32/28', '10.0.0.48/28'])
  assert.deepEqual(tried('10.0.0.40/29'), ['10.0.0.40/29'])
  assert.deepEqual(tried('10.0.0.40/29', 'a'), [])
})

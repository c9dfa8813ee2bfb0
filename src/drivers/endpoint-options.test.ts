import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rateOption, routesOption, routesText } from './endpoint-options.ts'
import { OPTION } from './options.ts'

test('routes of an endpoint are read as they are written, with and without a gateway', () => {
  const routes = [{ dst: '10.9.0.0/16', gw: '10.1.0.9' }, { dst: '10.8.0.0/16' }, { dst: '::/0', gw: 'fe80::1' }]
  assert.deepEqual(routesOption({ [OPTION.endpointRoutes]: routesText(routes) }), [
    { dst: '10.9.0.0/16', via: '10.1.0.9' },
    { dst: '10.8.0.0/16' },
    { dst: '::/0', via: 'fe80::1' },
  ])
  assert.deepEqual(routesOption({}), [])
  for (const bad of ['there', '10.9.0.0/16 via', '10.9.0.0/16 via here', '10.9.0.0/16 dev eth0'])
    assert.throws(() => routesOption({ [OPTION.endpointRoutes]: bad }), /failed to parse causeway\.routes value/, bad)
})

test('a rate has a burst, its own or 4 ms of it but 64 KiB at least', () => {
  const read = (text: string) => rateOption({ [OPTION.rateIn]: text }, OPTION.rateIn)
  assert.deepEqual(read('8000000/800000'), { rate: 8_000_000, burst: 800_000 })
  assert.deepEqual(read('1000'), { rate: 1000, burst: 524_288 })
  assert.deepEqual(read('10000000000'), { rate: 10_000_000_000, burst: 40_000_000 })
  assert.equal(read(''), undefined)
  for (const bad of ['0', '-1', '10mbit', '1/', '1/x']) assert.throws(() => read(bad), /failed to parse causeway\.rate_in value/, bad)
})

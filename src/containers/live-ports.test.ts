import assert from 'node:assert/strict'
import test from 'node:test'
import type { PortBinding, PortRequest } from '../model/endpoint.ts'
import { withoutPorts, withPorts } from './live-ports.ts'
import type { HostConfig } from './types.ts'

const request = (hostPort: number, containerPort: number, rest: Partial<PortRequest> = {}): PortRequest => ({
  proto: 'tcp',
  hostIp: '',
  hostPort,
  hostPortEnd: hostPort,
  containerPort,
  ...rest,
})
const published = (hostPort: number, containerPort: number, count = 1) =>
  ({ proto: 'tcp', containerPort, hostIp: '0.0.0.0', hostPort, count }) as unknown as PortBinding

test('a port that was added is a binding of the next start: fixed, open, of a range, on one address', () => {
  const host = { PortBindings: { '80/tcp': [{ HostIp: '', HostPort: '8080' }] } }
  const after = withPorts(host, [
    request(9090, 80),
    request(0, 81),
    request(8000, 82, { hostPortEnd: 8010, hostIp: '127.0.0.1' }),
    request(53, 53, { proto: 'udp' }),
  ])
  assert.deepEqual(after.PortBindings, {
    '80/tcp': [
      { HostIp: '', HostPort: '8080' },
      { HostIp: '', HostPort: '9090' },
    ],
    '81/tcp': [{ HostIp: '', HostPort: '' }],
    '82/tcp': [{ HostIp: '127.0.0.1', HostPort: '8000-8010' }],
    '53/udp': [{ HostIp: '', HostPort: '53' }],
  })
  assert.deepEqual(host.PortBindings, { '80/tcp': [{ HostIp: '', HostPort: '8080' }] })
})

test('what was taken back is gone from it, and nothing else', () => {
  const bindings = (host: HostConfig, removed: PortRequest[], left: PortBinding[]) => withoutPorts(host, removed, left).PortBindings
  const two = { PortBindings: { '80/tcp': [{ HostPort: '8080' }, { HostPort: '9090' }], '81/tcp': [{ HostPort: '' }] } }
  const others = { '81/tcp': [{ HostPort: '' }] }
  assert.deepEqual(bindings(two, [request(9090, 80)], [published(8080, 80)]), { '80/tcp': [{ HostPort: '8080' }], ...others })
  assert.deepEqual(bindings(two, [request(0, 80)], []), others)
  assert.deepEqual(
    bindings(two, [request(32768, 81)], [published(8080, 80)]),
    { '80/tcp': two.PortBindings['80/tcp'] },
    'its number was chosen',
  )
  const mixed = { PortBindings: { '80/tcp': [{ HostPort: '' }, { HostPort: '8080' }] } }
  assert.deepEqual(bindings(mixed, [request(32768, 80)], [published(8080, 80)]), { '80/tcp': [{ HostPort: '8080' }] })
  const range = { PortBindings: { '7000-7002/tcp': [{ HostPort: '' }] } }
  assert.deepEqual(bindings(range, [request(0, 7001)], [published(1, 7000)]), {
    '7000/tcp': [{ HostPort: '' }],
    '7002/tcp': [{ HostPort: '' }],
  })
})

import assert from 'node:assert/strict'
import test from 'node:test'
import { parsePortKey, portRequests } from './ports.ts'

test('ports: a binding list becomes one request per entry, and an empty list one ephemeral request', () => {
  const requests = portRequests(
    {},
    { PortBindings: { '80/tcp': [{ HostPort: '8080' }, { HostIp: '127.0.0.1', HostPort: '8000-8010' }], '53/udp': [] } },
  )
  assert.deepEqual(requests, [
    { proto: 'tcp', containerPort: 80, hostIp: '', hostPort: 8080, hostPortEnd: 8080 },
    { proto: 'tcp', containerPort: 80, hostIp: '127.0.0.1', hostPort: 8000, hostPortEnd: 8010 },
    { proto: 'udp', containerPort: 53, hostIp: '', hostPort: 0, hostPortEnd: 0 },
  ])
})

test('ports: publish-all takes exposed ports that have no binding, ranges included', () => {
  const requests = portRequests(
    { ExposedPorts: { '80/tcp': {}, '90-91/udp': {} } },
    { PublishAllPorts: true, PortBindings: { '80': [{ HostPort: '1' }] } },
  )
  assert.deepEqual(
    requests.map((r) => `${r.hostPort}:${r.containerPort}/${r.proto}`),
    ['1:80/tcp', '0:90/udp', '0:91/udp'],
  )
})

test('ports: bad numbers are refused with the texts that clients know', () => {
  assert.throws(() => portRequests({}, { PortBindings: { '80/tcp': [{ HostPort: 'aa80' }] } }), {
    code: 'invalid',
    message: 'invalid port specification: "aa80"',
  })
  assert.throws(() => parsePortKey('19039;1230'), { message: "invalid JSON: invalid port '19039;1230': invalid syntax" })
  for (const bad of ['', '70000', '80-70', '-1', '1-2-3x']) assert.throws(() => parsePortKey(bad), { code: 'invalid' }, bad)
})

test('ports: an unknown protocol passes and publishes nothing', () => {
  assert.deepEqual(parsePortKey('80/dccp'), [])
})

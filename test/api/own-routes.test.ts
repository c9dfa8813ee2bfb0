import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { NetError } from '../../src/base/errors.ts'
import type { Lab } from '../../testkit/api-lab.ts'
import { apiLab } from '../../testkit/api-lab.ts'

let lab: Lab
let stopped = 0
before(async () => {
  lab = await apiLab({
    veth: () => [{ container: 'c1' }],
    shutdown: () => {
      stopped++
    },
    extensions: [
      {
        method: 'GET',
        path: '/causeway/v1/why/:from/:to',
        handler: (params, query) => ({ ...params, verbose: query.get('verbose') }),
      },
      {
        method: 'POST',
        path: '/causeway/v1/echo',
        handler(_params, _query, body) {
          if (body === undefined) return undefined
          if (body === 'bad') throw new NetError('conflict', 'not that')
          return { body }
        },
      },
    ],
  })
  await lab.call('POST', '/containers/create?name=c1', { Image: 'busybox' })
  await lab.call('POST', '/containers/c1/start')
})
after(() => lab.close())

test('ports are added to and taken from a running container', async () => {
  const path = '/causeway/v1/containers/c1/ports'
  const added = await lab.call('POST', path, { ports: [{ proto: 'tcp', containerPort: 80, hostPort: 8080 }] })
  assert.equal(added.status, 201)
  assert.deepEqual(added.json, { ports: [{ proto: 'tcp', containerPort: 80, hostIp: '0.0.0.0', hostPort: 8080, count: 1 }] })
  assert.deepEqual((await lab.call('GET', '/containers/c1/json')).json.NetworkSettings.Ports, {
    '80/tcp': [{ HostIp: '0.0.0.0', HostPort: '8080' }],
  })
  assert.deepEqual((await lab.call('GET', path)).json, added.json)
  assert.equal((await lab.call('DELETE', path, { ports: [{ containerPort: 80 }] })).status, 204)
  assert.deepEqual((await lab.call('GET', path)).json, { ports: [] })
  for (const ports of [
    [],
    [{}],
    [{ containerPort: 70_000 }],
    [{ containerPort: 1, proto: 'icmp' }],
    [{ containerPort: 1, hostPort: 9, hostPortEnd: 8 }],
    'x',
  ]) {
    assert.equal((await lab.call('POST', path, { ports })).status, 400, JSON.stringify(ports))
  }
  assert.equal((await lab.call('POST', '/causeway/v1/containers/nope/ports', { ports: [{ containerPort: 1 }] })).status, 404)
})

test('repairs are remembered, the oldest forgotten', async () => {
  for (let i = 0; i < 300; i++) for (const tell of lab.controller.repairListeners) tell({ at: i, subject: 's', wrong: 'w', repair: 'r' })
  const { repairs } = (await lab.call('GET', '/causeway/v1/repairs')).json
  assert.equal(repairs.length, 256)
  assert.equal(repairs.at(-1).at, 299)
})

test('injected data and extensions answer, with their errors', async () => {
  assert.deepEqual((await lab.call('GET', '/causeway/v1/veth')).json, [{ container: 'c1' }])
  assert.equal((await lab.call('GET', '/causeway/v1/doctor')).status, 501)
  assert.deepEqual((await lab.call('GET', '/causeway/v1/why/a%2Fb/db:5432?verbose=1')).json, { from: 'a/b', to: 'db:5432', verbose: '1' })
  assert.deepEqual((await lab.call('POST', '/causeway/v1/echo', { x: 1 })).json, { body: { x: 1 } })
  assert.equal((await lab.call('POST', '/causeway/v1/echo')).status, 204)
  const refused = await lab.call('POST', '/causeway/v1/echo', '"bad"')
  assert.equal(refused.status, 409)
  assert.deepEqual(refused.json, { message: 'not that' })
})

test('bootstrap streams what it does and names the image', async () => {
  assert.match((await lab.call('POST', '/causeway/v1/images/bootstrap')).text, /"Id":"sha256:/)
})

test('shutdown is called after the answer', async () => {
  const answer = await lab.call('POST', '/causeway/v1/shutdown')
  assert.equal(answer.status, 200)
  assert.deepEqual(answer.json, { pid: process.pid })
  assert.equal(stopped, 1)
})

test('an extension outside its place is a mistake that shows at start', async () => {
  await assert.rejects(apiLab({ extensions: [{ method: 'GET', path: '/info', handler: () => 1 }] }), /not below/)
})

test('TLS with verification admits only certificates of its authority', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'causeway-tls-'))
  const ssl = (...args: string[]): void => void execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' })
  ssl(
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
    '-days',
    '1',
    '-subj',
    '/CN=ca',
  )
  for (const name of ['server', 'client']) {
    ssl(
      'req',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.csr`,
      '-subj',
      '/CN=localhost',
    )
    ssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-out', `${name}.pem`, '-days', '1')
  }
  const file = (name: string): Buffer => readFileSync(join(folder, name))
  const port = await lab.api.listenTcp('127.0.0.1', 0, {
    cert: file('server.pem'),
    key: file('server.key'),
    ca: file('ca.pem'),
    verify: true,
  })
  const ping = (options: object): Promise<number> =>
    new Promise((resolve, reject) => {
      const req = request({ port, path: '/_ping', ca: file('ca.pem'), servername: 'localhost', agent: false, ...options }, (res) => {
        res.resume()
        resolve(res.statusCode ?? 0)
      })
      req.on('error', reject)
      req.end()
    })
  assert.equal(await ping({ cert: file('client.pem'), key: file('client.key') }), 200)
  await assert.rejects(ping({}))
  rmSync(folder, { recursive: true })
  await assert.rejects(lab.api.listenTcp('127.0.0.1', 0, { cert: 'x', key: 'y', verify: true }), { code: 'invalid' })
})

import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { after, before, test } from 'node:test'
import type { Lab } from '../../testkit/api-lab.ts'
import { apiLab } from '../../testkit/api-lab.ts'

let lab: Lab
before(async () => {
  lab = await apiLab()
})
after(() => lab.close())

test('the socket is open to its owner and group only', () => {
  assert.equal(statSync(lab.path).mode & 0o777, 0o660)
})

test('ping answers OK with the headers that clients negotiate by', async () => {
  const get = await lab.call('GET', '/_ping')
  assert.equal(get.status, 200)
  assert.equal(get.text, 'OK')
  assert.equal(get.headers['api-version'], '1.51')
  assert.equal(get.headers['ostype'], 'linux')
  assert.equal(get.headers['docker-experimental'], 'false')
  assert.equal(get.headers['server'], 'Docker/28.3.0 (linux)')
  assert.equal(get.headers['swarm'], 'inactive')
  assert.match(get.headers['cache-control'] ?? '', /no-cache/)
  assert.match(get.headers['content-type'] ?? '', /^text\/plain/)
  const head = await lab.call('HEAD', '/_ping')
  assert.equal(head.status, 200)
  assert.equal(head.text, '')
  assert.equal(head.headers['api-version'], '1.51')
})

test('a version out of range is refused, as plain text to clients that cannot read JSON', async () => {
  const old = await lab.call('GET', '/v1.23/info')
  assert.equal(old.status, 400)
  assert.match(old.text, /^client version 1\.23 is too old\. Minimum supported API version is 1\.24/)
  assert.equal(old.json, undefined)
  const young = await lab.call('GET', '/v1.99/info')
  assert.deepEqual(young.json, { message: 'client version 1.99 is too new. Maximum supported API version is 1.51' })
})

test('errors carry the common headers too, and unknown paths are not found', async () => {
  for (const [method, path] of [
    ['GET', '/nothing'],
    ['PATCH', '/networks'],
    ['PUT', '/networks/bridge'],
    ['DELETE', '/info'],
    ['GET', '/containers/x/nothing'],
  ] as const) {
    const reply = await lab.call(method, path)
    assert.equal(reply.status, 404, path)
    assert.deepEqual(reply.json, { message: 'page not found' }, path)
    assert.equal(reply.headers['api-version'], '1.51')
  }
})

test('version and info have the fields that clients read', async () => {
  const version = (await lab.call('GET', '/version')).json
  assert.equal(version.ApiVersion, '1.51')
  assert.equal(version.MinAPIVersion, '1.24')
  assert.equal(version.Components[0].Name, 'Engine')
  assert.equal(version.Components[0].Details.ApiVersion, '1.51')
  const info = (await lab.call('GET', '/info')).json
  assert.equal(info.ID, 'LAB')
  assert.deepEqual(info.Plugins.Network, ['bridge', 'host', 'null'])
  assert.equal(info.Images, 1)
  assert.equal(info.Swarm.LocalNodeState, 'inactive')
  assert.equal('BridgeNfIptables' in info, false)
  assert.equal((await lab.call('GET', '/v1.48/info')).json.BridgeNfIptables, false)
})

test('what Causeway does not do is refused with a sentence', async () => {
  for (const [method, path, status, words] of [
    ['POST', '/build', 501, /buildah/],
    ['POST', '/swarm/init', 503, /not a swarm manager/],
    ['GET', '/services', 503, /overlay/],
    ['GET', '/secrets', 503, /not a swarm manager/],
    ['POST', '/plugins/pull', 501, /plugins/],
    ['GET', '/images/search?term=x', 501, /skopeo/],
    ['GET', '/distribution/library/busybox/json', 501, /skopeo/],
    ['POST', '/session', 501, /build/],
  ] as const) {
    const reply = await lab.call(method, path)
    assert.equal(reply.status, status, path)
    assert.match(reply.json.message, words)
  }
  assert.equal((await lab.call('POST', '/build/prune')).status, 200, 'docker system prune goes on')
})

test('login answers what the registry says', async () => {
  assert.deepEqual((await lab.call('POST', '/auth', { username: 'u', password: 'right' })).json, {
    Status: 'Login Succeeded for u',
    IdentityToken: '',
  })
  const refused = await lab.call('POST', '/auth', { username: 'u', password: 'wrong' })
  assert.deepEqual([refused.status, refused.json], [401, { message: 'unauthorized' }])
})

test('disk usage lists the kinds that were asked for', async () => {
  const all = (await lab.call('GET', '/system/df')).json
  assert.deepEqual(Object.keys(all).sort(), ['BuildCache', 'Containers', 'Images', 'LayersSize', 'Volumes'])
  const one = (await lab.call('GET', '/system/df?type=image')).json
  assert.equal(one.Volumes, null)
  assert.equal(one.Images[0].Containers, 0)
})

test('an upgrade that no route wants is answered like any other request', async () => {
  const text = (await lab.raw('GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n')).toString()
  assert.match(text, /^HTTP\/1\.1 200 OK/)
  assert.match(text, /\r\n\r\nOK$/)
})

test('a socket file that nobody answers on is replaced, one that is in use is not', async () => {
  await assert.rejects(lab.api.listenUnix(lab.path), { code: 'conflict' })
  assert.equal((await lab.call('GET', '/_ping')).text, 'OK')
})

test('plain TCP works and is warned about', async () => {
  const port = await lab.api.listenTcp('127.0.0.1', 0)
  const res = await fetch(`http://127.0.0.1:${port}/v1.44/_ping`)
  assert.equal(await res.text(), 'OK')
  assert.ok(lab.logged.some((line) => line.level === 'warn' && /without TLS/.test(line.message)))
})

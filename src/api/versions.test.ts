import assert from 'node:assert/strict'
import { test } from 'node:test'
import { commonHeaders, splitVersion, wantsPlainErrors } from './versions.ts'

const facts = {
  dockerVersion: '28.3.0',
  version: '0.1.0',
  gitCommit: '',
  buildTime: '',
  os: 'linux',
  arch: 'amd64',
  kernelVersion: '6.1',
}

test('a path without version means the newest', () => {
  assert.deepEqual(splitVersion('/networks?x=1', facts), { version: 51, rest: '/networks?x=1' })
})

test('versions from 1.24 to 1.51 are taken off the path', () => {
  assert.deepEqual(splitVersion('/v1.24/info', facts), { version: 24, rest: '/info' })
  assert.deepEqual(splitVersion('/v1.51/containers/json?all=1', facts), { version: 51, rest: '/containers/json?all=1' })
  assert.deepEqual(splitVersion('/v1.43', facts), { version: 43, rest: '/' })
})

test('a container named like a version is not mistaken for one', () => {
  assert.equal(splitVersion('/version', facts).rest, '/version')
  assert.equal(splitVersion('/volumes', facts).rest, '/volumes')
})

for (const [path, message] of [
  ['/v1.52/info', 'client version 1.52 is too new. Maximum supported API version is 1.51'],
  ['/v2.0/info', 'client version 2.0 is too new. Maximum supported API version is 1.51'],
  ['/v1.23/info', 'client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version'],
  ['/v1/info', 'client version 1 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version'],
  ['/v0.99/info', 'client version 0.99 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version'],
] as const) {
  test(`${path} is refused with the documented text`, () => {
    assert.throws(() => splitVersion(path, facts), { code: 'invalid', message })
  })
}

test('only clients below 1.24 get plain text', () => {
  assert.equal(wantsPlainErrors('/v1.23/info'), true)
  assert.equal(wantsPlainErrors('/v1.24/info'), false)
  assert.equal(wantsPlainErrors('/v1.52/info'), false)
  assert.equal(wantsPlainErrors('/info'), false)
})

test('the common headers name the engine as clients expect it', () => {
  assert.deepEqual(commonHeaders(facts), {
    'Api-Version': '1.51',
    'Docker-Experimental': 'false',
    Ostype: 'linux',
    Server: 'Docker/28.3.0 (linux)',
  })
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { canonicalPath } from './paths.ts'

const CASES: readonly (readonly [method: string, path: string, canonical: string])[] = [
  ['GET', '/networks/', '/networks'],
  ['GET', '/networks', '/networks'],
  ['GET', '/networks/a/b', '/networks/a%2Fb'],
  ['POST', '/networks/create', '/networks/create'],
  ['GET', '/networks/create', '/networks/create'],
  ['POST', '/networks/a/b/connect', '/networks/a%2Fb/connect'],
  ['DELETE', '/containers/self/alias', '/containers/self%2Falias'],
  ['DELETE', '/containers/web/json', '/containers/web%2Fjson'],
  ['GET', '/containers//web/json', '/containers/web/json'],
  ['GET', '/containers/json', '/containers/json'],
  ['POST', '/containers/create', '/containers/create'],
  ['GET', '/containers/web/attach/ws', '/containers/web/attach/ws'],
  ['PUT', '/containers/web/archive', '/containers/web/archive'],
  ['HEAD', '/containers/web/archive', '/containers/web/archive'],
  ['GET', '/images/library/busybox/json', '/images/library%2Fbusybox/json'],
  ['GET', '/images/localhost:5000/a/b:v1/json', '/images/localhost%3A5000%2Fa%2Fb%3Av1/json'],
  ['GET', '/images/json', '/images/json'],
  ['GET', '/images/json/json', '/images/json/json'],
  ['POST', '/images/a%2Fb/tag', '/images/a%2Fb/tag'],
  ['DELETE', '/images/a/b', '/images/a%2Fb'],
  ['GET', '/_ping', '/_ping'],
  ['GET', '/causeway/v1/veth', '/causeway/v1/veth'],
]

for (const [method, path, canonical] of CASES) {
  test(`${method} ${path} is routed as ${canonical}`, () => {
    assert.equal(canonicalPath(method, path), canonical)
  })
}

test('a broken escape is a bad request, wherever it is', () => {
  for (const path of ['/containers/%zz/json', '/networks/%', '/x/%E0%A4%A']) {
    assert.throws(() => canonicalPath('GET', path), { code: 'invalid' })
  }
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hasCode } from '../base/errors.ts'
import { canonical, familiar, fullIdOf, idPrefixOf, parseReference, withDefaultTag } from './images-reference.ts'

const HEX = '28fe189125723ab2c62bbcb03d8b112418ced432527fcae155a118ba327d2691'

/** [what a person writes, in full with the default tag, as shown] */
const GOOD: readonly [string, string, string][] = [
  ['busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
  ['busybox:1.36', 'docker.io/library/busybox:1.36', 'busybox:1.36'],
  ['library/busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
  ['docker.io/busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
  ['index.docker.io/library/busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
  ['user/app', 'docker.io/user/app:latest', 'user/app:latest'],
  ['docker.io/user/app:v1', 'docker.io/user/app:v1', 'user/app:v1'],
  ['docker.io/library/a/b', 'docker.io/library/a/b:latest', 'library/a/b:latest'],
  ['localhost/app', 'localhost/app:latest', 'localhost/app:latest'],
  ['localhost:5000/app', 'localhost:5000/app:latest', 'localhost:5000/app:latest'],
  ['127.0.0.1:5000/a/b/c:t', '127.0.0.1:5000/a/b/c:t', '127.0.0.1:5000/a/b/c:t'],
  ['[fd00::1]:5000/app', '[fd00::1]:5000/app:latest', '[fd00::1]:5000/app:latest'],
  ['quay.io/org/app', 'quay.io/org/app:latest', 'quay.io/org/app:latest'],
  ['Registry/app', 'Registry/app:latest', 'Registry/app:latest'],
  ['a-b/c__d.e_f:T_1.2-3', 'docker.io/a-b/c__d.e_f:T_1.2-3', 'a-b/c__d.e_f:T_1.2-3'],
  [`busybox@sha256:${HEX}`, `docker.io/library/busybox@sha256:${HEX}`, `busybox@sha256:${HEX}`],
  [`busybox:1@sha256:${HEX}`, `docker.io/library/busybox:1@sha256:${HEX}`, `busybox:1@sha256:${HEX}`],
]

for (const [text, full, shown] of GOOD) {
  test(`the reference ${text} means ${full} and is shown as ${shown}`, () => {
    const ref = withDefaultTag(parseReference(text))
    assert.equal(canonical(ref), full)
    assert.equal(familiar(ref), shown)
    assert.deepEqual(parseReference(canonical(ref)), ref, 'the full form parses to the same')
    assert.deepEqual(withDefaultTag(parseReference(familiar(ref))), ref, 'and so does the short one')
  })
}

const BAD: readonly [string, RegExp][] = [
  ['', /^invalid reference format$/],
  ['Busybox', /^invalid reference format: repository name \(library\/Busybox\) must be lowercase$/],
  ['user/App:x', /^invalid reference format: repository name \(user\/App\) must be lowercase$/],
  [':tag', /^invalid reference format$/],
  ['a:', /^invalid reference format$/],
  ['a:b:c', /^invalid reference format$/],
  ['a//b', /^invalid reference format$/],
  ['/a', /^invalid reference format$/],
  ['a/', /^invalid reference format$/],
  ['-a', /^invalid reference format$/],
  ['a..b', /^invalid reference format$/],
  ['a___b', /^invalid reference format$/],
  ['a b', /^invalid reference format$/],
  ['a\n', /^invalid reference format$/],
  ['a:b\n', /^invalid reference format$/],
  ['a\0', /^invalid reference format$/],
  ['../etc', /^invalid reference format$/],
  ['a/../b', /^invalid reference format$/],
  ['host:port/a', /^invalid reference format$/],
  ['-host.x/a', /^invalid reference format$/],
  [`a:${'t'.repeat(129)}`, /^invalid reference format$/],
  ['a@', /^invalid reference format$/],
  ['a@sha256:12', /^invalid reference format$/],
  [`a@sha256:${HEX.slice(1)}`, /invalid checksum digest length/],
  [`a@sha256:${HEX.toUpperCase()}`, /invalid checksum digest/],
  [`a@md5:${HEX}`, /unsupported digest algorithm/],
  [`a@sha256:${HEX}@sha256:${HEX}`, /^invalid reference format/],
  [HEX, /^invalid repository name \(28fe.*\), cannot specify 64-byte hexadecimal strings$/],
  ['a'.repeat(256), /^repository name must not be more than 255 characters$/],
]

for (const [text, message] of BAD) {
  test(`the reference ${JSON.stringify(text.slice(0, 40))} is refused`, () => {
    assert.throws(() => parseReference(text), { message })
    assert.throws(
      () => parseReference(text),
      (error) => hasCode(error, 'invalid'),
    )
  })
}

test('ids are told from names', () => {
  assert.equal(fullIdOf(`sha256:${HEX}`), HEX)
  assert.equal(fullIdOf(HEX), HEX)
  assert.equal(fullIdOf(HEX.slice(1)), undefined)
  assert.equal(idPrefixOf('28fe'), '28fe')
  assert.equal(idPrefixOf('sha256:28fe'), '28fe')
  assert.equal(idPrefixOf('28FE'), undefined)
  assert.equal(idPrefixOf('busybox'), undefined)
})

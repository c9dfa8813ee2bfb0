import assert from 'node:assert/strict'
import test from 'node:test'
import { parseBind, parseMount, wantedMounts } from './mounts.ts'

test('mounts: a bind, a named volume and an anonymous one are told apart', () => {
  assert.deepEqual(
    ['/a:/b:ro', 'data:/b', '/only'].map((spec) => {
      const { kind, point } = parseBind(spec)
      return [kind, point.Source, point.Name, point.Destination, point.RW, point.anonymous]
    }),
    [
      ['bind', '/a', undefined, '/b', false, undefined],
      ['volume', '', 'data', '/b', true, undefined],
      ['volume', '', undefined, '/only', true, true],
    ],
  )
})

test('mounts: malformed ones are refused', () => {
  for (const bad of ['', ':/b', '/a:', '/a:b', '/a:/', '/a:/b:nope', 'a b:/c', '/a:/b:ro:x'])
    assert.throws(() => parseBind(bad), { code: 'invalid' }, bad)
  for (const bad of [{ Type: 'bind', Target: '/x' }, { Type: 'tmpfs', Target: 'x' }, { Type: 'odd', Target: '/x' }, { Type: 'volume' }]) {
    assert.throws(() => parseMount(bad), { code: 'invalid' }, JSON.stringify(bad))
  }
})

test('mounts: what the image declares yields to what was asked, and a tmpfs to nothing', () => {
  const mounts = wantedMounts({ Volumes: { '/a': {}, '/b': {}, '/t': {} } }, { Binds: ['/host:/a'], Tmpfs: { '/t': '' } }, [])
  assert.deepEqual(
    mounts.map((m) => `${m.kind} ${m.point.Destination}`),
    ['bind /a', 'volume /b'],
  )
})

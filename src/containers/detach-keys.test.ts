import assert from 'node:assert/strict'
import test from 'node:test'
import { DetachScanner, parseDetachKeys } from './detach-keys.ts'

const bytes = (text: string) => Buffer.from(text, 'latin1')
const text = (data: Uint8Array) => Buffer.from(data).toString('latin1')

test('detach keys: the default is ctrl-p,ctrl-q', () => {
  assert.deepEqual([...parseDetachKeys(undefined)], [16, 17])
  assert.deepEqual([...parseDetachKeys('')], [16, 17])
  assert.deepEqual([...parseDetachKeys('ctrl-@,a,ctrl-_')], [0, 97, 31])
})

test('detach keys: an unknown key is refused', () => {
  for (const bad of ['ctrl-P', 'ctrl-', 'ab', 'ctrl-p,', 'ctrl-1']) assert.throws(() => parseDetachKeys(bad), { code: 'invalid' }, bad)
})

test('detach scanner: a sequence cut between two reads is found, and nothing of it is passed on', () => {
  const scanner = new DetachScanner(parseDetachKeys(undefined))
  assert.deepEqual(scanner.scan(bytes('ls\x10')), { pass: Uint8Array.from(bytes('ls')), detached: false })
  assert.deepEqual(scanner.scan(bytes('\x11rest')), { pass: new Uint8Array(), detached: true })
})

test('detach scanner: a false start is passed on in order', () => {
  const scanner = new DetachScanner(parseDetachKeys(undefined))
  assert.equal(text(scanner.scan(bytes('a\x10')).pass), 'a')
  assert.equal(text(scanner.scan(bytes('b')).pass), '\x10b')
  const again = scanner.scan(bytes('\x10\x10\x11'))
  assert.equal(text(again.pass), '\x10')
  assert.equal(again.detached, true)
})

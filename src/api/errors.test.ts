import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { NetError } from '../base/errors.ts'
import { STATUS_OF_CODE, toHttpError } from './errors.ts'

test('docs/errors.md lists every error code with the status that the API answers', () => {
  const text = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8')
  const rows = [...text.matchAll(/^\| `([a-z-]+)` \| (\d+) \|/gm)].map(([, code, status]) => [code, Number(status)])
  assert.deepEqual(Object.fromEntries(rows), STATUS_OF_CODE)
  assert.equal(rows.length, Object.keys(STATUS_OF_CODE).length, 'a code is listed twice')
})

test('the status is that of the innermost classified error, the sentence that of the outermost', () => {
  const cause = new NetError('denied', 'inner')
  assert.deepEqual(toHttpError(new Error('outer', { cause })), { status: 403, message: 'outer', unexpected: false })
  assert.deepEqual(toHttpError(new NetError('conflict', 'outer', {}, cause)), { status: 409, message: 'outer', unexpected: false })
})

test('several failures of a teardown are one answer, classified by the first that is', () => {
  const errors = [new Error('one'), new NetError('busy', 'two')]
  assert.deepEqual(toHttpError(new AggregateError(errors, '')), { status: 409, message: 'one\ntwo', unexpected: false })
})

test('whatever is not one of ours is a 500 that belongs in the log', () => {
  assert.deepEqual(toHttpError(new TypeError('x is not a function')), { status: 500, message: 'x is not a function', unexpected: true })
  assert.deepEqual(toHttpError('text'), { status: 500, message: 'text', unexpected: true })
  const loop = new Error('loop')
  loop.cause = loop
  assert.equal(toHttpError(loop).status, 500)
})

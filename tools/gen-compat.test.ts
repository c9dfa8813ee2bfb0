import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { EXCEPTIONS } from './compat-exceptions.ts'
import { COMPAT_DOC, compatDoc, readResults, worse } from './gen-compat.ts'

test('docs/compatibility.md says what the recorded results and the routes say (else run tools/gen-compat.ts)', () => {
  const text = readFileSync(COMPAT_DOC, 'utf8')
  assert.equal(text, compatDoc(text))
})

test('every test that is worse than on dockerd is a listed exception, and every exception still has tests', () => {
  const results = readResults()
  const open = Object.keys(results).flatMap((suite) =>
    worse(results, suite).filter((name) => EXCEPTIONS.filter((e) => e.suite === suite && e.tests.test(name)).length !== 1),
  )
  assert.deepEqual(open, [])
  const idle = EXCEPTIONS.filter(({ suite, tests }) => !worse(results, suite).some((name) => tests.test(name)))
  assert.deepEqual(idle, [])
})

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { layerProblems } from './check-layers.ts'

const TABLE =
  '| folder | may import |\n|---|---|\n| base | nothing |\n| wire | base |\n| sys | base, wire |\n| engine | base, sys, api (types) |\n| api | base |\n'
const REASONS = { base: 'b', wire: 'w', sys: 's', engine: 'the engine knows the API by its types', api: 'a' }
const CLEAN = { 'base/a.ts': '', 'wire/a.ts': '', 'sys/a.ts': '', 'engine/a.ts': '', 'api/a.ts': '' }

/** The problems of a checkout that holds these files below src. */
function problemsOf(files: Record<string, string>, table = TABLE, reasons: Record<string, string> = REASONS): string[] {
  const root = mkdtempSync('/tmp/causeway-layers-')
  try {
    for (const [name, text] of Object.entries({ ...CLEAN, ...files })) {
      mkdirSync(dirname(join(root, 'src', name)), { recursive: true })
      writeFileSync(join(root, 'src', name), text)
    }
    mkdirSync(join(root, 'docs'))
    writeFileSync(join(root, 'docs/layers.md'), table)
    return layerProblems(root, reasons)
  } finally {
    rmSync(root, { recursive: true })
  }
}

test('imports that the table allows pass', () => {
  const files = {
    'sys/b.ts': "import koffi from 'koffi'\nimport { spawn } from 'node:child_process'\nimport { x } from '../wire/a.ts'\nimport './a.ts'",
    'engine/b.ts': "import type { X } from '../api/a.ts'\nimport { type Y } from '../api/a.ts'\nimport { z } from '../sys/a.ts'",
    'wire/b.test.ts': "import assert from 'node:assert'\nimport { y } from '../../testkit/captured.ts'",
  }
  assert.deepEqual(problemsOf(files), [])
})

test('an import upwards is found in every spelling, with its line and the reason of the rule', () => {
  const spellings = [
    "import { x } from '../sys/a.ts'",
    "import '../sys/a.ts'",
    "import type { X } from '../sys/a.ts'",
    "export * from '../sys/a.ts'",
    "import {\n  x,\n  y,\n} from '../sys/a.ts'",
    "const m = await import('../sys/a.ts')",
  ]
  for (const text of spellings) {
    const [problem = '', ...more] = problemsOf({ 'wire/b.ts': `\n${text}` })
    assert.match(problem, /^src\/wire\/b\.ts:2 imports src\/sys\/a\.ts: wire may not import sys\n {4}because w$/, text)
    assert.deepEqual(more, [])
  }
})

test('a folder whose types are allowed gives its types only', () => {
  const [problem = ''] = problemsOf({ 'engine/b.ts': "import { x, type Y } from '../api/a.ts'" })
  assert.match(problem, /engine may import types of api only/)
  assert.match(problem, /because the engine knows the API by its types/)
})

test('koffi and child processes belong to sys, and codecs run without Node', () => {
  for (const name of ['koffi', 'node:child_process', 'child_process'])
    assert.match(problemsOf({ 'engine/b.ts': `import { x } from '${name}'` })[0] ?? '', /only door to the operating system/)
  assert.match(problemsOf({ 'wire/b.ts': "import { readFileSync } from 'node:fs'" })[0] ?? '', /src\/wire\/b\.ts:1 imports node:fs/)
})

test('folders that need each other are a ring, also when only by types', () => {
  const table = TABLE.replace('| api | base |', '| api | base, engine (types) |')
  const files = { 'engine/b.ts': "import type { X } from '../api/a.ts'", 'api/b.ts': "import type { Y } from '../engine/a.ts'" }
  const problems = problemsOf(files, table)
  assert.equal(problems.length, 1)
  assert.match(problems[0] ?? '', /^folders in a ring: api -> engine \(src\/api\/b\.ts:1\), engine -> api \(src\/engine\/b\.ts:1\)/)
})

test('a rule that matches nothing, a folder without a rule and a rule without a reason are found', () => {
  assert.match(
    problemsOf({}, `${TABLE}| ghost | base |\n`, { ...REASONS, ghost: 'g' })[0] ?? '',
    /a row for "ghost", which matches nothing/,
  )
  assert.match(problemsOf({ 'extra/a.ts': '' })[0] ?? '', /src\/extra has no row/)
  assert.match(problemsOf({}, TABLE, { base: 'b', wire: 'w', sys: 's', engine: 'e' })[0] ?? '', /lists "api", for which .* has no reason/)
  assert.match(problemsOf({}, TABLE, { ...REASONS, old: 'o' })[0] ?? '', /a reason for "old", which docs\/layers\.md does not list/)
})

test('what src imports from outside of it is found', () => {
  assert.match(problemsOf({ 'api/b.ts': "import { x } from '../../testkit/a.ts'" })[0] ?? '', /from outside src/)
})

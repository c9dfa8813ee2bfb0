import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

const read = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')

test('docs/dependencies.md justifies each run-time dependency, and nothing else', () => {
  const { dependencies } = JSON.parse(read('package.json')) as { dependencies: Record<string, string> }
  const [table = ''] = read('docs/dependencies.md').split('Programs of the host')
  const rows = [...table.matchAll(/^\| (\S+) \|/gm)].map((row) => row[1])
  assert.deepEqual(rows.slice(1).toSorted(), Object.keys(dependencies).toSorted())
})

test('every run-time dependency has one exact version', () => {
  const { dependencies } = JSON.parse(read('package.json')) as { dependencies: Record<string, string> }
  for (const [name, version] of Object.entries(dependencies)) assert.match(version, /^\d+\.\d+\.\d+$/, name)
})

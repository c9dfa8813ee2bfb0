import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { CLI_DOC, cliDoc } from './gen-cli-docs.ts'

test('docs/cli.md says what the help texts say (else run tools/gen-cli-docs.ts)', async () => {
  assert.equal(readFileSync(CLI_DOC, 'utf8'), await cliDoc())
})

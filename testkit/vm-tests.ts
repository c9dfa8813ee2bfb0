/** Runs test files in a virtual machine (vm.ts) and reports each of their tests as a test of the calling file. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runInVm, type VmResult, type VmRun, vmMissing } from './vm.ts'

interface TapTest {
  readonly name: string
  readonly ok: boolean
  readonly skip: string | undefined
  readonly detail: string
}

/** The top-level tests of a TAP stream. */
export function readTap(tap: string): TapTest[] {
  const out: TapTest[] = []
  const lines = tap.split('\n')
  for (const [i, line] of lines.entries()) {
    const found = /^(not )?ok \d+ - (.*?)(?: # SKIP ?(.*))?$/.exec(line)
    if (found === null) continue
    const end = lines.indexOf('  ...', i)
    const detail = end < 0 ? [] : lines.slice(i + 1, end)
    out.push({ name: found[2] as string, ok: found[1] === undefined, skip: found[3], detail: detail.join('\n') })
  }
  return out
}

/**
 * Boots once and runs the files in order. Where no machine can be started (the test command brings QEMU and a kernel, but a package server
 * may be away) every file is a skipped test that says why, so that the run tells what was not tested.
 */
export async function testsInVm(run: VmRun & { readonly testFiles: readonly string[] }): Promise<void> {
  const missing = vmMissing()
  if (missing !== undefined) {
    console.error(`NOT TESTED, because no virtual machine can be started (${missing}): ${run.testFiles.join(', ')}`)
    for (const file of run.testFiles) test(`${file} in another kernel`, { skip: `not tested: ${missing}` }, () => {})
    return
  }
  const result: VmResult = await runInVm(run)
  for (const { file, code, output } of result.files) {
    const tests = readTap(output)
    for (const { name, ok, skip, detail } of tests)
      test(`${file}: ${name}`, { skip: skip ?? false }, () => assert.ok(ok, `failed in the virtual machine:\n${detail}`))
    // a file that breaks outside its tests, or does not finish, is a failure too
    test(`${file} ran to its end in another kernel`, () =>
      assert.ok(code === 0 && tests.length > 0, `exit code ${code}, the last of its output:\n${(output || result.output).slice(-4000)}`))
  }
}

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { after, test } from 'node:test'
import { messageOf } from '../../src/base/errors.ts'
import { parseDaemonConfig } from '../../src/daemon/config.ts'
import { isolate } from '../../testkit/isolated.ts'
import { STARTS, type WrongStart } from './bad-input-commands.ts'

isolate()
const ROOT = new URL('../..', import.meta.url).pathname
const dir = mkdtempSync(`${tmpdir()}/causeway-bad-start-`)
after(() => rmSync(dir, { recursive: true, force: true }))

let files = 0

/** `causeway daemon` that must end by itself. */
function daemon(argv: readonly string[], file = ''): Promise<{ code: number; out: string; err: string }> {
  const config = `${dir}/daemon-${files++}.json`
  if (file !== '') writeFileSync(config, file)
  const folders = ['--data-root', `${dir}/data`, '--exec-root', `${dir}/run`, '--config-file', file === '' ? '/dev/null' : config]
  const command = [`${ROOT}bin/causeway`, 'daemon', ...folders, ...argv]
  return new Promise((resolve) => {
    execFile(process.execPath, command, { timeout: 30_000 }, (error, out, err) => resolve({ code: Number(error?.code ?? 0), out, err }))
  })
}

const fits = (text: string | RegExp, said: string) => (typeof text === 'string' ? said === text : text.test(said))

test('wrong flags and files are refused with their documented sentences', () => {
  const problems: string[] = []
  STARTS.forEach(({ argv, file, text }, i) => {
    const config = `${dir}/table-${i}.json`
    if (file !== undefined) writeFileSync(config, file)
    let said = 'configuration OK'
    try {
      parseDaemonConfig(['--validate', '--config-file', file === undefined ? '/dev/null' : config, ...argv])
    } catch (error) {
      said = messageOf(error)
    }
    if (!fits(text, said)) problems.push(`${argv.join(' ')} ${file ?? ''}\n    expected ${text}\n    got      ${said}`)
  })
  assert.equal(problems.join('\n'), '')
})

test('the command says so once, ends with 1, and has made nothing, with --validate and without', async () => {
  const cases = [STARTS[0], STARTS.find((s) => s.file !== undefined), STARTS.find((s) => s.argv.includes('--no-such-flag'))] as WrongStart[]
  for (const { argv, file, text } of cases)
    for (const validate of [[], ['--validate']]) {
      const { code, out, err } = await daemon([...validate, ...argv], file)
      const lines = err.trim().split('\n')
      assert.deepEqual([code, out, lines.length], [1, '', 1], err)
      assert.ok(fits(text, lines[0]?.replace(/^causeway daemon: /, '') ?? ''), err)
    }
  assert.deepEqual([existsSync(`${dir}/data`), existsSync(`${dir}/run`)], [false, false])
})

test('a good configuration is called OK and starts nothing', async () => {
  const file = JSON.stringify({
    mtu: 1400,
    'default-address-pools': [{ base: '10.128.0.0/10', size: 24 }],
    dns: ['1.1.1.1'],
    'live-restore': true,
  })
  assert.deepEqual(await daemon(['--validate', '--bip', '10.1.0.1/24', '--fixed-cidr', '10.1.0.128/25'], file), {
    code: 0,
    out: 'configuration OK\n',
    err: '',
  })
  assert.equal((await daemon(['--validate'])).out, 'configuration OK\n')
  assert.equal(existsSync(`${dir}/data`), false)
})

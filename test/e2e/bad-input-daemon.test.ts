import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { after, test } from 'node:test'
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

test('wrong flags and files are refused by --validate with their documented sentences, and nothing is made', async () => {
  const problems: string[] = []
  const attempt = async ({ argv, file, text }: WrongStart) => {
    const { code, out, err } = await daemon(['--validate', ...argv], file)
    const said = err.split('\n').map((line) => line.replace(/^causeway daemon: /, ''))
    const isSaid = said.some((line) => (typeof text === 'string' ? line === text : text.test(line)))
    if (code !== 1 || !isSaid) problems.push(`${argv.join(' ')} ${file ?? ''}\n    expected 1 ${text}\n    got      ${code} ${out}${err}`)
  }
  for (let i = 0; i < STARTS.length; i += 3) await Promise.all(STARTS.slice(i, i + 3).map(attempt))
  assert.equal(problems.join('\n'), '')
  assert.equal(existsSync(`${dir}/data`), false)
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

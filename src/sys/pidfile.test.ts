import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { until } from '../../testkit/until.ts'
import { readPidFile } from './pidfile.ts'

test('pid file: a process that has ended but was not waited for does not run', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'causeway-pidfile-'))
  const path = join(dir, 'pid')
  // sleep does not wait for the child that it has inherited from the shell
  const parent = spawn('sh', ['-c', 'sleep 0.3 & echo $!; exec sleep 60'], { stdio: ['ignore', 'pipe', 'ignore'] })
  try {
    const [line] = (await once(parent.stdout, 'data')) as [Buffer]
    const pid = Number(line.toString())
    await until('the child is a zombie', async () => /\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8')))
    writeFileSync(path, `${pid}\n`)
    assert.equal(readPidFile(path), undefined)
    writeFileSync(path, `${parent.pid}\n`)
    assert.equal(readPidFile(path), parent.pid)
  } finally {
    parent.kill('SIGKILL')
    rmSync(dir, { recursive: true, force: true })
  }
})

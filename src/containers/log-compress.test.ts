import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { appendFileSync, copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { until } from '../../testkit/until.ts'
import { compressedLog } from './log-compress.ts'
import { compressLogs, keepLogs, logEnd, logFiles } from './log-files.ts'
import { readLog } from './logs.ts'
import type { LogOptions } from './types.ts'

const BOUNDS = { maxBytes: 1000, maxFiles: 4, compress: true }
const ALL: LogOptions = { stdout: true, stderr: true, follow: false, timestamps: false }
let dir = ''
let log = ''
let written = 0

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'causeway-logs-'))
  log = `${dir}/container.log`
  written = 0
})
afterEach(() => rmSync(dir, { recursive: true, force: true }))

function write(count: number, file = log): void {
  for (let i = 0; i < count; i++)
    appendFileSync(file, `2026-01-02T03:04:05.0000+00:00 stdout F line ${String(written++).padStart(4, '0')}\n`)
}

async function fill(count: number): Promise<void> {
  write(count)
  assert.equal(keepLogs(log, BOUNDS).kind, 'full')
  writeFileSync(log, '')
  keepLogs(log, BOUNDS)
  await compressLogs(log)
}

async function lines(options: Partial<LogOptions> = {}): Promise<number[]> {
  let text = ''
  const following = { isLive: () => false, stopped: Promise.resolve() }
  for await (const chunk of readLog(log, { ...ALL, ...options }, following, AbortSignal.timeout(5000))) text += chunk.data
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => Number(line.slice(5)))
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i)
const names = () => readdirSync(dir).sort()

test('full files become gzip, which anybody can read, and are read as one log with the others', async () => {
  await fill(20)
  await fill(25)
  write(3)
  assert.deepEqual(names(), ['container.log', 'container.log.1.gz', 'container.log.2.gz', 'container.log.now'])
  assert.deepEqual(await lines(), range(0, 48))
  assert.deepEqual(await lines({ tail: 30 }), range(18, 48))
  assert.deepEqual(names(), ['container.log', 'container.log.1.gz', 'container.log.2.gz', 'container.log.now'], 'reading leaves nothing')
  const plain = execFileSync('gzip', ['-dc', `${log}.2.gz`], { encoding: 'utf8' })
  assert.equal(plain.split('\n').length, 21)
  assert.equal(compressedLog(`${log}.2.gz`)?.size, plain.length)
  await fill(20)
  await fill(20)
  assert.deepEqual(names(), ['container.log', 'container.log.1.gz', 'container.log.2.gz', 'container.log.3.gz', 'container.log.now'])
  assert.deepEqual(await lines(), range(20, 88))
})

test('a file that the writer has not left yet is not compressed', async () => {
  write(25)
  keepLogs(log, BOUNDS)
  await compressLogs(log)
  write(2, `${log}.1`)
  writeFileSync(log, '')
  await compressLogs(log)
  assert.deepEqual(await lines(), range(0, 27))
  assert.deepEqual(names(), ['container.log', 'container.log.1.gz'])
})

test('compressing that was interrupted is done again', async () => {
  await fill(20)
  write(25)
  keepLogs(log, BOUNDS)
  writeFileSync(log, '')
  // killed between the two: both forms are there; and in the middle: a part
  copyFileSync(`${log}.2.gz`, `${log}.1.gz`)
  writeFileSync(`${log}.part`, 'half')
  assert.deepEqual(await lines(), range(0, 45))
  await compressLogs(log)
  assert.deepEqual(names(), ['container.log', 'container.log.1.gz', 'container.log.2.gz'])
  assert.deepEqual(await lines(), range(0, 45))
})

test('a file is shifted while it is being compressed', async () => {
  write(25)
  keepLogs(log, BOUNDS)
  writeFileSync(log, '')
  const done = compressLogs(log)
  write(25)
  keepLogs(log, BOUNDS)
  writeFileSync(log, '')
  await done
  assert.deepEqual(await lines(), range(0, 50))
  assert.ok(names().includes('container.log.2.gz'), names().join(' '))
})

test('an end that was noted before is found after, also when its number belongs to another file meanwhile', async () => {
  const count = async (end: ReturnType<typeof logEnd>): Promise<number> => {
    let lines = 0
    const following = { isLive: () => false, stopped: Promise.resolve() }
    for await (const _ of readLog(log, ALL, following, AbortSignal.timeout(5000), end)) lines++
    return lines
  }
  write(5)
  keepLogs(log, BOUNDS)
  const before = logEnd(log)
  await fill(20)
  assert.equal(await count(before), 5)
  // file systems give a number that has become free to the next file
  for (let n = 0; n < 3; n++) await fill(20)
  write(1)
  assert.equal(new Set(logFiles(log).map((file) => file.inode)).size, 4)
  assert.equal(await count({ inode: statSync(log).ino, offset: readFileSync(log).length }), 61)
})

test('a follower reads on through shifts and compressing', async () => {
  write(10)
  keepLogs(log, BOUNDS)
  let isLive = true
  let stop = () => {}
  const stopped = new Promise<void>((resolve) => {
    stop = resolve
  })
  const got: number[] = []
  const reader = (async () => {
    for await (const { data } of readLog(log, { ...ALL, follow: true }, { isLive: () => isLive, stopped }, AbortSignal.timeout(20_000)))
      for (const line of data.toString().trim().split('\n')) got.push(Number(line.slice(5)))
  })()
  await until('the beginning', () => got.length === 10)
  for (let n = 0; n < 4; n++) {
    await fill(20)
    await until('what follows', () => got.length === written)
  }
  isLive = false
  stop()
  await reader
  assert.deepEqual(got, range(0, 90))
})

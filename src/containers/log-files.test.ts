import assert from 'node:assert/strict'
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { keepLogs, logEnd, logFiles, monitorBound } from './log-files.ts'
import { readLog } from './logs.ts'
import type { LogOptions } from './types.ts'

const BOUNDS = { maxBytes: 1000, maxFiles: 3 }
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

/** `count` lines of 50 bytes, as conmon writes them to the file it has open. */
function write(count: number, file = log): void {
  for (let i = 0; i < count; i++)
    appendFileSync(file, `2026-01-02T03:04:05.0000+00:00 stdout F line ${String(written++).padStart(4, '0')}\n`)
}

/** Numbers of the lines that a reader gets. */
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

/** A full log is shifted and conmon opens a new one. */
function fill(count: number): void {
  write(count)
  assert.equal(keepLogs(log, BOUNDS).kind, 'full')
  writeFileSync(log, '')
  assert.equal(keepLogs(log, BOUNDS).kind, 'room')
}

test('full files are kept up to max-file, and read as one log', async () => {
  write(5)
  assert.deepEqual(keepLogs(log, BOUNDS), { kind: 'room', size: readFileSync(log).length })
  fill(20)
  fill(25)
  write(3)
  assert.deepEqual(names(), ['container.log', 'container.log.1', 'container.log.2', 'container.log.now'])
  assert.deepEqual(await lines(), range(0, 53))
  fill(25)
  assert.deepEqual(names(), ['container.log', 'container.log.1', 'container.log.2', 'container.log.now'])
  assert.deepEqual(await lines(), range(25, 78))
})

test('a tail crosses the files', async () => {
  for (let n = 0; n < 3; n++) fill(25)
  write(4)
  for (const tail of [0, 1, 4, 5, 29, 30, 54, 1000]) assert.deepEqual(await lines({ tail }), range(Math.max(25, 79 - tail), 79), `${tail}`)
})

test('what the writer appends before it opens the new file is not lost', async () => {
  write(25)
  assert.equal(keepLogs(log, BOUNDS).kind, 'full')
  write(2, `${log}.1`)
  assert.deepEqual(await lines(), range(0, 27))
  assert.equal(keepLogs(log, BOUNDS).kind, 'full', 'the writer is told again')
  assert.deepEqual(names(), ['container.log.1'])
  write(1)
  assert.equal(keepLogs(log, BOUNDS).kind, 'room')
  assert.deepEqual(await lines({ tail: 2 }), [26, 27])
})

test('a file that the writer replaces by itself is kept', async () => {
  write(5)
  keepLogs(log, BOUNDS)
  write(3, `${log}.tmp`)
  renameSync(`${log}.tmp`, log)
  assert.deepEqual(await lines(), range(0, 8))
  assert.equal(keepLogs(log, BOUNDS).kind, 'room')
  assert.deepEqual(names(), ['container.log', 'container.log.1', 'container.log.now'])
  assert.deepEqual(await lines(), range(0, 8))
})

test('an end that was noted before a shift is found after it', async () => {
  write(5)
  keepLogs(log, BOUNDS)
  const end = logEnd(log)
  fill(20)
  let count = 0
  const following = { isLive: () => false, stopped: Promise.resolve() }
  for await (const _ of readLog(log, ALL, following, AbortSignal.timeout(5000), end)) count++
  assert.equal(count, 5)
})

test('files that are much too large make older ones go', () => {
  fill(25)
  fill(60)
  assert.deepEqual(
    logFiles(log).map(({ path }) => path.slice(dir.length + 1)),
    ['container.log.1', 'container.log'],
  )
})

test('a follower reads on through shifts, to the last line', async () => {
  write(10)
  keepLogs(log, BOUNDS)
  let isLive = true
  let stop = () => {}
  const stopped = new Promise<void>((resolve) => {
    stop = resolve
  })
  const got: string[] = []
  const reader = (async () => {
    for await (const { data } of readLog(log, { ...ALL, follow: true }, { isLive: () => isLive, stopped }, AbortSignal.timeout(10_000)))
      got.push(...data.toString().trim().split('\n'))
  })()
  const until = async (count: number) => {
    for (const end = Date.now() + 5000; got.length < count && Date.now() < end; ) await new Promise((resolve) => setTimeout(resolve, 5))
  }
  await until(10)
  write(15)
  assert.equal(keepLogs(log, BOUNDS).kind, 'full')
  write(2, `${log}.1`)
  writeFileSync(log, '')
  write(1)
  await until(28)
  isLive = false
  stop()
  await reader
  assert.deepEqual(
    got.map((line) => Number(line.slice(5))),
    range(0, 28),
  )
})

test('conmon’s own bound lies above what is kept', () => {
  assert.equal(monitorBound(undefined), undefined)
  assert.equal(monitorBound({ maxBytes: 1000, maxFiles: 1 }), 1000)
  assert.ok((monitorBound(BOUNDS) ?? 0) > 3000)
})

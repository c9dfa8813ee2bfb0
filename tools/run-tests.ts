/**
 * Runs test files with node's test runner, each in a process of its own, three at a time, and counts. A file that wants a network of its
 * own makes one (testkit/isolated.ts). A file that fails is run once more, alone. Ends with what the run left behind and a line `N passed, N failed`; the exit code says the same.
 *
 *   run-tests.ts [--also-failed N] [suite | file]...      suites: unit, and every folder below test/
 */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { killMarked, leaks, MARK, snapshot } from './leaks.ts'

/** Most of what a test does is waiting: two processors are busy with three files. */
const FILES_AT_ONCE = 3
/** Nothing a single file does takes this long; more means that it hangs. */
const FILE_TIMEOUT_MS = Number(process.env['CAUSEWAY_TEST_TIMEOUT_MS'] ?? 420_000)
/** More failing files than this are not a matter of a busy machine. */
const MOST_AGAIN = 12
/** Cheap and telling ones first. */
const ORDER = ['unit', 'kernel', 'api', 'cli', 'e2e']

interface Outcome {
  readonly file: string
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  readonly ms: number
  readonly output: string
}

function testFilesBelow(folder: string): string[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.test.ts'))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
}

function suites(): Map<string, string[]> {
  const found = new Map<string, string[]>([['unit', [...testFilesBelow('src'), ...testFilesBelow('tools'), ...testFilesBelow('bench')]]])
  if (existsSync('test'))
    for (const entry of readdirSync('test', { withFileTypes: true })) {
      if (entry.isDirectory()) found.set(entry.name, testFilesBelow(join('test', entry.name)))
      else if (entry.name.endsWith('.test.ts')) found.set('unit', [...(found.get('unit') ?? []), join('test', entry.name)])
    }
  const rank = (name: string) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length)
  return new Map([...found].filter(([, files]) => files.length > 0).sort(([a], [b]) => rank(a) - rank(b)))
}

function runFile(file: string, mark: string): Promise<Outcome> {
  return new Promise((resolve) => {
    const started = performance.now()
    const env = { ...process.env, [MARK]: mark, NODE_NO_WARNINGS: '1' }
    // a process group of its own, so that a hanging file can be ended with everything it started
    const child = spawn(process.execPath, ['--import', 'tsx', '--test-reporter=tap', file], {
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text))
    let why = ''
    const end = () => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
      } catch {
        // all gone already
      }
    }
    const timer = setTimeout(() => {
      why = `\nended after ${FILE_TIMEOUT_MS / 1000} s\n`
      end()
    }, FILE_TIMEOUT_MS)
    // 'exit' and not 'close': something left running may hold the pipes open for ever
    child.on('exit', (code, signal) => {
      clearTimeout(timer)
      setTimeout(() => {
        end()
        child.stdout.destroy()
        child.stderr.destroy()
        const count = (name: string) => Number([...output.matchAll(new RegExp(`^# ${name} (\\d+)$`, 'gm'))].at(-1)?.[1] ?? 0)
        const counted = /^# tests \d+$/m.test(output)
        if (signal !== null) why += `\nended by ${signal}\n`
        const failed = count('fail') + count('cancelled')
        // a file that broke outside its tests, or has none, is a failure too
        const silent = failed === 0 && (code !== 0 || !counted || count('tests') === 0) ? 1 : 0
        resolve({
          file,
          passed: count('pass'),
          failed: failed + silent,
          skipped: count('skipped') + count('todo'),
          ms: performance.now() - started,
          output: output + why,
        })
      }, 20)
    })
  })
}

/** The failing tests of a TAP stream with their details, or the end of it when there are none. */
function failuresOf(tap: string): string {
  const lines = tap.split('\n')
  const kept: string[] = []
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i] as string
    if (!/^\s*not ok /.test(line)) continue
    kept.push(line)
    if (!/^\s*---$/.test(lines[i + 1] ?? '')) continue
    for (i++; i < lines.length && !/^\s*\.\.\.$/.test(lines[i] as string); i++) kept.push(lines[i] as string)
  }
  return (kept.length > 0 ? kept : lines.slice(-40)).join('\n')
}

/**
 * On a busy machine a wait may run out. A file that failed is run once more, alone; what fails twice has failed, and what passes then is
 * named as unstable. Returns how many are.
 */
async function runAgain(outcomes: Outcome[], mark: string): Promise<number> {
  const failing = outcomes.filter((outcome) => outcome.failed > 0)
  if (failing.length === 0 || failing.length > MOST_AGAIN) return 0
  console.log(`\n== once more, alone (${failing.length} files)`)
  let unstable = 0
  for (const before of failing) {
    const outcome = await runFile(before.file, mark)
    outcomes[outcomes.indexOf(before)] = outcome
    if (outcome.failed === 0) unstable++
    console.log(`${outcome.failed > 0 ? 'FAILED' : 'UNSTABLE, passed now'} ${outcome.file}  ${(outcome.ms / 1000).toFixed(1)} s`)
    if (outcome.failed > 0) console.log(failuresOf(outcome.output).replace(/^/gm, '    '))
  }
  return unstable
}

async function main(args: string[]): Promise<number> {
  const passedOn = args.indexOf('--also-failed')
  let failed = passedOn < 0 ? 0 : Number(args.splice(passedOn, 2)[1])
  const all = suites()
  const wanted = new Map<string, string[]>()
  for (const arg of args.length > 0 ? args : all.keys()) {
    const files = arg.endsWith('.test.ts') ? [arg] : all.get(arg)
    if (files === undefined || (arg.endsWith('.test.ts') && !existsSync(arg))) {
      console.error(`there is no suite or test file "${arg}"; suites: ${[...all.keys()].join(', ')}`)
      failed++
      continue
    }
    const suite = arg.endsWith('.test.ts') ? 'files' : arg
    wanted.set(suite, [...(wanted.get(suite) ?? []), ...files])
  }

  const mark = randomBytes(6).toString('hex')
  const before = snapshot()
  const outcomes: Outcome[] = []
  const queue = [...wanted.values()].flat()
  console.log(`${queue.length} files: ${[...wanted].map(([suite, files]) => `${suite} ${files.length}`).join(', ')}`)
  const worker = async (next: () => string | undefined) => {
    for (let file = next(); file !== undefined; file = next()) {
      const outcome = await runFile(file, mark)
      outcomes.push(outcome)
      const skipped = outcome.skipped > 0 ? `, ${outcome.skipped} skipped` : ''
      console.log(
        `${outcome.failed > 0 ? 'FAILED' : 'ok    '} ${file}  ${outcome.passed} passed${skipped}${outcome.failed > 0 ? `, ${outcome.failed} failed` : ''}  ${(outcome.ms / 1000).toFixed(1)} s`,
      )
      if (outcome.failed > 0) console.log(failuresOf(outcome.output).replace(/^/gm, '    '))
    }
  }
  // one begins at the end, where the machines are that boot a kernel of their own and take longest
  const first = () => queue.shift()
  const last = () => queue.pop()
  await Promise.all(Array.from({ length: FILES_AT_ONCE }, (_, i) => worker(i === 0 ? last : first)))

  const unstable = await runAgain(outcomes, mark)
  const left = leaks(before, mark)
  console.log('\n== left behind')
  for (const { what, certain } of left) console.log(`${certain ? 'LEAK ' : '(seen) '} ${what}`)
  if (left.length === 0) console.log('nothing')
  else if (left.some((leak) => !leak.certain)) console.log('(seen) may belong to others who use this machine at the same time')
  const certain = left.filter((leak) => leak.certain).length
  killMarked(mark)
  // what a run that failed has left is part of that failure
  if (certain > 0 && unstable === 0) failed++

  const slow = [...outcomes].sort((a, b) => b.ms - a.ms).slice(0, 3)
  if (outcomes.length > 10) console.log(`\nslowest: ${slow.map((o) => `${o.file} ${(o.ms / 1000).toFixed(1)} s`).join(', ')}`)
  const passed = outcomes.reduce((sum, o) => sum + o.passed, 0)
  failed += outcomes.reduce((sum, o) => sum + o.failed, 0)
  const skipped = outcomes.reduce((sum, o) => sum + o.skipped, 0)
  if (skipped > 0) console.log(`${skipped} skipped`)
  console.log(`\n${passed} passed, ${failed} failed`)
  return failed > 0 || passed === 0 ? 1 : 0
}

if (import.meta.filename === process.argv[1]) process.exit(await main(process.argv.slice(2)))

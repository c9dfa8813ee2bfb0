/**
 * Runs other projects' own test suites against Causeway and against Debian's dockerd, and writes down how every test ended.
 *
 *   tools/compat-suites.ts [--suite docker-py|dockerode] [--engine causeway|peer] [--only <part of a test's name>]
 *
 * The suites are not part of this project: CAUSEWAY_SUITES names a folder with their checkouts (`docker-py`, `dockerode`), by default one
 * in the cache of tools/compat-clients. Without a registry, images are made of the host's busybox and bash under the names that the suites
 * use. Results go to test/compat/results.json (not with --only); tools/gen-compat.ts makes the table of docs/compatibility.md out of them.
 */
import { spawn } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type Engine, type EngineKind, run, startEngine } from '../bench/engines.ts'

export type Outcome = 'passed' | 'failed' | 'skipped'
export interface SuiteResult {
  readonly version: string
  /** Test name to outcome, by engine. */
  readonly outcomes: Partial<Record<EngineKind, Readonly<Record<string, Outcome>>>>
  readonly engines: Partial<Record<EngineKind, string>>
}
export type Results = Readonly<Record<string, SuiteResult>>

const CACHE = process.env['CAUSEWAY_COMPAT'] ?? '/var/tmp/causeway-compat'
const SUITES = process.env['CAUSEWAY_SUITES'] ?? join(CACHE, 'suites')
export const RESULTS = join(import.meta.dirname, '../test/compat/results.json')

/** What concerns Causeway: everything but swarm, plugins, secrets, build and contexts. */
const DOCKER_PY = [
  ...['api_client', 'api_container', 'api_exec', 'api_healthcheck', 'api_image', 'api_network', 'api_volume', 'client', 'errors'],
  ...['models_containers', 'models_images', 'models_networks', 'models_resources', 'models_volumes', 'regression'],
]
const DOCKERODE = ['container', 'docker', 'image', 'networks', 'promises']
/** The highest version that both engines speak. */
const API_VERSION = '1.41'

type Runner = (engine: Engine, only: string | undefined) => Promise<{ outcomes: Record<string, Outcome>; output: string }>

const RUNNERS: Readonly<Record<string, Runner>> = { 'docker-py': dockerPy, dockerode }

/** A command inside the engine's network namespace. Never rejects for an exit code: failing tests are a result. */
function inside(engine: Engine, cwd: string, argv: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('nsenter', ['-t', String(engine.pid), '-n', ...argv], {
      cwd,
      env: { ...process.env, DOCKER_HOST: `unix://${engine.socket}`, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()))
    const timer = setTimeout(() => child.kill('SIGKILL'), 1_500_000)
    child.on('error', reject)
    child.on('close', () => {
      clearTimeout(timer)
      resolve(output)
    })
  })
}

async function dockerPy(engine: Engine, only: string | undefined): ReturnType<Runner> {
  const dir = mkdtempSync(join(tmpdir(), 'causeway-compat-'))
  try {
    const report = join(dir, 'report.xml')
    const files = DOCKER_PY.map((name) => `tests/integration/${name}_test.py`)
    const argv = ['-m', 'pytest', '-q', '-p', 'no:cacheprovider', '--timeout', '60', `--junitxml=${report}`, '--tb=short', ...files]
    if (only !== undefined) argv.push('-k', only)
    const output = await inside(engine, join(SUITES, 'docker-py'), [join(CACHE, 'venv/bin/python'), ...argv], {
      DOCKER_TEST_API_VERSION: API_VERSION,
      PYTHONDONTWRITEBYTECODE: '1',
    })
    return { outcomes: existsSync(report) ? parseJunit(readFileSync(report, 'utf8')) : {}, output }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** Test cases of a JUnit report by `file::class::name`. */
export function parseJunit(xml: string): Record<string, Outcome> {
  const outcomes: Record<string, Outcome> = {}
  for (const [, attributes, close, inner] of xml.matchAll(/<testcase ([^>]*?)(\/>|>(.*?)<\/testcase>)/gs)) {
    const attribute = (name: string) => new RegExp(`(?:^| )${name}="([^"]*)"`).exec(attributes ?? '')?.[1] ?? ''
    const name = `${attribute('classname').replace('tests.integration.', '')}.${attribute('name')}`
    const broken = close !== '/>' && /<(failure|error)\b/.test(inner ?? '')
    const skipped = close !== '/>' && /<skipped\b/.test(inner ?? '')
    // a test may be reported twice, for itself and for its tear-down
    if (outcomes[name] !== 'failed') outcomes[name] = broken ? 'failed' : skipped ? 'skipped' : 'passed'
  }
  return outcomes
}

async function dockerode(engine: Engine, only: string | undefined): ReturnType<Runner> {
  const cwd = join(SUITES, 'dockerode')
  const files = DOCKERODE.map((name) => `test/${name}.js`)
  const argv = ['node_modules/mocha/bin/mocha.js', '--exit', '--reporter', 'json', '--timeout', '60000', ...files]
  if (only !== undefined) argv.push('--grep', only)
  // any value of DOCKER_SOCKET makes the suite read DOCKER_HOST
  const output = await inside(engine, cwd, [process.execPath, ...argv], { DOCKER_SOCKET: '1' })
  return { outcomes: parseMocha(output), output }
}

interface MochaTest {
  readonly fullTitle: string
}

/** Outcomes out of mocha's JSON report, which the tests' own output precedes. */
export function parseMocha(output: string): Record<string, Outcome> {
  const start = output.indexOf('{\n  "stats"')
  if (start < 0) return {}
  const report = JSON.parse(output.slice(start, output.lastIndexOf('\n}') + 2)) as Record<'passes' | 'failures' | 'pending', MochaTest[]>
  const outcomes: Record<string, Outcome> = {}
  for (const test of report.pending) outcomes[test.fullTitle] = 'skipped'
  for (const test of report.passes) outcomes[test.fullTitle] = 'passed'
  for (const test of report.failures) outcomes[test.fullTitle] = 'failed'
  return outcomes
}

/** A tar archive with busybox and its applets, bash with its libraries, and the `/hello` of hello-world. */
function rootfs(): Buffer {
  const dir = mkdtempSync(join(tmpdir(), 'causeway-compat-'))
  try {
    for (const name of ['bin', 'etc', 'tmp', 'proc', 'sys', 'dev', 'root', 'usr/bin', 'var/opt'])
      mkdirSync(join(dir, name), { recursive: true })
    run(
      'sh',
      [
        '-ec',
        `cp "$(readlink -f "$(command -v busybox)")" bin/busybox; for a in $(busybox --list); do [ -e bin/$a ] || ln -s busybox bin/$a; done`,
      ],
      {
        cwd: dir,
      },
    )
    copyFileSync('/bin/bash', join(dir, 'bin/bash'))
    for (const [, library] of run('ldd', ['/bin/bash']).matchAll(/(\/\S+) \(0x/g)) {
      const target = join(dir, library as string)
      mkdirSync(dirname(target), { recursive: true })
      copyFileSync(realpathSync(library as string), target)
    }
    writeFileSync(
      join(dir, 'etc/passwd'),
      'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\npostgres:x:70:70::/:/bin/sh\n',
    )
    writeFileSync(join(dir, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n')
    writeFileSync(join(dir, 'hello'), '#!/bin/sh\necho Hello from Docker!\n', { mode: 0o755 })
    const archive = `${dir}.tar`
    run('tar', ['-C', dir, '-cf', archive, '.'])
    const tar = readFileSync(archive)
    rmSync(archive)
    return tar
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

async function provideImages(engine: Engine): Promise<void> {
  const tar = rootfs()
  const make = (repo: string, tag: string, cmd: string) =>
    engine.api.call('POST', `/images/create?fromSrc=-&repo=${repo}&tag=${tag}&changes=${encodeURIComponent(`CMD ${cmd}`)}`, tar)
  await make('busybox', 'latest', '["sh"]')
  await make('ubuntu', 'latest', '["/bin/bash"]')
  await make('hello-world', 'latest', '["/hello"]')
  for (const tag of ['3.10', 'latest']) await engine.api.call('POST', `/images/busybox/tag?repo=alpine&tag=${tag}`)
}

function versionOf(suite: string): string {
  if (suite === 'docker-py') return run('git', ['describe', '--tags'], { cwd: join(SUITES, suite) }).trim()
  return (createRequire(import.meta.url)(join(SUITES, suite, 'package.json')) as { version: string }).version
}

async function main(args: string[]): Promise<number> {
  const option = (name: string) => (args.includes(name) ? args[args.indexOf(name) + 1] : undefined)
  const only = option('--only')
  const engines = ['causeway', 'peer'].filter((kind) => (option('--engine') ?? kind) === kind) as EngineKind[]
  let results: Results = existsSync(RESULTS) ? (JSON.parse(readFileSync(RESULTS, 'utf8')) as Results) : {}
  for (const [suite, runner] of Object.entries(RUNNERS)) {
    if ((option('--suite') ?? suite) !== suite) continue
    if (!existsSync(join(SUITES, suite))) {
      console.error(`${suite}: skipped, ${join(SUITES, suite)} does not exist (clone it there, or set CAUSEWAY_SUITES)`)
      continue
    }
    for (const kind of engines) {
      const engine = await startEngine(kind, `compat-${kind}`)
      try {
        await provideImages(engine)
        const { outcomes, output } = await runner(engine, only)
        const log = join(tmpdir(), `compat-${suite}-${kind}.log`)
        writeFileSync(log, output)
        const count = (wanted: Outcome) => Object.values(outcomes).filter((outcome) => outcome === wanted).length
        console.log(`${suite} on ${kind}: ${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped (${log})`)
        const known = results[suite]
        results = {
          ...results,
          [suite]: {
            version: versionOf(suite),
            engines: { ...known?.engines, [kind]: engine.version },
            outcomes: { ...known?.outcomes, [kind]: Object.fromEntries(Object.entries(outcomes).sort()) },
          },
        }
      } finally {
        await engine.stop()
      }
    }
  }
  if (only === undefined) writeFileSync(RESULTS, `${JSON.stringify(results, undefined, 1)}\n`)
  return 0
}

if (import.meta.filename === process.argv[1]) process.exit(await main(process.argv.slice(2)))

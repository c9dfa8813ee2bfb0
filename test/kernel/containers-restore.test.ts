import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import test from 'node:test'
import { openLmdbStore } from '../../src/store/lmdb-store.ts'
import { isolate } from '../../testkit/isolated.ts'
import { until } from '../../testkit/until.ts'
import { exists, type Lab, logOf, openLab, shell } from './containers-lab.ts'

isolate()

interface Ids {
  lives: string
  ends: string
  always: string
  stopped: string
  member: string
  half: string
}

/** Runs the host process until it has printed its ids. */
async function startHost(dir: string, ...args: string[]): Promise<{ child: ChildProcess; ids: Ids }> {
  const child = spawn(process.execPath, ['--import', 'tsx', new URL('./containers-host.ts', import.meta.url).pathname, dir, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
    text += chunk
    if (text.includes('\n')) break
  }
  return { child, ids: JSON.parse(text) }
}

async function gone(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once('exit', resolve))
}

async function withHost(args: string[], body: (lab: Lab, ids: Ids, live: Set<string>) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(`${tmpdir()}/cwr-`)
  mkdirSync(`${dir}/store`)
  const { child, ids } = await startHost(dir, ...args)
  if (args.length === 0) child.kill('SIGKILL')
  await gone(child)
  await new Promise((resolve) => setTimeout(resolve, 1500)) // `ends` and `always` end while nobody looks
  const lab = await openLab({ dir, store: openLmdbStore({ dir: `${dir}/store` }) })
  try {
    const live = await lab.containers.restore()
    await body(lab, ids, live)
  } finally {
    await lab.close()
    await lab.store.close()
    rmSync(dir, { recursive: true, force: true })
  }
}

test('kill -9 of the engine: containers go on, exits of the meantime are known, policies are applied', async () => {
  await withHost([], async (lab, ids, live) => {
    assert.deepEqual([...live].sort(), [ids.lives, ids.member].sort())
    const { containers } = lab
    assert.equal(containers.get('lives').state.status, 'running')
    const before = (await logOf(lab, ids.lives)).length
    await until('output goes on', async () => (await logOf(lab, ids.lives)).length > before)
    const { state } = containers.get('ends')
    assert.deepEqual([state.status, state.exitCode], ['exited', 6])
    assert.ok(Date.parse(state.finishedAt) < Date.now() - 300, 'the time of the exit, not of the restore')
    assert.equal(containers.get('always').state.status, 'exited', 'not before the networks are back')
    await containers.startPending()
    assert.equal(containers.get('always').state.status, 'running')
    assert.equal(containers.get('stopped').state.status, 'exited', 'unless-stopped respects the stop')
    assert.equal(containers.get('half').state.status, 'created')

    const session = await containers.attach('lives', { stdin: false, stdout: true, stderr: true, stream: true, logs: false })
    let seen = ''
    session.output.on('data', (chunk: { data: Buffer }) => {
      seen += chunk.data
    })
    await until('attach works again', () => seen.includes('\n'))
    const exec = await containers.execCreate('lives', { Cmd: ['true'] })
    await containers.execStart(exec, { detach: true })
    await until('exec works again', () => containers.execInspect(exec).exitCode === 0)
    await containers.kill('lives')
    assert.equal(containers.get('lives').state.exitCode, 137)
    assert.equal(exists(`${lab.dir}/netns/${ids.lives.slice(0, 12)}`), true, 'the member still runs in it')
    await containers.kill('member')
    assert.equal(exists(`${lab.dir}/netns/${ids.lives.slice(0, 12)}`), false)
  })
})

test('kill -9 in the middle of a start: the half-made container is gone and can be started', async () => {
  await withHost(['half-start'], async (lab, ids, live) => {
    assert.equal(live.has(ids.half), false)
    assert.equal(lab.containers.get('half').state.status, 'created')
    assert.equal(readdirSync(`${lab.dir}/run/bundles`).includes(ids.half), false)
    assert.equal(readdirSync(`${lab.dir}/run/runc`).includes(ids.half), false)
    assert.equal(exists(`${lab.dir}/netns/${ids.half.slice(0, 12)}`), false)
    await lab.containers.start('half')
    assert.equal(lab.containers.get('half').state.status, 'running')
  })
})

test('a stored container whose log options would be refused today starts all the same', async () => {
  const first = await openLab()
  const options = { 'max-size': 'plenty', 'max-file': '0', unheard: 'of' }
  const { id } = await first.containers.create(shell('echo alive'))
  const [[key, record] = []] = first.store.list<{ hostConfig: object }>('container/')
  assert.ok(key !== undefined && record !== undefined)
  first.store.put(key, { ...record, hostConfig: { ...record.hostConfig, LogConfig: { Type: 'syslog', Config: options } } })
  await first.crash()
  const lab = await openLab({ dir: first.dir, store: first.store })
  try {
    await lab.containers.restore()
    await lab.containers.start(id)
    await lab.containers.wait(id, 'not-running', AbortSignal.timeout(10_000))
    assert.match(await logOf(lab, id), /alive/)
  } finally {
    await lab.close()
    rmSync(first.dir, { recursive: true, force: true })
  }
})

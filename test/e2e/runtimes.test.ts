/** Containers on crun of Debian 13 (tools/crun-peer): asked for by name, as the default, and on a host that has nothing else. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { after, test } from 'node:test'
import { type EngineLab, startEngineLab } from '../../testkit/engine-lab.ts'

const peer = spawnSync(new URL('../../tools/crun-peer', import.meta.url).pathname, { encoding: 'utf8', timeout: 200_000 })
const CRUN = peer.stdout.trim()
const skip = peer.status === 0 ? false : peer.stderr.trim() || 'tools/crun-peer failed'
// crun runs nothing where version 2 of control groups has controllers beside those of version 1
spawnSync('umount', ['/sys/fs/cgroup/unified'])

const dir = mkdtempSync(`${tmpdir()}/causeway-runtimes-`)
after(() => rmSync(dir, { recursive: true, force: true }))
const config = `${dir}/daemon.json`
const write = (content: object) => writeFileSync(config, JSON.stringify(content))

async function trial(lab: EngineLab, runtime: readonly string[], name: string): Promise<void> {
  const ran = await lab.docker('run', '--rm', ...runtime, 'busybox', 'sh', '-c', 'echo out; echo err >&2; exit 3')
  assert.deepEqual(ran, { code: 3, out: 'out\n', err: 'err\n' })
  const started = await lab.docker(
    ...['run', '-d', '--name', name, ...runtime, '-p', '0:80', '--memory', '64m', '--health-cmd', 'true', '--health-interval', '1s'],
    ...['busybox', 'httpd', '-f', '-h', '/etc'],
  )
  assert.equal(started.code, 0, started.err)
  const [, port] = /:(\d+)$/m.exec((await lab.docker('port', name, '80/tcp')).out) ?? []
  assert.match((await lab.sh(`curl -s -m 3 http://127.0.0.1:${port}/hostname`)).out, /^[0-9a-f]{12}$/m)
  assert.deepEqual(await lab.exec(name, 'sh', '-c', 'echo in; exit 4'), { code: 4, out: 'in\n', err: '' })
  assert.match((await lab.docker('exec', '-t', name, 'tty')).out, /^\/dev\/pts\/0/)
  assert.equal((await lab.docker('pause', name)).code, 0)
  assert.equal((await lab.docker('unpause', name)).code, 0)
  for (const end = Date.now() + 10_000; ; await new Promise((resolve) => setTimeout(resolve, 100))) {
    const { Health } = (await lab.api('GET', `/containers/${name}/json`)).json.State
    if (Health?.Status === 'healthy') break
    assert.ok(Date.now() < end, JSON.stringify(Health))
  }
}

test('a runtime of daemon.json is had by its name, with its arguments, and the default is another', { skip }, async () => {
  // the arguments are seen by what they do: crun's --debug has it say more on its standard error
  write({ runtimes: { crun: { path: CRUN }, chatty: { path: CRUN, runtimeArgs: ['--debug'] }, lost: { path: '/nonexistent/run' } } })
  const lab = await startEngineLab(['--config-file', config])
  try {
    await trial(lab, ['--runtime', 'crun'], 'web')
    assert.equal((await lab.docker('run', '--rm', '--runtime', 'chatty', 'busybox', 'echo', 'yes')).out, 'yes\n')
    const { json } = await lab.api('GET', '/info')
    assert.deepEqual(json.Runtimes.chatty, { path: CRUN, runtimeArgs: ['--debug'] })
    assert.equal(json.DefaultRuntime, 'runc')
    await lab.run('plain')
    const runtimeOf = async (name: string) => (await lab.api('GET', `/containers/${name}/json`)).json.HostConfig.Runtime
    assert.deepEqual([await runtimeOf('web'), await runtimeOf('plain')], ['crun', 'runc'])

    assert.match((await lab.docker('run', '--rm', '--runtime', 'nope', 'busybox', 'true')).err, /unknown or invalid runtime name: nope/)
    const lost = await lab.docker('run', '--name', 'lost', '--runtime', 'lost', 'busybox', 'true')
    assert.match(lost.err, /error while looking up the specified runtime path: exec: "\/nonexistent\/run": stat/)
    const noProgram = await lab.docker('run', '--rm', '--runtime', 'crun', 'busybox', 'nope')
    assert.equal(noProgram.code, 127, noProgram.err)
    assert.match(noProgram.err, /OCI runtime create failed: exec: "nope": executable file not found in \$PATH/)
    assert.equal((await lab.docker('run', '--rm', '--runtime', 'crun', 'busybox', '/nope')).code, 127)
    const folder = await lab.docker('run', '--rm', '--runtime', 'crun', 'busybox', '/etc')
    assert.equal(folder.code, 126, folder.err)
    assert.equal((await lab.exec('web', 'nope')).code, 127)

    // an engine that was killed finds them again; one that no longer knows the name can still end and remove them
    await lab.kill9()
    write({})
    await lab.start()
    assert.equal((await lab.api('GET', '/containers/web/json')).json.State.Status, 'running')
    const forgotten = await lab.exec('web', 'true')
    assert.deepEqual([forgotten.code, forgotten.out.trim()], [126, 'unknown or invalid runtime name: crun'])
    assert.equal((await lab.docker('stop', '-t', '0', 'web')).code, 0)
    assert.match((await lab.docker('start', 'web')).err, /unknown or invalid runtime name: crun/)
    assert.equal((await lab.docker('rm', 'web')).code, 0)
    assert.deepEqual(
      readdirSync(`${lab.dir}/run/runtimes/crun`).filter((name) => name !== '.cache'), // crun's own, of its seccomp filters
      [],
    )
  } finally {
    assert.deepEqual(await lab.close(), [])
  }
})

test('crun is the default by name, also after a restart of the engine', { skip }, async () => {
  write({ runtimes: { small: { path: CRUN } }, 'default-runtime': 'small' })
  const lab = await startEngineLab(['--config-file', config])
  try {
    await trial(lab, [], 'web')
    assert.equal((await lab.api('GET', '/containers/web/json')).json.HostConfig.Runtime, 'small')
    await lab.kill9()
    await lab.start()
    assert.equal((await lab.exec('web', 'true')).code, 0)
    assert.equal((await lab.docker('restart', '-t', '0', 'web')).code, 0)
    assert.equal((await lab.exec('web', 'true')).code, 0)
  } finally {
    assert.deepEqual(await lab.close(), [])
  }
})

test('a host with nothing but crun runs everything with it, also what asks for runc', { skip }, async () => {
  const paths = spawnSync('sh', ['-c', 'for d in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin; do ls $d/runc 2>/dev/null; done'])
  // not executable any more, in this mount namespace
  for (const path of paths.stdout.toString().split('\n').filter(Boolean)) spawnSync('mount', ['--bind', '/dev/null', path])
  symlinkSync(CRUN, `${dir}/crun`)
  process.env['PATH'] = `${dir}:${process.env['PATH']}`
  write({})
  const lab = await startEngineLab(['--config-file', config])
  try {
    assert.equal((await lab.docker('run', '--rm', 'busybox', 'echo', 'yes')).out, 'yes\n')
    assert.equal((await lab.docker('run', '--rm', '--runtime', 'runc', 'busybox', 'echo', 'yes')).out, 'yes\n')
    assert.equal((await lab.api('GET', '/info')).json.DefaultRuntime, 'crun')
    assert.equal((await lab.api('GET', '/info')).json.Runtimes.runc, undefined)
  } finally {
    assert.deepEqual(await lab.close(), [])
  }
})

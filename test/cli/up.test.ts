/** `up`, `status`, `down` and the verbs of our own, against our own engine in namespaces of its own. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { isolate } from '../../testkit/isolated.ts'
import { LAUNCHER, type Ran, runProgram } from './run-cli.ts'

isolate()
spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', '/run']) // our own mount namespace

const folder = mkdtempSync(join(tmpdir(), 'causeway-up-'))
const env = { CAUSEWAY_HOST: `unix://${folder}/c.sock`, CAUSEWAY_LOG: `${folder}/log` }
const link = `${folder}/cw` // through a symbolic link, from another folder
symlinkSync(LAUNCHER, link)
const cw = (...words: string[]): Promise<Ran> => runProgram(link, words, { env, cwd: '/', timeoutMs: 60_000 })

before(async () => {
  assert.deepEqual(await cw('status'), {
    code: 1,
    stdout: `The engine is not running at ${env.CAUSEWAY_HOST}; \`causeway up\` starts it\n`,
    stderr: '',
  })
  const { code, stdout, stderr } = await cw('up', '--exec-root', `${folder}/run`, '--data-root', `${folder}/data`)
  assert.equal(code, 0, stderr)
  assert.match(stdout, /^The engine is running \(pid \d+, ready in [\d.]+ s\)\n {2}address {2}unix:\/\/.*\n {2}log {6}.*\/log\n$/)
})

after(async () => {
  assert.deepEqual(await cw('down', '--all', '-t', '1'), { code: 0, stdout: 'The engine and its containers are stopped\n', stderr: '' })
  // when the command has answered, nothing is left to wait for
  const links = JSON.parse(spawnSync('ip', ['-j', 'link']).stdout.toString()) as { ifname: string }[]
  assert.deepEqual(
    links.map((l) => l.ifname).filter((name) => /^(docker0|veth|br-)/.test(name)),
    [],
  )
  assert.equal(spawnSync('nft', ['list', 'tables']).stdout.toString(), '')
  rmSync(folder, { recursive: true, force: true })
})

test('up: a second time says so and starts nothing', async () => {
  assert.deepEqual(await cw('up'), { code: 0, stdout: `The engine is already running at ${env.CAUSEWAY_HOST}\n`, stderr: '' })
})

test('up: an engine that cannot start is an error with the last lines of its log', async () => {
  const other = { CAUSEWAY_HOST: `unix://${folder}/other.sock`, CAUSEWAY_LOG: `${folder}/other.log` }
  const ran = await runProgram(link, ['up', '--bip', 'nonsense'], { env: other })
  assert.equal(ran.code, 1)
  assert.match(ran.stderr, /nonsense/)
  const again = await runProgram(link, ['up', '--exec-root', `${folder}/run`, '--data-root', `${folder}/data`], { env: other })
  assert.doesNotMatch(again.stderr, /nonsense/, 'of this start only')
  assert.match(again.stderr, /^ {2}failed to start daemon: [^\n]*\nThe engine ended at once/, 'in words, once')
  assert.match(ran.stderr, /The engine ended at once \(exit code \d+\); its log is .*other\.log\n$/)
})

test('up: a configuration file says where the engine listens', async () => {
  const place = `${folder}/second`
  const config = `${folder}/daemon.json`
  const own = { hosts: [`unix://${place}.sock`], 'exec-root': place, 'data-root': `${place}-data`, bridge: 'none' }
  writeFileSync(config, JSON.stringify(own))
  const there = { ...env, CAUSEWAY_HOST: `unix://${place}.sock` }
  // one engine for each network namespace
  const ran = await runProgram('unshare', ['--net', 'env', '-u', 'CAUSEWAY_HOST', link, 'up', '--config-file', config], { env })
  assert.match(ran.stdout, new RegExp(`^The engine is running .*\\n {2}address {2}${there.CAUSEWAY_HOST}\\n`), ran.stderr)
  assert.equal((await runProgram(link, ['status'], { env: there })).code, 0)
  assert.equal((await runProgram(link, ['down'], { env: there })).code, 0)
})

test('a container of the bootstrap image is seen in veth, in its namespace, and its ports change while it runs', async () => {
  assert.match((await cw('image', 'bootstrap')).stdout, /^busybox:latest sha256:[0-9a-f]{64}\n$/)
  assert.equal(
    (await cw('tag', 'busybox', 'X:1')).stderr,
    'Error parsing reference: "X:1" is not a valid repository/tag: invalid reference format: repository name (library/X) must be lowercase\n',
  )
  const created = (await cw('image', 'inspect', '-f', '{{.Created}}', 'busybox')).stdout.trim()
  assert.equal(Date.parse(created), Math.trunc(statSync('/bin/busybox').mtimeMs / 1000) * 1000, 'as old as the program it is made of')
  assert.equal((await cw('network', 'create', '--subnet', '10.77.0.0/24', 'front')).code, 0)
  const made = await cw(
    'run',
    '-d',
    '--name',
    'web',
    '--network',
    'name=front,ip=10.77.0.9',
    '-p',
    '8080:80',
    'busybox',
    'httpd',
    '-f',
    '-p',
    '80',
  )
  assert.equal(made.code, 0, made.stderr)
  const [host = '', bridge, addresses] = (await cw('veth', '--format', '{{.HostInterface}} {{.Bridge}} {{.Addresses}}', 'web')).stdout
    .trim()
    .split(' ')
  assert.equal(addresses, '10.77.0.9/24')
  const [shown] = JSON.parse(spawnSync('ip', ['-j', 'link', 'show', host], { encoding: 'utf8' }).stdout) as { master: string }[]
  assert.equal(shown?.master, bridge)
  const inside = JSON.parse((await cw('netns', 'exec', 'web', 'ip', '-j', 'addr', 'show', 'eth0')).stdout) as {
    addr_info: { local: string }[]
  }[]
  assert.equal(inside[0]?.addr_info[0]?.local, '10.77.0.9')
  assert.equal((await cw('netns', 'exec', 'web', 'sh', '-c', 'exit 5')).code, 5)
  assert.match((await cw('netns', 'ls')).stdout, /^web +[0-9a-f]{12} +front +.*\/netns\/[0-9a-f]{12}$/m)
  assert.match((await cw('port', 'add', 'web', '127.0.0.1:9090:80')).stdout, /80\/tcp -> 127\.0\.0\.1:9090\n/)
  assert.equal(
    spawnSync('curl', ['-s', '-o', '/dev/null', '-w', '%{http_code}', '-m', '5', 'http://127.0.0.1:9090/'], { encoding: 'utf8' }).stdout,
    '404',
  )
  // a reader that takes its time gets all of it
  const names = Array.from({ length: 60 }, () => 'web').join(' ')
  const slow = await runProgram('sh', ['-c', `'${link}' inspect ${names} | (sleep 0.5; jq length)`], { env })
  assert.equal(slow.stdout, '60\n')
  assert.deepEqual(await cw('port', 'rm', 'web', '127.0.0.1:9090:80'), { code: 0, stdout: '', stderr: '' })
  assert.equal((await cw('port', 'web')).stdout, '80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n')
  // what was changed is what the next start does
  assert.equal((await cw('port', 'add', 'web', '127.0.0.1:9091:80')).code, 0)
  assert.equal((await cw('port', 'rm', 'web', '8080:80')).code, 0)
  assert.equal((await cw('restart', '-t', '0', 'web')).code, 0)
  assert.equal((await cw('port', 'web')).stdout, '80/tcp -> 127.0.0.1:9091\n')
})

test('doctor, repairs, info and status answer', async () => {
  assert.match((await cw('doctor')).stdout, /^AREA +CHECK +STATE +FOUND\nkernel +bridge +ok +works\n/)
  assert.match((await cw('doctor', '--format', '{{.Check}}={{.State}}')).stdout, /^bridge=ok\nveth=ok\n/)
  assert.match((await cw('doctor', '--format', 'table {{.State}}\t{{.Check}}')).stdout, /^STATE +CHECK\nok +bridge\n/)
  assert.match(
    (await cw('doctor', '--format', 'json')).stdout,
    /^\{"Area":"kernel","Check":"bridge","Cost":"","Found":"works","State":"ok"\}\n/,
  )
  assert.match((await cw('repairs')).stdout, /^TIME +WHAT +WRONG +REPAIR\n/)
  assert.match((await cw('info')).stdout, /\n Containers: \d+\n {2}Running: \d+\n/)
  assert.match(
    (await cw('status')).stdout,
    /^The engine is running\n.*\n {2}version .*\n {2}containers {2}\d+ running of \d+\n {2}networks {4}\d+\n/,
  )
})

test('an image that is not there and cannot be pulled: exit code 125, and how to make busybox', async () => {
  const ran = await cw('run', '--rm', 'causeway.invalid/nothing:1', 'true')
  assert.equal(ran.code, 125)
  assert.match(ran.stderr, /^Unable to find image 'causeway\.invalid\/nothing:1' locally\n/)
})

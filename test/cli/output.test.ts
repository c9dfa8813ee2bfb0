/** The same words to the docker client and to causeway, against the same engine: output, error text and exit code must be the same. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, readlinkSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { isolate } from '../../testkit/isolated.ts'
import { type Peer, startPeer, whyNoPeer } from './peer.ts'
import { causeway, docker, hasDocker, type Ran } from './run-cli.ts'

isolate()
const why = whyNoPeer() ?? (hasDocker() ? undefined : 'no docker client here')
const skip = why === undefined ? false : process.env['CI'] === '1' ? false : why

let peer: Peer
before(async () => {
  if (skip !== false) return
  peer = await startPeer()
  const made = await docker(peer.host, [
    'run',
    '-d',
    '--net',
    'host',
    '--name',
    'c1',
    '-e',
    'A=1',
    '-l',
    'x=y',
    '--expose',
    '99',
    'busybox',
    'sleep',
    '100000',
  ])
  assert.equal(made.code, 0, made.stderr)
})
after(async () => {
  await peer?.stop()
})

/** Without what differs by intent: the program's name, times that pass between two runs, ids and generated names. */
function tidy(ran: Ran): Ran {
  const text = (t: string) =>
    t
      .replaceAll('causeway', 'docker')
      .replace(/^docker: /gm, '')
      .replace(/\b(\d+|About an?) (seconds?|minutes?)( ago)?/g, '<time>')
      .replace(/Less than a second( ago)?/g, '<time>')
      .replace(/ +/g, ' ')
  return { code: ran.code, stdout: text(ran.stdout), stderr: text(ran.stderr) }
}

const SAME: readonly (readonly string[])[] = [
  ['rename', 'nobody', 'somebody'],
  ['rename', 'c1', 'a/b'],
  ['tag', 'nothing', 'x:1'],
  ['run'],
  ['run', '--foo', 'busybox'],
  ['run', '-z', 'busybox'],
  ['run', '--name'],
  ['run', '-p', 'foo', 'busybox'],
  ['run', '-p', '80-85:80-82', 'busybox'],
  ['run', '--network', 'name=x,foo=bar', 'busybox'],
  ['run', '--mount', 'type=bind', 'busybox'],
  ['run', '--mac-address', 'x', 'busybox'],
  ['run', '--network', 'n', '--network', 'host', 'busybox'],
  ['run', '--network-alias', 'a', 'busybox'],
  ['run', '--restart', 'always', '--rm', 'busybox'],
  ['run', '--env-file', '/nope', 'busybox'],
  ['run', '-d', '-a', 'stdin', 'busybox'],
  ['run', '-it', 'busybox'],
  ['run', '--pull', 'foo', 'busybox'],
  ['run', '--rm', '--net', 'host', 'busybox', 'echo', 'hi'],
  ['run', '--rm', '--net', 'host', 'busybox', 'sh', '-c', 'echo out; echo err >&2; exit 9'],
  ['run', '--rm', '--net', 'host', 'busybox', 'nosuch'],
  ['run', '--rm', '--net', 'host', 'busybox', '/etc'],
  ['run', '--rm', '--net', 'host', '-e', 'A=5', '-w', '/tmp', 'busybox', 'sh', '-c', 'echo $A; pwd'],
  ['run', '--rm', '-t', '--net', 'host', 'busybox', 'echo', 'terminal'],
  ['run', '--rm', '--net', 'host', 'busybox', 'sh', '-c', 'kill -9 $$'],
  ['foo'],
  ['network', 'foo'],
  ['network', 'create'],
  ['network', 'create', 'a', 'b'],
  ['network', 'create', '--subnet', '10.9.0.0/24', '--gateway', '10.8.0.1', 'x'],
  ['network', 'create', '--gateway', '10.8.0.1', 'x'],
  ['network', 'create', '--subnet', 'foo', 'x'],
  ['network', 'ls'],
  ['network', 'ls', '--format', 'json'],
  ['network', 'ls', '--no-trunc'],
  ['network', 'ls', '-f', 'x=y'],
  ['network', 'inspect', 'host'],
  ['network', 'inspect', 'nope'],
  ['network', 'connect', 'nope', 'c1'],
  ['network', 'prune', '-f'],
  ['ps'],
  ['ps', '-a', '-s'],
  ['ps', '-q'],
  ['ps', '--no-trunc', '-aq'],
  ['ps', '--format', 'json'],
  ['ps', '--format', '{{json .}}'],
  ['ps', '--format', 'table {{.ID}}\\t{{.Names}}\\t{{.Label "x"}}\\t{{lower .Image}}\\t{{.Networks}}'],
  ['ps', '--format', '{{.Names'],
  ['ps', '-f', 'foo=bar'],
  ['ps', '-f', 'foo'],
  ['images'],
  ['images', '--format', 'json'],
  ['images', '--digests'],
  ['images', '-q', '--no-trunc'],
  ['history', 'busybox'],
  ['volume', 'ls'],
  ['volume', 'inspect', 'nope'],
  ['inspect', 'c1'],
  ['inspect', 'c1', 'busybox', 'host'],
  ['inspect', '-s', 'c1'],
  ['inspect', 'nope'],
  ['inspect', '-f', 'json', 'c1'],
  [
    'inspect',
    '-f',
    '{{.Name}} {{.State.Running}} {{.Config.Cmd}} {{.HostConfig.Binds}} {{.Config.Labels}} {{.NetworkSettings.Ports}}',
    'c1',
  ],
  ['inspect', '-f', '{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.NetworkID}}{{end}}', 'c1'],
  ['inspect', '-f', '{{if .State.Health}}h{{else}}n{{end}} {{.HostConfig.Init}} {{.Config.Labels.foo}} {{json .Mounts}}', 'c1'],
  ['inspect', '-f', '{{.Foo}}', 'c1'],
  ['inspect', '-f', '{{.State', 'c1'],
  ['inspect', '-f', '{{foo .State}}', 'c1'],
  ['inspect', '-f', '{{index .Config.Cmd 5}}', 'c1'],
  ['port', 'c1'],
  ['port', 'c1', '81'],
  ['top', 'c1'],
  ['top', 'c1', '-o', 'pid,comm'],
  ['diff', 'c1'],
  ['exec', 'c1', 'sh', '-c', 'echo $A; exit 7'],
  ['exec', '-e', 'B=2', '-u', '0', '-w', '/tmp', 'c1', 'sh', '-c', 'echo $B; pwd; id'],
  ['exec', 'c1', 'nosuch'],
  ['exec', 'nope', 'ls'],
  ['exec', '-it', 'c1', 'sh'],
  ['logs', 'nope'],
  ['logs', '--since', 'foo', 'c1'],
  ['stop', 'nope'],
  ['start', 'nope'],
  ['rm', 'c1'],
  ['rm', '-f', 'nope'],
  ['kill', '-s', 'FOO', 'c1'],
  ['rename', 'c1'],
  ['wait', 'nope'],
  ['rmi', 'nope'],
  ['cp', 'a', 'b'],
  ['cp', 'nope:/a', '/tmp/x'],
  ['cp', 'c1:/nope', '/tmp/x'],
  ['system', 'df'],
  ['events', '--since', '1h', '--until', '0s', '-f', 'container=c1'],
  ['events', '--since', '1h', '--until', '0s', '-f', 'container=c1', '--format', 'json'],
  ['info', '-f', '{{.Containers}} {{.KernelVersion}} {{.Plugins.Network}}'],
  ['version', '-f', '{{.Server.Version}}'],
]

for (const words of SAME) {
  test(`answers as docker: ${words.join(' ')}`, { skip }, async () => {
    const theirs = tidy(await docker(peer.host, words))
    const ours = tidy(await causeway(peer.host, words))
    assert.deepEqual(ours, theirs)
  })
}

test('standard input reaches the container to its end', { skip }, async () => {
  const input = 'line\n'.repeat(50_000)
  const ran = await causeway(peer.host, ['run', '--rm', '-i', '--net', 'host', 'busybox', 'sh', '-c', 'wc -c; echo done >&2'], { input })
  assert.deepEqual(ran, { code: 0, stdout: `${input.length}\n`, stderr: 'done\n' })
})

test('large output arrives whole, in both streams', { skip }, async () => {
  const ran = await causeway(peer.host, ['exec', 'c1', 'sh', '-c', 'seq 1 200000; seq 1 5 >&2'])
  assert.equal(ran.stdout.length, 1_288_895)
  assert.ok(ran.stdout.endsWith('199999\n200000\n'))
  assert.equal(ran.stderr, '1\n2\n3\n4\n5\n')
})

test('a signal to the client goes to the container', { skip }, async () => {
  const script = `trap "echo got it; exit 3" TERM; echo ready; while :; do sleep 0.1; done`
  const ran = await new Promise<Ran>((resolve) => {
    const started = import('node:child_process').then(({ spawn }) => {
      const child = spawn('node', [
        '--',
        new URL('../../bin/causeway', import.meta.url).pathname,
        '-H',
        peer.host,
        'run',
        '--rm',
        '--net',
        'host',
        'busybox',
        'sh',
        '-c',
        script,
      ])
      let stdout = ''
      let stderr = ''
      child.stdout.on('data', (chunk) => {
        stdout += String(chunk)
        if (stdout === 'ready\n') child.kill('SIGTERM')
      })
      child.stderr.on('data', (chunk) => {
        stderr += String(chunk)
      })
      child.on('close', (code) => resolve({ code: code ?? -1, stdout, stderr }))
    })
    void started
  })
  assert.deepEqual(ran, { code: 3, stdout: 'ready\ngot it\n', stderr: '' })
})

test('logs: both streams, the last lines, times, and what comes while following', { skip }, async () => {
  const made = await causeway(peer.host, [
    'run',
    '-d',
    '--name',
    'talker',
    '--net',
    'host',
    'busybox',
    'sh',
    '-c',
    'echo one; echo two >&2; sleep 1; echo three',
  ])
  assert.match(made.stdout, /^[0-9a-f]{64}\n$/)
  assert.deepEqual(await causeway(peer.host, ['logs', '-f', 'talker']), { code: 0, stdout: 'one\nthree\n', stderr: 'two\n' })
  assert.deepEqual(await causeway(peer.host, ['logs', '--tail', '1', 'talker']), { code: 0, stdout: 'three\n', stderr: '' })
  assert.match((await causeway(peer.host, ['logs', '-t', '-n', '1', 'talker'])).stdout, /^\d{4}-\d\d-\d\dT[\d:.]+Z three\n$/)
  assert.deepEqual(await causeway(peer.host, ['wait', 'talker']), { code: 0, stdout: '0\n', stderr: '' })
})

test('start -a gives the output and the exit code', { skip }, async () => {
  await causeway(peer.host, ['create', '--name', 'again', '--net', 'host', 'busybox', 'sh', '-c', 'echo hello; exit 4'])
  assert.deepEqual(await causeway(peer.host, ['start', '-a', 'again']), { code: 4, stdout: 'hello\n', stderr: '' })
  assert.deepEqual(await causeway(peer.host, ['rm', 'again']), { code: 0, stdout: 'again\n', stderr: '' })
})

test('cp: files, folders, contents, links and archives, there and back', { skip }, async () => {
  const here = `${peer.folder}/cp`
  mkdirSync(`${here}/site/sub`, { recursive: true })
  writeFileSync(`${here}/site/a.txt`, 'a', { mode: 0o640 })
  writeFileSync(`${here}/site/sub/big`, Buffer.alloc(300_000, 'x'))
  symlinkSync('a.txt', `${here}/site/link`)
  const ok = async (...words: string[]) => {
    const ran = await causeway(peer.host, ['cp', ...words])
    assert.deepEqual(ran, { code: 0, stdout: '', stderr: '' }, words.join(' '))
  }
  const inside = async (script: string) => (await causeway(peer.host, ['exec', 'c1', 'sh', '-c', script])).stdout
  await ok(`${here}/site`, 'c1:/tmp') // into an existing folder: keeps its name
  assert.equal(await inside('cd /tmp/site; cat a.txt; readlink link; wc -c < sub/big; stat -c %a a.txt'), 'aa.txt\n300000\n640\n')
  await ok(`${here}/site`, 'c1:/tmp/new') // a new name
  assert.equal(await inside('ls /tmp/new'), 'a.txt\nlink\nsub\n')
  await ok(`${here}/site/.`, 'c1:/tmp/new/sub') // its content
  assert.equal(await inside('ls /tmp/new/sub'), 'a.txt\nbig\nlink\nsub\n')
  await ok(`${here}/site/a.txt`, 'c1:/tmp/b.txt')
  assert.equal(await inside('cat /tmp/b.txt'), 'a')
  mkdirSync(`${here}/back`)
  await ok('c1:/tmp/site', `${here}/back`)
  assert.equal(readFileSync(`${here}/back/site/sub/big`).length, 300_000)
  assert.equal(readlinkSync(`${here}/back/site/link`), 'a.txt')
  assert.equal(statSync(`${here}/back/site/a.txt`).mode & 0o777, 0o640)
  await ok('c1:/tmp/site/.', `${here}/content`)
  assert.equal(readFileSync(`${here}/content/a.txt`, 'utf8'), 'a')
  await ok('c1:/tmp/b.txt', `${here}/renamed`)
  assert.equal(readFileSync(`${here}/renamed`, 'utf8'), 'a')
  const tar = await causeway(peer.host, ['cp', 'c1:/tmp/b.txt', '-'])
  assert.ok(tar.stdout.startsWith('b.txt\0'))
  const refused = await causeway(peer.host, ['cp', 'c1:/tmp/site', `${here}/renamed`])
  assert.deepEqual([refused.code, refused.stderr], [1, 'cannot copy directory\n'])
  assert.equal(readFileSync(`${here}/renamed`, 'utf8'), 'a')
  assert.ok(!existsSync(`${here}/renamed.part`))
})

test('images: save, remove, load and import', { skip }, async () => {
  const file = `${peer.folder}/saved.tar`
  assert.equal((await causeway(peer.host, ['tag', 'busybox', 'copy:1'])).code, 0)
  assert.deepEqual(await causeway(peer.host, ['save', '-o', file, 'copy:1']), { code: 0, stdout: '', stderr: '' })
  assert.deepEqual(await causeway(peer.host, ['rmi', 'copy:1']), { code: 0, stdout: 'Untagged: copy:1\n', stderr: '' })
  assert.deepEqual(await causeway(peer.host, ['load', '-q', '-i', file]), { code: 0, stdout: 'Loaded image: copy:1\n', stderr: '' })
  const imported = await causeway(peer.host, ['import', '-c', 'CMD ["true"]', '-m', 'hello', `${peer.folder}/busybox.tar`, 'tiny:2'])
  assert.match(imported.stdout, /^sha256:[0-9a-f]{64}\n$/)
  assert.equal((await causeway(peer.host, ['inspect', '-f', '{{.Config.Cmd}} {{.Comment}}', 'tiny:2'])).stdout, '[true] hello\n')
  const failed = await causeway(peer.host, ['save', '-o', `${peer.folder}/nope.tar`, 'nope'])
  assert.equal(failed.code, 1)
  assert.ok(!existsSync(`${peer.folder}/nope.tar`))
})

test('stats: one line per container, with numbers', { skip }, async () => {
  const { stdout } = await causeway(peer.host, ['stats', '--no-stream', '--format', '{{.Name}} {{.PIDs}} {{.MemUsage}} {{.CPUPerc}}', 'c1'])
  assert.match(stdout, /^c1 1 [\d.]+[KM]iB \/ [\d.]+GiB [\d.]+%\n$/)
})

/** Docker's own command line drives the server: what it prints is the judge of the shapes. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { after, before, test } from 'node:test'
import type { Lab } from '../../testkit/api-lab.ts'
import { apiLab } from '../../testkit/api-lab.ts'

const hasDocker = spawnSync('docker', ['--version']).status === 0
const hasDockerPy = spawnSync('python3', ['-c', 'import docker']).status === 0

let lab: Lab
before(async () => {
  lab = await apiLab()
})
after(() => lab.close())

interface Outcome {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

function run(program: string, args: readonly string[], input?: string, env: Record<string, string> = {}): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { env: { ...process.env, DOCKER_HOST: `unix://${lab.path}`, ...env }, timeout: 30_000 })
    let out = ''
    let err = ''
    child.stdout.on('data', (chunk) => {
      out += chunk
    })
    child.stderr.on('data', (chunk) => {
      err += chunk
    })
    child.stdin.on('error', () => {})
    child.stdin.end(input)
    child.on('close', (code) => resolve({ code, out, err }))
  })
}

const docker = async (...args: string[]): Promise<string> => {
  const { code, out, err } = await run('docker', args)
  assert.equal(code, 0, `docker ${args.join(' ')}: ${err}`)
  return out.trimEnd()
}

test('docker: networks, containers, images, volumes and the engine itself', {
  skip: hasDocker ? false : 'no docker client here',
}, async (t) => {
  await t.test('version and info', async () => {
    assert.equal(await docker('version', '-f', '{{.Server.APIVersion}} {{.Server.Version}}'), '1.51 28.3.0')
    assert.equal(await docker('info', '-f', '{{.Name}} {{.ServerVersion}} {{.Plugins.Network}}'), 'lab 28.3.0 [bridge host null]')
  })
  await t.test('network create, ls, inspect, rm', async () => {
    await docker('network', 'create', '--subnet', '10.9.0.0/24', '--gateway', '10.9.0.1', '--label', 'a=b', 'n1')
    assert.equal(await docker('network', 'ls', '--format', '{{.Name}}'), 'bridge\nhost\nn1\nnone')
    assert.equal(await docker('network', 'ls', '-q', '--filter', 'type=custom', '--format', '{{.Name}}'), 'n1')
    assert.equal(
      await docker('network', 'inspect', 'n1', '-f', '{{(index .IPAM.Config 0).Subnet}} {{.Labels.a}} {{.EnableIPv4}}'),
      '10.9.0.0/24 b true',
    )
    const predefined = await run('docker', ['network', 'rm', 'bridge'])
    assert.match(predefined.err, /bridge is a pre-defined network and cannot be removed/)
  })
  await t.test('create, start, ps, inspect, port', async () => {
    await docker('create', '--name', 'c1', '-p', '8080:80', '--network', 'n1', '--network-alias', 'web', 'busybox', 'sh')
    await docker('start', 'c1')
    assert.equal(
      await docker('ps', '--format', '{{.Names}} {{.Image}} {{.State}} {{.Ports}} {{.Networks}}'),
      'c1 busybox running 0.0.0.0:8080->80/tcp n1',
    )
    assert.equal(await docker('port', 'c1'), '80/tcp -> 0.0.0.0:8080')
    assert.equal(
      await docker('inspect', 'c1', '-f', '{{.NetworkSettings.Networks.n1.IPAddress}} {{.NetworkSettings.Networks.n1.Aliases}}'),
      '10.9.0.2 [web]',
    )
    assert.equal(await docker('network', 'inspect', 'n1', '-f', '{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}'), 'c1 10.9.0.2/16')
  })
  await t.test('connect and disconnect', async () => {
    await docker('network', 'create', 'n2')
    await docker('network', 'connect', '--alias', 'x', '--gw-priority', '7', 'n2', 'c1')
    assert.equal(lab.containers.get('c1').endpoints['n2']?.GwPriority, 7)
    await docker('network', 'disconnect', 'n2', 'c1')
  })
  await t.test('exec with its exit code and both streams', async () => {
    const exec = await run('docker', ['exec', 'c1', 'echo', 'hi', 'there'])
    assert.deepEqual(exec, { code: 7, out: 'hi there\n', err: 'to stderr\n' })
    const piped = await run('docker', ['exec', '-i', 'c1', 'cat'], 'through\n')
    assert.equal(piped.out, '\nthrough\n')
  })
  await t.test('run -i attaches, forwards input and returns the exit code', async () => {
    assert.deepEqual(await run('docker', ['run', '-i', '--rm', '--name', 'r1', 'busybox', 'cat'], 'hello\n'), {
      code: 0,
      out: 'hello\n',
      err: '',
    })
    assert.equal(lab.containers.find('r1'), undefined)
  })
  await t.test('logs, events, stats, cp, wait, kill', async () => {
    lab.containers.logLines
      .get(lab.containers.get('c1').id)
      ?.push({ stream: 'stdout', data: Buffer.from('line\n') }, { stream: 'stderr', data: Buffer.from('oops\n') })
    assert.deepEqual(await run('docker', ['logs', 'c1']), { code: 0, out: 'line\n', err: 'oops\n' })
    const until = String(Math.ceil(Date.now() / 1000) + 1)
    assert.match(
      await docker('events', '--since', '1h', '--until', until, '--filter', 'type=network', '--format', '{{.Action}}'),
      /^create\nconnect/,
    )
    assert.match(await docker('stats', '--no-stream', '--format', '{{.Name}}'), /^c1$/)
    assert.equal((await run('docker', ['cp', 'c1:/etc/x', '-'])).out.length, 512)
    const waiting = docker('wait', 'c1')
    for (let i = 0; i < 200 && lab.containers.waiters.length === 0; i++) await new Promise((resolve) => setTimeout(resolve, 10))
    await docker('kill', 'c1')
    assert.equal(await waiting, '137')
  })
  await t.test('images and volumes', async () => {
    assert.equal(await docker('images', '--format', '{{.Repository}}:{{.Tag}}'), 'busybox:latest')
    assert.match(await docker('pull', 'busybox'), /Pulling from docker\.io\/library\/busybox/)
    assert.equal(await docker('image', 'inspect', 'busybox', '-f', '{{.Os}}/{{.Architecture}} {{.Config.Cmd}}'), 'linux/amd64 [sh]')
    assert.match(await docker('history', 'busybox'), /import/)
    assert.equal((await run('docker', ['save', 'busybox'])).out.length, 2048)
    assert.equal(await docker('volume', 'create', 'v1'), 'v1')
    assert.equal(await docker('volume', 'ls', '-q'), 'v1')
    assert.match(await docker('system', 'df'), /Local Volumes/)
  })
  await t.test('prune in all its forms', async () => {
    await docker('system', 'prune', '-f')
    assert.equal(await docker('ps', '-aq'), '')
    assert.equal(await docker('network', 'ls', '-q', '--filter', 'type=custom'), '')
  })
  await t.test('what is not here is said in a sentence', async () => {
    for (const [args, words] of [
      [['swarm', 'init'], /no swarm mode/],
      [['search', 'x'], /skopeo/],
      [['secret', 'ls'], /not a swarm manager/],
      [['plugin', 'install', 'x/y'], /does not manage plugins/],
    ] as const) {
      const { code, err } = await run('docker', args, '')
      assert.notEqual(code, 0)
      assert.match(err, words)
    }
  })
  await t.test('older clients negotiate down', async () => {
    const old = await run('docker', ['network', 'ls', '--format', '{{.Name}}'], '', { DOCKER_API_VERSION: '1.24' })
    assert.equal(old.code, 0, old.err)
    assert.match(old.out, /bridge/)
  })
})

const PYTHON = `
import docker, io
c = docker.from_env()
assert c.ping() is True
assert c.version()['ApiVersion'] == '1.51'
assert 'bridge' in c.info()['Plugins']['Network']
ipam = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet='10.8.0.0/24', gateway='10.8.0.1')])
n = c.networks.create('py1', driver='bridge', ipam=ipam, labels={'k': 'v'}, check_duplicate=True)
assert n.attrs['IPAM']['Config'][0]['Subnet'] == '10.8.0.0/24', n.attrs
assert [x.name for x in c.networks.list(names=['py1'])] == ['py1']
assert [x.name for x in c.networks.list(filters={'label': 'k=v'})] == ['py1']
k = c.containers.create('busybox', 'cat', name='pyc', network='py1', ports={'80/tcp': 9090}, stdin_open=True, tty=False)
k.start(); k.reload()
assert k.status == 'running' and k.ports == {'80/tcp': [{'HostIp': '0.0.0.0', 'HostPort': '9090'}]}, (k.status, k.ports)
assert [x.name for x in c.containers.list()] == ['pyc']
code, (out, err) = k.exec_run('echo hey', demux=True)
assert (code, out, err) == (7, b'hey\\n', b'to stderr\\n'), (code, out, err)
n.reload(); assert [x.name for x in n.containers] == ['pyc']
n2 = c.networks.create('py2'); n2.connect(k, aliases=['z']); n2.disconnect(k)
s = k.attach_socket(params={'stdin': 1, 'stdout': 1, 'stream': 1})
s._sock.sendall(b'ping'); assert s._sock.recv(100)[8:] == b'ping'; s.close()
k.reload()
if k.status == 'running':
    k.kill()
assert k.wait()['StatusCode'] in (0, 137)
try:
    c.networks.create('py1', check_duplicate=True); assert False
except docker.errors.APIError as e:
    assert e.status_code == 409 and 'already exists' in e.explanation, e
try:
    c.containers.get('nope'); assert False
except docker.errors.NotFound as e:
    assert 'No such container: nope' in str(e)
assert c.images.list()[0].tags == ['busybox:latest']
assert c.images.get('busybox').attrs['Os'] == 'linux'
v = c.volumes.create('pyv'); assert v.name == 'pyv'; v.remove()
k.put_archive('/tmp', b'x' * 1024)
bits, stat = k.get_archive('/tmp/f'); assert stat['name'] == 'f'; b''.join(bits)
k.remove(); n.remove(); n2.remove()
events = list(c.events(since=1, until=1, decode=True)); assert events == []
print('fine')
`

test('docker-py: the same engine seen from Python', { skip: hasDockerPy ? false : 'no docker module for python3 here' }, async () => {
  const { code, out, err } = await run('python3', ['-'], PYTHON)
  assert.equal(code, 0, err)
  assert.equal(out, 'fine\n')
})

test('none of it was an unexpected error', () => {
  assert.deepEqual(
    lab.logged.filter((line) => line.level === 'error'),
    [],
  )
})

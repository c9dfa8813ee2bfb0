import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import type { Duplex } from 'node:stream'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { fromNpm, withEngine, without } from './clients.ts'

isolate()
const lab = await startEngineLab()
after(async () => assert.deepEqual(await lab.close(), []))

const PYTHON = readFileSync(new URL('docker-py.py', import.meta.url), 'utf8')

test('docker-py: networks, containers, exec, archives, events and images', { skip: without('python3-docker') }, async () => {
  const { code, out, err } = await withEngine(lab, '/usr/bin/python3', ['-'], { input: PYTHON })
  assert.equal(code, 0, err)
  assert.equal(out, 'fine\n')
})

/** What these tests use of dockerode. */
interface Container {
  readonly id: string
  start(): Promise<void>
  stop(options?: object): Promise<void>
  remove(options?: object): Promise<void>
  inspect(): Promise<{
    NetworkSettings: { Networks: Record<string, { IPAddress: string; Aliases: string[] | null }> }
    State: { Status: string }
  }>
  wait(): Promise<{ StatusCode: number }>
  attach(options: object): Promise<Duplex>
  exec(options: object): Promise<{ start(options: object): Promise<Duplex>; inspect(): Promise<{ ExitCode: number }> }>
  stats(options: object): Promise<{ networks: Record<string, { rx_bytes: number }> }>
}
interface Network {
  readonly id: string
  connect(options: object): Promise<void>
  disconnect(options: object): Promise<void>
  inspect(): Promise<{ Containers: Record<string, { Name: string }> }>
  remove(): Promise<void>
}
interface Dockerode {
  createContainer(options: object): Promise<Container>
  createNetwork(options: object): Promise<Network>
  getEvents(options: object): Promise<Duplex & { destroy(): void }>
  listNetworks(options: object): Promise<{ Name: string }[]>
  readonly modem: { demuxStream(from: Duplex, out: NodeJS.WritableStream, err: NodeJS.WritableStream): void }
}

/** All output to its end. Not by iteration: that waits for a close, which dockerode's streams without upgrade never have. */
function text(stream: Duplex): Promise<string> {
  return new Promise((resolve, reject) => {
    let all = ''
    stream.on('data', (chunk: Buffer) => (all += chunk.toString('latin1')))
    stream.on('end', () => resolve(all))
    stream.on('error', reject)
  })
}

test('dockerode: networks, live connect, exec with input, attach, events, stats', { skip: without('dockerode') }, async () => {
  const docker = new (fromNpm<new (options: object) => Dockerode>('dockerode'))({ socketPath: lab.socket })
  const events = await docker.getEvents({ filters: { type: ['network'] } })
  const seen: string[] = []
  events.on('data', (chunk: Buffer) => {
    for (const line of chunk.toString().split('\n')) if (line !== '') seen.push((JSON.parse(line) as { Action: string }).Action)
  })

  const network = await docker.createNetwork({ Name: 'ode', Labels: { made: 'by dockerode' } })
  const common = { Image: 'busybox', StopSignal: 'SIGKILL' }
  const server = await docker.createContainer({
    ...common,
    name: 'ode-server',
    Cmd: ['httpd', '-f', '-h', '/etc'],
    HostConfig: { NetworkMode: 'ode' },
  })
  const client = await docker.createContainer({ ...common, name: 'ode-client', Cmd: ['sleep', '600'] })
  await Promise.all([server.start(), client.start()])
  await network.connect({ Container: client.id, EndpointConfig: { Aliases: ['visitor'] } })
  assert.deepEqual(Object.keys((await client.inspect()).NetworkSettings.Networks).sort(), ['bridge', 'ode'])
  assert.deepEqual(
    Object.values((await network.inspect()).Containers)
      .map((c) => c.Name)
      .sort(),
    ['ode-client', 'ode-server'],
  )

  for (const hijack of [true, false]) {
    const exec = await client.exec({
      Cmd: ['sh', '-c', 'head -n 1; wget -qO- http://ode-server/hostname'],
      AttachStdin: true,
      AttachStdout: true,
      AttachStderr: true,
    })
    const stream = await exec.start({ hijack, stdin: true })
    stream.write('typed\n')
    if (hijack) stream.end() // otherwise dockerode ends its request, which is no half-close
    const output = await text(stream)
    assert.match(output, /typed\n/)
    assert.match(output, new RegExp(`${server.id.slice(0, 12)}\n`))
    assert.equal((await exec.inspect()).ExitCode, 0)
  }
  const { networks } = await client.stats({ stream: false })
  assert.deepEqual(Object.keys(networks).sort(), ['eth0', 'eth1'])

  const once = await docker.createContainer({ ...common, Cmd: ['tr', 'a-z', 'A-Z'], OpenStdin: true, StdinOnce: true, AttachStdin: true })
  const attached = await once.attach({ stream: true, stdin: true, stdout: true, hijack: true })
  attached.end('shout')
  await once.start()
  assert.match(await text(attached), /SHOUT/)
  assert.equal((await once.wait()).StatusCode, 0)

  await network.disconnect({ Container: client.id })
  for (const container of [server, client, once]) await container.remove({ force: true })
  await network.remove()
  assert.deepEqual((await docker.listNetworks({ filters: { label: ['made'] } })).length, 0)
  const missing = () => ['create', 'connect', 'disconnect', 'destroy'].filter((action) => !seen.includes(action))
  for (let i = 0; i < 40 && missing().length > 0; i++) await new Promise((resolve) => setTimeout(resolve, 50))
  assert.deepEqual(missing(), [])
  events.destroy()
})

/** What these tests use of testcontainers. */
interface Started {
  getMappedPort(port: number): number
  getHost(): string
  exec(command: string[]): Promise<{ output: string; exitCode: number }>
  copyFilesToContainer?(files: object[]): Promise<void>
  stop(): Promise<void>
}
interface Generic {
  withCommand(command: string[]): Generic
  withExposedPorts(...ports: number[]): Generic
  withNetwork(network: object): Generic
  withNetworkAliases(...names: string[]): Generic
  withWaitStrategy(strategy: object): Generic
  withCopyContentToContainer(content: object[]): Generic
  start(): Promise<Started>
}
interface Testcontainers {
  GenericContainer: new (image: string) => Generic
  Network: new () => { start(): Promise<{ stop(): Promise<void>; getName(): string }> }
  Wait: { forHttp(path: string, port: number): object; forListeningPorts(): object; forLogMessage(text: string): object }
}

test('testcontainers: a network, aliases, mapped ports, wait strategies, copied files', { skip: without('testcontainers') }, async () => {
  process.env['DOCKER_HOST'] = `unix://${lab.socket}`
  process.env['TESTCONTAINERS_RYUK_DISABLED'] = 'true' // its image cannot be had without a registry
  process.env['HOME'] = lab.dir
  const { GenericContainer, Network, Wait } = fromNpm<Testcontainers>('testcontainers')
  const network = await new Network().start()
  const web = await new GenericContainer('busybox:latest')
    .withCopyContentToContainer([{ content: 'from the test', target: '/srv/index.html' }])
    .withCommand(['httpd', '-f', '-v', '-h', '/srv'])
    .withExposedPorts(80)
    .withNetwork(network)
    .withNetworkAliases('site')
    .withWaitStrategy(Wait.forHttp('/index.html', 80))
    .start()
  const talker = await new GenericContainer('busybox:latest')
    .withCommand(['sh', '-c', 'echo ready; exec sleep 600'])
    .withNetwork(network)
    .withWaitStrategy(Wait.forLogMessage('ready'))
    .start()
  const reply = await fetch(`http://${web.getHost()}:${web.getMappedPort(80)}/index.html`)
  assert.equal(await reply.text(), 'from the test')
  const inside = await talker.exec(['wget', '-qO-', 'http://site/index.html'])
  assert.deepEqual([inside.exitCode, inside.output], [0, 'from the test'])
  await Promise.all([web.stop(), talker.stop()])
  await network.stop()
  assert.equal((await lab.api('GET', '/containers/json?all=1')).text.trim(), '[]')
  assert.equal((await lab.api('GET', `/networks/${network.getName()}`)).status, 404)
})

/** The engine stops and starts: with containers running, with other flags, beside obstacles; and a stop without containers leaves no trace. */
import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { after, test } from 'node:test'
import { type EngineLab, startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { until } from '../../testkit/until.ts'
import { tcpFlow } from './flows.ts'
import { sleep, unsettled } from './judge.ts'
import { outside } from './outside.ts'

isolate()
const BIN = new URL('../../bin/causeway', import.meta.url).pathname
const sh = (command: string) => execFileSync('sh', ['-c', command], { encoding: 'utf8' })

/** Everything of the kernel that an engine could have touched, line by line, so that two moments can be compared. */
function snapshot(): Set<string> {
  const ip = (what: string) => sh(`ip -o ${what}`).replace(/^\d+: |valid_lft.*$|\\ /gm, '')
  const sysctls = sh('sysctl -a 2>/dev/null | grep ^net || true')
  const text = [
    ip('link'),
    ip('addr'),
    ip('route show table all'),
    ip('-6 route show table all'),
    ip('rule'),
    ip('-6 rule'),
    sh('nft list ruleset'),
    sysctls,
  ]
  return new Set(text.flatMap((t) => t.split('\n')).filter((line) => !/nf_conntrack_(count|buckets)/.test(line)))
}

/** What is different from `clean`: `+` came, `-` went. */
function changed(): string[] {
  const now = snapshot()
  return [...[...now].filter((x) => !clean.has(x)).map((x) => `+ ${x}`), ...[...clean].filter((x) => !now.has(x)).map((x) => `- ${x}`)]
}

/** The lab's engine with other flags than it was made with. */
async function startWith(
  lab: EngineLab,
  flags: readonly string[],
): Promise<{ process: ChildProcess; log: () => string; code: Promise<number> }> {
  const argv = [BIN, 'daemon', '--data-root', `${lab.dir}/data`, '--exec-root', `${lab.dir}/run`, '-H', `unix://${lab.socket}`, ...flags]
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'pipe'] })
  let log = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      log += chunk.toString()
    })
  const code = new Promise<number>((resolve) => child.once('exit', (c) => resolve(c ?? 255)))
  let ended = false
  void code.then(() => {
    ended = true
  })
  await until(
    'the engine answers or ends',
    async () => {
      if (ended) return true
      const ping = await lab.api('GET', '/_ping').catch(() => undefined)
      return ping?.status === 200 ? true : undefined
    },
    15_000,
  )
  return { process: child, log: () => log, code }
}

const stop = async (engine: { process: ChildProcess; code: Promise<number> }) => {
  engine.process.kill('SIGTERM')
  return engine.code
}

const far = outside('cable', 72)
// what the kernel makes once and keeps: conntrack's and nftables' own sysctls
sh(
  'nft "add table inet warm; add chain inet warm c { type nat hook prerouting priority 0; }; add rule inet warm c ct state new; delete table inet warm"',
)
await until('IPv6 addresses are settled', () => (sh('ip -6 addr show dev cable').includes('tentative') ? undefined : true))
const clean = snapshot()
const lab = await startEngineLab()
after(async () => {
  const left = await lab.close()
  far.close()
  assert.deepEqual(left, [])
})

test('a stop with nothing running leaves the kernel exactly as it was, networks included, and they come back', async () => {
  for (const name of ['one', 'two']) assert.equal((await lab.api('POST', '/networks/create', { Name: name })).status, 201)
  assert.equal((await lab.api('POST', '/networks/create', { Name: 'six', EnableIPv6: true })).status, 201)
  const before = (await lab.api('GET', '/networks')).json
  await lab.run('short')
  await lab.api('DELETE', '/containers/short?force=1')
  assert.equal(await lab.stop(), 0)
  assert.deepEqual(changed(), [])
  await lab.start()
  const byName = (list: { Name: string }[]) => [...list].sort((a, b) => (a.Name < b.Name ? -1 : 1))
  assert.deepEqual(byName((await lab.api('GET', '/networks')).json), byName(before), 'same ids, same subnets')
  assert.deepEqual(await unsettled(lab), [])
})

test('a second engine on the same folders is refused, whatever its pid file, and the first goes on', async () => {
  for (const extra of [[], ['--pidfile', `${lab.dir}/other.pid`]]) {
    const argv = [
      BIN,
      'daemon',
      '--data-root',
      `${lab.dir}/data`,
      '--exec-root',
      `${lab.dir}/run`,
      '-H',
      `unix://${lab.dir}/second.sock`,
      ...extra,
    ]
    const second = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'pipe'] })
    let text = ''
    second.stderr.on('data', (chunk: Buffer) => {
      text += chunk.toString()
    })
    const code = await Promise.race([
      new Promise<number>((resolve) => second.once('exit', (c) => resolve(c ?? 255))),
      sleep(8000).then(() => -1),
    ])
    second.kill('SIGKILL')
    assert.equal(code, 1, `${extra}: ${text}`)
    assert.match(text, /running|in use/)
    assert.match(text, new RegExp(String(lab.pid())), 'says who')
  }
  assert.equal((await lab.api('GET', '/_ping')).status, 200)
  assert.equal(Number(readFileSync(`${lab.dir}/run/causeway.pid`, 'utf8')), lab.pid(), 'the pid file is still the first one’s')
  assert.deepEqual(await unsettled(lab), [])
})

test('containers go on through a stop and a start, with their addresses, ports and names', async () => {
  await lab.run('srv', {
    networks: ['one', 'two'],
    cmd: ['nc', '-ll', '-p', '9000', '-e', 'cat'],
    host: { PortBindings: { '9000/tcp': [{ HostPort: '9000' }, { HostPort: '' }] } },
  })
  await lab.run('fixed', { body: { NetworkingConfig: { EndpointsConfig: { bridge: {} } } } })
  const flow = await tcpFlow('127.0.0.1', 9000)
  const seen = async () => (await lab.api('GET', '/containers/srv/json')).json.NetworkSettings
  const before = await seen()
  assert.equal(await lab.stop(), 0)
  const answers = flow.answers()
  await sleep(300)
  assert.ok(flow.answers() > answers, 'traffic goes on without the engine')
  await lab.start()
  assert.deepEqual(await seen(), before)
  assert.deepEqual(await unsettled(lab, { names: true }), [])
  assert.equal(flow.broken(), undefined)
  flow.close()
})

test('flags of the default bridge wait while containers are on it, and apply when none is', async () => {
  await lab.stop()
  const flags = ['--bip', '192.168.200.1/24', '--fixed-cidr', '192.168.200.128/25', '--mtu', '1400']
  let engine = await startWith(lab, flags)
  const bridge = async () => (await lab.api('GET', '/networks/bridge')).json
  const id = (await bridge()).Id
  assert.match((await bridge()).IPAM.Config[0].Subnet, /^172\./, 'a container is on it')
  assert.match(engine.log(), /containers on it|still used|when none/i, 'and that is said')
  assert.equal((await lab.api('DELETE', '/containers/fixed?force=1')).status, 204)
  await stop(engine)
  engine = await startWith(lab, flags)
  assert.equal((await bridge()).IPAM.Config[0].Subnet, '192.168.200.0/24')
  assert.equal((await bridge()).Id, id, 'the network keeps its id')
  await lab.run('ranged')
  assert.match(
    (await lab.api('GET', '/containers/ranged/json')).json.NetworkSettings.Networks.bridge.IPAddress,
    /^192\.168\.200\.1(2[89]|[3-9]\d)$/,
  )
  assert.match(sh('ip -o link show docker0'), /mtu 1400/)
  assert.equal((await lab.api('DELETE', '/containers/ranged?force=1')).status, 204)
  assert.deepEqual(await unsettled(lab, { names: true }), [])
  await stop(engine)
  engine = await startWith(lab, ['--bridge', 'none'])
  assert.equal((await lab.api('GET', '/networks/bridge')).status, 404)
  await until('docker0 has gone', () => (sh('ip -o link').includes('docker0') ? undefined : true))
  await stop(engine)
  await lab.start()
})

test('`--bridge none` does not take docker0 from a running container', async () => {
  await lab.run('holder')
  const ip = (await lab.api('GET', '/containers/holder/json')).json.NetworkSettings.Networks.bridge.IPAddress
  await lab.stop()
  const engine = await startWith(lab, ['--bridge', 'none'])
  assert.equal((await lab.api('GET', '/containers/holder/json')).json.NetworkSettings.Networks.bridge.IPAddress, ip)
  assert.equal((await lab.sh(`ping -c 1 -W 2 ${ip}`)).code, 0)
  assert.equal((await lab.api('DELETE', '/containers/holder?force=1')).status, 204)
  await stop(engine)
  await lab.start()
})

test('an engine that cannot start says why and leaves nothing', async () => {
  await lab.api('DELETE', '/containers/srv?force=1')
  await lab.stop()
  assert.deepEqual(changed(), [])
  for (const [flags, why] of [
    [['-b', 'nosuch0'], /bridge device with non default name nosuch0 must be created manually/],
    [['--bip', '10.72.0.5/24'], /overlap|in use/i],
    [['-H', 'tcp://192.0.2.77:2375'], /192\.0\.2\.77|address/i],
  ] as const) {
    const engine = await startWith(lab, flags)
    if (engine.process.exitCode === null) await stop(engine)
    else {
      assert.equal(await engine.code, 1)
      assert.match(engine.log(), why)
    }
    assert.deepEqual(changed(), [], flags.join(' '))
  }
  await lab.start()
})

test('a network whose device somebody else has now does not keep the engine from starting, and the device is left alone', async () => {
  await lab.api('POST', '/networks/create', { Name: 'taken', Options: { 'com.docker.network.bridge.name': 'mybr0' } })
  await lab.api('POST', '/networks/create', { Name: 'fine' })
  await lab.stop()
  sh('ip link add mybr0 type veth peer name mybr0p; ip addr add 203.0.113.1/24 dev mybr0')
  await lab.start()
  assert.match(sh('ip -d link show mybr0'), /veth/)
  assert.match(lab.log(), /cannot restore network/)
  await lab.run('ok', { networks: ['fine'] })
  await assert.rejects(lab.run('nope', { networks: ['taken'] }), /mybr0/)
  assert.equal((await lab.api('DELETE', '/networks/taken')).status, 204)
  assert.match(sh('ip -d addr show mybr0'), /203\.0\.113\.1/)
  sh('ip link del mybr0')
  for (const name of ['ok', 'nope']) await lab.api('DELETE', `/containers/${name}?force=1`)
})

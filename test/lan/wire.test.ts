/** Wiring by hand, with a whole engine: what the tutorials do with pipework, as state that is shown, restored and removed. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { until } from '../../testkit/until.ts'

isolate()

const BLUE = `cwwire-blue-${process.pid}`

function sh(command: string): string {
  const ran = spawnSync('sh', ['-ec', command], { encoding: 'utf8' })
  assert.equal(ran.status, 0, `${command}: ${ran.stderr}${ran.stdout}`)
  return ran.stdout.trimEnd()
}
sh(`ip netns add ${BLUE} && ip -n ${BLUE} link set lo up`)

const lab = await startEngineLab()
after(async () => {
  const left = await lab.close()
  spawnSync('ip', ['netns', 'del', BLUE])
  assert.deepEqual(left, [])
})

async function wire(...args: string[]): Promise<string> {
  const { code, out, err } = await lab.causeway('wire', ...args)
  assert.equal(code, 0, err)
  return out.trim()
}
const wires = async () => (await lab.api('GET', '/causeway/v1/wires')).json.wires
const reaches = async (container: string, ip: string) =>
  / 1 packets received/.test((await lab.exec(container, 'ping', '-c1', '-W2', ip)).out)
const links = () => sh("ip -o link | sed 's/^[0-9]*: //;s/[@:].*//' | sort | tr '\\n' ' '")

test('pipework br1 c1 192.168.1.10/24@192.168.1.1: the bridge is made, two containers without networks meet on it', async () => {
  await lab.run('c1', { networks: ['none'] })
  await lab.run('c2', { networks: ['none'] })
  const id = await wire('--bridge', 'br1', '--ip', '192.168.1.10/24', '--gateway', '192.168.1.1', '--mac', '02:00:00:00:01:10', 'c1')
  assert.match(id, /^[0-9a-f]{12}$/)
  await wire('--bridge', 'br1', '--ip', '192.168.1.11/24', '--ip', 'fd01::11/64', '--ifname', 'lan0', 'c2')
  assert.equal(await reaches('c1', '192.168.1.11'), true)
  const seen = (await lab.exec('c1', 'ip', 'addr', 'show', 'eth1')).out
  assert.match(seen, /link\/ether 02:00:00:00:01:10/)
  assert.match(seen, /inet 192\.168\.1\.10\/24 brd 192\.168\.1\.255/)
  assert.match((await lab.exec('c1', 'ip', 'route')).out, /^default via 192\.168\.1\.1 dev eth1/)
  assert.match((await lab.exec('c2', 'ip', 'addr', 'show', 'lan0')).out, /inet6 fd01::11\/64/)
  // the host joins the network when it gives its bridge an address, as the tutorials do
  sh('ip addr add 192.168.1.1/24 dev br1')
  assert.equal(await reaches('c1', '192.168.1.1'), true)
  const rows = (await lab.causeway('wire', 'ls')).out.split('\n')
  assert.match(rows[0] ?? '', /^WIRE +PLACE +INTERFACE +ADDRESSES +GATEWAY +BRIDGE +HOST SIDE +STATE$/)
  assert.match(rows[1] ?? '', new RegExp(`^${id} +c1 +eth1 +192\\.168\\.1\\.10/24 +192\\.168\\.1\\.1 +br1 +veth[0-9a-f]{7} +up$`))
  const json = (await lab.causeway('wire', 'ls', '--format', 'json')).out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  assert.deepEqual(
    json.map((row) => [row.Place, row.Interface, row.Addresses]),
    [
      ['c1', 'eth1', '192.168.1.10/24'],
      ['c2', 'lan0', '192.168.1.11/24 fd01::11/64'],
    ],
  )
})

test('a restarted container has its wire again; a stopped one waits for it', async () => {
  await lab.api('POST', '/containers/c1/restart?t=0')
  await until('c1 is wired again', () => reaches('c1', '192.168.1.11'))
  await lab.api('POST', '/containers/c2/stop?t=0')
  await until('c2 waits', async () => (await wires())[1].state === 'waiting')
  await lab.api('POST', '/containers/c2/start')
  await until('c2 is wired again', () => reaches('c2', '192.168.1.10'))
})

test('killed and started again: wires are there all the time, and taken up; one that somebody cut is plugged in again', async () => {
  const [first] = await wires()
  await lab.kill9()
  sh(`ip link del ${first.hostInterface}`)
  await lab.start()
  assert.deepEqual(
    (await wires()).map((w: { state: string }) => w.state),
    ['up', 'up'],
  )
  await until('c1 is wired again', () => reaches('c1', '192.168.1.11'))
})

test('into any namespace: by its path, or by a process', async () => {
  await wire('--bridge', 'br1', '--ip', '192.168.1.20/24', '--netns', `/run/netns/${BLUE}`)
  assert.equal(await reaches('c1', '192.168.1.20'), true)
  const sleeper = spawn('unshare', ['--net', 'sleep', '60'], { stdio: 'ignore' })
  await until(
    'the process has a namespace of its own',
    async () => sh('readlink /proc/self/ns/net') !== sh(`readlink /proc/${sleeper.pid}/ns/net`),
  )
  await wire('--bridge', 'br1', '--ip', '192.168.1.21/24', '--pid', String(sleeper.pid))
  assert.equal(await reaches('c1', '192.168.1.21'), true)
  sleeper.kill('SIGKILL')
  await until('its wire has gone with it', async () => (await wires())[3].state === 'gone')
  const ids = (await wires()).map((w: { id: string }) => w.id)
  const { code, out } = await lab.causeway('wire', 'rm', ids[2], ids[3].slice(0, 6))
  assert.deepEqual([code, out], [0, `${ids[2]}\n${ids[3].slice(0, 6)}\n`])
  assert.doesNotMatch(sh(`ip -n ${BLUE} -o link`), /eth1/)
  assert.equal((await wires()).length, 2)
})

test('VLAN: the kernel makes the tag, or the answer says that it cannot', async () => {
  const before = links()
  const { code, err } = await lab.causeway('wire', '--bridge', 'br1', '--ip', '10.20.0.1/24', '--vlan', '20', 'c1')
  if (spawnSync('ip', ['link', 'add', 'link', 'lo', 'name', 'cwv', 'type', 'vlan', 'id', '5']).status === 0) {
    sh('ip link del cwv')
    assert.equal(code, 0, err)
    assert.match((await lab.exec('c1', 'ip', '-d', 'link', 'show', 'eth2')).out, /eth2@/)
    await wire('rm', (await wires()).at(-1).id)
    return
  }
  assert.equal(code, 1)
  assert.match(err, /a wire with VLAN 20 cannot be made: this kernel has no 802\.1Q interfaces/)
  await until('nothing of it is left', async () => links() === before)
  assert.equal((await wires()).length, 2)
})

test('bad input is refused with the reason, and nothing is changed', async () => {
  sh('ip link add cwnobr type veth peer name cwnobr2')
  const before = links()
  const inside = (await lab.exec('c1', 'ip', '-4', 'addr')).out
  const cases: readonly (readonly [RegExp, ...string[]])[] = [
    [/a wire needs a bridge of the host: --bridge NAME/, '--ip', '10.0.0.2/24', 'c1'],
    [/invalid bridge name "a b"/, '--bridge', 'a b', 'c1'],
    [/existing interface cwnobr is not a bridge/, '--bridge', 'cwnobr', 'c1'],
    [/invalid address "10\.0\.0\.2": expected one with its prefix length/, '--bridge', 'br1', '--ip', '10.0.0.2', 'c1'],
    [/invalid address "10\.0\.0\.0\/24": it is the subnet's own/, '--bridge', 'br1', '--ip', '10.0.0.0/24', 'c1'],
    [/invalid address "10\.0\.0\.255\/24": it is the subnet's broadcast address/, '--bridge', 'br1', '--ip', '10.0.0.255/24', 'c1'],
    [
      /invalid gateway 10\.9\.0\.1: no address of the wire is in its subnet/,
      '--bridge',
      'br1',
      '--ip',
      '10.0.0.2/24',
      '--gateway',
      '10.9.0.1',
      'c1',
    ],
    [/invalid gateway "x": expected an IP address/, '--bridge', 'br1', '--ip', '10.0.0.2/24', '--gateway', 'x', 'c1'],
    [
      /container c1 has a default route already, via 192\.168\.1\.1 dev eth1/,
      '--bridge',
      'br1',
      '--ip',
      '10.0.0.2/24',
      '--gateway',
      '10.0.0.1',
      'c1',
    ],
    [/zz is not a valid mac address/, '--bridge', 'br1', '--mac', 'zz', 'c1'],
    [/01:00:00:00:00:01 cannot be the mac address of an interface/, '--bridge', 'br1', '--mac', '01:00:00:00:00:01', 'c1'],
    [/invalid VLAN 4095: expected a number from 1 to 4094/, '--bridge', 'br1', '--vlan', '4095', 'c1'],
    [/invalid interface name "lo"/, '--bridge', 'br1', '--ifname', 'lo', 'c1'],
    [/container c1 has an interface eth1 already/, '--bridge', 'br1', '--ifname', 'eth1', 'c1'],
    [/address 192\.168\.1\.10\/24 is on wire [0-9a-f]{12} already, on the same bridge/, '--bridge', 'br1', '--ip', '192.168.1.10/24', 'c2'],
    [/No such container: nobody/, '--bridge', 'br1', 'nobody'],
    [/a wire needs one end: a container, --netns PATH or --pid PID/, '--bridge', 'br1'],
    [/a wire needs one end/, '--bridge', 'br1', '--pid', '1', 'c1'],
    [/namespace \/run\/netns\/cwnone has no network namespace now/, '--bridge', 'br1', '--netns', '/run/netns/cwnone'],
    [/\/etc\/hostname is no network namespace|Cannot enter network namespace/, '--bridge', 'br1', '--netns', '/etc/hostname'],
    [/is in the host's own network: a wire needs another end/, '--bridge', 'br1', '--netns', '/proc/self/ns/net'],
    [/there is no process 4194000/, '--bridge', 'br1', '--pid', '4194000'],
    [/No such wire: ffffffffffff/, 'rm', 'ffffffffffff'],
  ]
  for (const [text, ...args] of cases) {
    const { code, err } = await lab.causeway('wire', ...args)
    assert.equal(code, 1, args.join(' '))
    assert.match(err, text, args.join(' '))
  }
  await lab.api('POST', '/containers/c2/stop?t=0')
  assert.match((await lab.causeway('wire', '--bridge', 'br1', 'c2')).err, /container c2 is not running: start it first/)
  await until('nothing was changed but c2', async () => links().split(' ').length === before.split(' ').length - 1)
  assert.equal((await lab.exec('c1', 'ip', '-4', 'addr')).out, inside)
  sh('ip link del cwnobr')
})

test('removed: a wire by its id, the others with their container, the bridge with the last of them', async () => {
  await lab.api('POST', '/containers/c2/start')
  const [one] = await wires()
  await wire('rm', one.id.slice(0, 5))
  assert.doesNotMatch((await lab.exec('c1', 'ip', 'link')).out, /eth1/)
  assert.match(sh('ip -o link show br1'), /br1/)
  await lab.api('DELETE', '/containers/c2?force=1')
  await until('the bridge has gone', async () => spawnSync('ip', ['link', 'show', 'br1']).status === 1)
  assert.deepEqual(await wires(), [])
  // a bridge that was there before stays
  sh('ip link add br2 type bridge')
  await wire('--bridge', 'br2', 'c1')
  await lab.api('DELETE', '/containers/c1?force=1')
  await until('no wire is left', async () => (await wires()).length === 0)
  assert.match(sh('ip -o link show br2'), /br2/)
  sh('ip link del br2')
})

/** Somebody else breaks what is ours: it is put right within 200 ms, established flows go on, and the engine says what was wrong. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { until } from '../../testkit/until.ts'
import { type Flow, tcpFlow, udpFlow } from './flows.ts'
import { sleep, unsettled } from './judge.ts'
import { outside } from './outside.ts'

isolate()
const far = outside('cable', 71)
const lab = await startEngineLab()
/** From the host by its outer address, which needs no masquerading. */
const flows: Flow[] = []
/** From the host by its loopback address: masqueraded with the bridge's address. */
let loopback: Flow | undefined
after(async () => {
  for (const flow of flows) flow.close()
  loopback?.close()
  far.close()
  assert.deepEqual(await lab.close(), [])
})

/** The promise is 200 ms; a loaded machine is given more before a test fails, and the medians are printed. */
const LIMIT_MS = 400
const RUNS = 3
let bridge = ''
let veth = ''
let subnet = ''
const HOST = '10.71.0.1'

/** Everything in our tables, whatever the order of chains and elements. */
const rules = async () => {
  const out = (await lab.sh('nft -s list table inet causeway; nft -s list table bridge causeway')).out.replace(/^\}$/gm, '')
  const blocks = out.split(/\n(?=\t(?:chain|set|map|counter) |table )/)
  return blocks
    .map((block) => (/^\t(set|map) /.test(block) ? [...block.split(/[,\n]/).map((line) => line.trim())].sort().join() : block.trim()))
    .sort()
    .join('\n')
}
const repairs = async () => (await lab.api('GET', '/causeway/v1/repairs')).json.repairs as { subject: string; wrong: string }[]

before(async () => {
  await lab.api('POST', '/networks/create', { Name: 'front', Options: { 'com.docker.network.driver.mtu': '1450' } })
  const { json } = await lab.api('GET', '/networks/front')
  bridge = `br-${json.Id.slice(0, 12)}`
  subnet = json.IPAM.Config[0].Subnet
  const share = ['/usr', '/lib', '/lib64'].map((path) => `${path}:/host${path}:ro`)
  await lab.run('web', {
    networks: ['front'],
    cmd: ['sh', '-c', 'chroot /host socat UDP-RECVFROM:9001,fork EXEC:cat & httpd -h /etc -p 80; exec nc -ll -p 9000 -e cat'],
    host: {
      Binds: share,
      PortBindings: { '9000/tcp': [{ HostPort: '9000' }], '9001/udp': [{ HostPort: '9001' }], '80/tcp': [{ HostPort: '8080' }] },
    },
  })
  await lab.run('client', { networks: ['front'] })
  const row = (await lab.api('GET', '/causeway/v1/veth')).json.find((r: { container: string }) => JSON.stringify(r).includes('web'))
  veth = /veth[0-9a-f]{7}/.exec(JSON.stringify(row))?.[0] as string
  far.start('socat TCP-LISTEN:7000,fork EXEC:cat')
  loopback = await tcpFlow('127.0.0.1', 9000)
  flows.push(await tcpFlow(HOST, 9000), await udpFlow(HOST, 9001))
  await lab.docker('exec', '-d', 'client', 'sh', '-c', 'while :; do echo tick; usleep 20000; done | nc 10.71.0.2 7000 > /tmp/echoed')
  await outgoing()
})

/** The connection from the container to the outside goes on. */
async function outgoing(): Promise<void> {
  const lines = async () => Number((await lab.exec('client', 'sh', '-c', 'wc -l < /tmp/echoed')).out)
  const before = await lines()
  // a connection that lost packets again and again waits longer and longer before it tries again
  await until('the outgoing connection echoes', async () => ((await lines()) > before + 5 ? true : undefined), 20_000)
}

/** Breaks, waits for `isRight`, and says how long it took (with the probe's own time). */
async function broken(what: string, breakIt: string, isRight: () => Promise<boolean>, runs = RUNS): Promise<void> {
  assert.ok(await isRight(), `${what}: right before`)
  const took: number[] = []
  for (let i = 0; i < runs; i++) {
    const { code, err } = await lab.sh(breakIt)
    assert.equal(code, 0, `${breakIt}: ${err}`)
    const from = performance.now()
    await until(`${what} is repaired`, async () => ((await isRight()) ? true : undefined))
    took.push(performance.now() - from)
    await sleep(30)
  }
  took.sort((a, b) => a - b)
  const median = took[took.length >> 1] as number
  console.log(`${what}: repaired in ${took.map((t) => t.toFixed(0)).join(', ')} ms`)
  assert.ok(median < LIMIT_MS, `${what}: median ${median.toFixed(0)} ms`)
}

const is = (command: string, pattern: RegExp) => async () => pattern.test((await lab.sh(command)).out)

test('normal work causes no repair', async () => {
  const busy = async (n: number) => {
    for (let i = 0; i < 4; i++) {
      await lab.api('POST', '/networks/create', { Name: `busy${n}` })
      await lab.run(`busy${n}`, { networks: [`busy${n}`], host: { PortBindings: { '80/tcp': [{ HostPort: `${20000 + n}` }] } } })
      await lab.api('POST', '/networks/front/connect', { Container: `busy${n}` })
      await lab.api('POST', '/networks/front/disconnect', { Container: `busy${n}` })
      await lab.api('DELETE', `/containers/busy${n}?force=1`)
      await lab.api('DELETE', `/networks/busy${n}`)
    }
  }
  await Promise.all([1, 2, 3].map(busy))
  await sleep(300)
  assert.deepEqual(await repairs(), [])
})

test('a flushed ruleset is put back whole', async () => {
  const before = await rules()
  await broken('nft flush ruleset', 'nft flush ruleset', async () => (await rules()) === before)
  const found = (await repairs()).filter((r) => r.subject.includes('nftables'))
  assert.ok(found.length > 0)
  assert.match(found[0]?.wrong ?? '', /nft.*pid \d+/, 'the culprit is named')
})

test('deleted tables, chains, rules and elements are put back', async () => {
  const before = await rules()
  const same = async () => (await rules()) === before
  await broken('delete table', 'nft delete table inet causeway', same)
  await broken('delete table bridge', 'nft delete table bridge causeway', same)
  await broken('flush chain', 'nft flush chain inet causeway ours', same)
  await broken('delete chain', 'nft flush chain inet causeway forward; nft delete chain inet causeway forward', same)
  await broken('flush map', 'nft flush map inet causeway dnat4_any', same)
  await broken('flush set', 'nft flush set bridge causeway own4', same)
  await broken('foreign rule', 'nft insert rule inet causeway forward drop', same)
  await broken('foreign element', 'nft add element inet causeway bridges { "evil0" }', same)
  await broken('foreign chain', 'nft add chain inet causeway evil', same)
})

test('no connection was cut by that, not even masqueraded ones', async () => {
  await sleep(100)
  for (const flow of [...flows, loopback as Flow]) {
    assert.equal(flow.broken(), undefined)
    const before = flow.answers()
    await sleep(300)
    assert.ok(flow.answers() - before > 5, 'the flow goes on')
  }
  await outgoing()
  console.log('longest stand-stills while rules were away (ms):', [...flows, loopback as Flow].map((f) => f.gap().toFixed(0)).join(', '))
  loopback?.close()
})

test('a deleted veth is made anew with its address, and its container is reached again', async () => {
  const answers = async () => (await lab.sh('curl -s -m 1 http://127.0.0.1:8080/hostname')).code === 0
  await broken(
    'ip link del veth',
    `ip link del ${veth}`,
    async () => (await is('ip -o link', new RegExp(`${veth}@.*master ${bridge}.*UP`))()) && (await answers()),
  )
  assert.equal((await lab.exec('client', 'ping', '-c', '1', '-W', '2', 'web')).code, 0)
  assert.match((await lab.exec('web', 'ip', 'route')).out, /default via/)
})

test('a deleted bridge is made anew with its ports', async () => {
  const right = async () =>
    (await is('ip -o link', new RegExp(`${veth}@.*master ${bridge}`))()) &&
    (await is(`ip -o addr show dev ${bridge}`, /inet 172/)()) &&
    (await lab.sh('curl -s -m 1 http://127.0.0.1:8080/hostname')).code === 0
  await broken('ip link del bridge', `ip link del ${bridge}`, right)
  assert.equal((await lab.exec('client', 'wget', '-qO-', 'http://web/hostname')).code, 0)
})

test('address, master, state, MTU, MAC and isolation are set right', async () => {
  const address = (await lab.sh(`ip -o -4 addr show dev ${bridge}`)).out.split(/\s+/)[3] as string
  const mac = / link\/ether (\S+)/.exec((await lab.sh(`ip -o link show ${bridge}`)).out)?.[1] as string
  assert.match(mac, /^..(:..){5}$/)
  await broken('addr del', `ip addr del ${address} dev ${bridge}`, is(`ip -o addr show dev ${bridge}`, new RegExp(address)))
  await broken('addr flush', `ip addr flush dev ${bridge}`, is(`ip -o addr show dev ${bridge}`, new RegExp(address)))
  await broken('nomaster', `ip link set ${veth} nomaster`, is('ip -o link', new RegExp(`${veth}@.*master ${bridge}`)))
  await broken('veth down', `ip link set ${veth} down`, is(`ip -o link show ${veth}`, /[<,]UP[,>]/))
  await broken(
    'bridge down',
    `ip link set ${bridge} down`,
    async () => (await is(`ip -o link show ${bridge}`, /[<,]UP[,>]/)()) && (await is('ip route', new RegExp(subnet))()),
  )
  await broken('mtu', `ip link set ${bridge} mtu 1400`, is(`ip -o link show ${bridge}`, /mtu 1450/))
  await broken('mac', `ip link set ${bridge} address 02:00:00:00:00:01`, is(`ip -o link show ${bridge}`, new RegExp(mac)))
  await broken('alias', `ip link set ${bridge} alias mine`, is(`ip link show ${bridge}`, /alias causeway:network/))
})

test('a deleted or flushed route to a network is put back', async () => {
  await broken('route del', `ip route del ${subnet} dev ${bridge}`, is('ip route', new RegExp(`${subnet} dev ${bridge} .*src`)))
  await broken('route flush', `ip route flush dev ${bridge}`, is('ip route', new RegExp(`${subnet} dev ${bridge} .*src`)))
})

test('forwarding that is switched off for the host or a bridge is opened again', async () => {
  const path = (dev: string) => `/proc/sys/net/ipv4/conf/${dev}/forwarding`
  await broken('bridge forwarding', `echo 0 > ${path(bridge)}`, is(`cat ${path(bridge)}`, /^1/))
  await broken('host interface forwarding', `echo 0 > ${path('cable')}`, is(`cat ${path('cable')}`, /^1/))
  await broken(
    'ip_forward',
    'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv4/ip_forward',
    async () => await is(`cat ${path(bridge)} ${path('cable')}`, /^1\n1/)(),
  )
})

test('flows that were established before went on, and nothing is left to repair', async () => {
  await sleep(200)
  for (const flow of flows) {
    assert.equal(flow.broken(), undefined)
    const before = flow.answers()
    await sleep(500)
    assert.ok(flow.answers() - before > 5, 'the flow goes on')
  }
  console.log('longest stand-stills (ms):', flows.map((f) => f.gap().toFixed(0)).join(', '))
  await outgoing()
  const count = (await repairs()).length
  await sleep(500)
  assert.equal((await repairs()).length, count, 'no storm of repairs')
  assert.deepEqual(await unsettled(lab, { names: true }), [])
  assert.match((await lab.causeway('repairs')).out, /nftables table causeway/)
})

/** What an attachment keeps beyond its address: names by a resolver inside the namespace, and routes and limits that survive a repair. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { after, before, describe, test } from 'node:test'
import { until } from '../../testkit/until.ts'
import { type CniLab, startCniLab } from './lab.ts'

const network = (name: string, subnet: string, runtimeConfig: object, more: object = {}) => ({
  cniVersion: '1.1.0',
  name,
  type: 'causeway',
  ipam: { type: 'host-local', subnet },
  runtimeConfig,
  ...more,
})
const front = (aliases: string[], more: object = {}) => network('front', '10.90.0.0/24', { aliases: { front: aliases } }, more)
const back = (aliases: string[]) => network('back', '10.91.0.0/24', { aliases: { back: aliases } })

describe('names and repairs of CNI attachments', () => {
  let lab: CniLab
  before(async () => {
    lab = await startCniLab()
  })
  after(async () => {
    assert.deepEqual(await lab.close(), [])
  })
  const ask = async (netns: string, name: string): Promise<string> =>
    (await lab.inside(netns, `dig +short +tries=2 +time=2 @127.0.0.11 ${name}`)).out.trim()
  const del = async (containerId: string, netns: string, conf: object, ifname = 'eth0') => {
    const ran = await lab.cni({ command: 'DEL', containerId, netns, ifname, conf })
    assert.deepEqual([ran.code, ran.out], [0, ''])
  }
  const hasRedirect = async (netns: string) => (await lab.inside(netns, 'nft list tables')).out.includes('causeway-dns')

  test('a runtime that gives aliases gets a resolver that knows them, those of every network of the container', async () => {
    const [web, db, both] = [lab.netns(), lab.netns(), lab.netns()]
    const answer = await lab.add('web', web, front(['www']), { args: 'K8S_POD_NAME=web' })
    assert.deepEqual(answer.dns, { nameservers: ['127.0.0.11'], options: ['ndots:0'] })
    await lab.add('db', db, back(['database']))
    await lab.add('both', both, front(['two']))
    assert.deepEqual([await ask(both, 'web'), await ask(both, 'www'), await ask(both, 'database')], ['10.90.0.2', '10.90.0.2', ''])
    await lab.add('both', both, back(['two']), { ifname: 'eth1' })
    assert.deepEqual([await ask(both, 'www'), await ask(both, 'database'), await ask(web, 'two')], ['10.90.0.2', '10.91.0.2', '10.90.0.3'])
    // the engine ends without a word and comes back
    await lab.kill9()
    await lab.start()
    assert.deepEqual([await ask(both, 'www'), await ask(both, 'database')], ['10.90.0.2', '10.91.0.2'])
    // the attachment that had opened the resolver goes, the other one still needs it
    await del('both', both, front([]), 'eth0')
    assert.deepEqual([await ask(both, 'www'), await ask(both, 'database'), await ask(web, 'two')], ['', '10.91.0.2', ''])
    await lab.add('both', both, front(['again']), { ifname: 'eth0' })
    assert.deepEqual([await ask(both, 'www'), await ask(both, 'database')], ['10.90.0.2', '10.91.0.2'])
    await del('both', both, front([]), 'eth0')
    await del('both', both, back([]), 'eth1')
    assert.equal(await hasRedirect(both), false, 'a namespace that stays is as it was')
    await del('web', web, front([]))
    await del('db', db, back([]))
  })

  test('servers of the configuration are those that the resolver asks; "resolver" says yes or no', async () => {
    const [a, b] = [lab.netns(), lab.netns()]
    const dns = { nameservers: ['10.92.0.3'], search: ['example.org'] }
    const served = network('served', '10.92.0.0/24', {}, { resolver: true, dns })
    const result = await lab.add('a', a, served)
    assert.deepEqual(result.dns, { nameservers: ['127.0.0.11'], search: ['example.org'], options: ['ndots:0'] })
    await lab.add('b', b, served)
    const server: ChildProcess = spawn(
      'nsenter',
      [
        `--net=${b}`,
        'dnsmasq',
        '-k',
        '-C',
        '/dev/null',
        '--no-resolv',
        '--no-hosts',
        '--pid-file=',
        '--user=root',
        '--listen-address=10.92.0.3',
        '--bind-interfaces',
        '--address=/outside.test/192.0.2.7',
      ],
      { stdio: 'ignore' },
    )
    try {
      await until('the server of the network answers', async () => (await ask(a, 'outside.test')) === '192.0.2.7')
    } finally {
      const gone = new Promise((resolve) => server.once('exit', resolve))
      server.kill('SIGKILL')
      await gone
    }
    const without = network('without', '10.93.0.0/24', { aliases: ['x'] }, { resolver: false, dns })
    const plain = await lab.add('a', a, without, { ifname: 'eth1' })
    assert.deepEqual(plain.dns, dns)
    await del('a', a, without, 'eth1')
    await del('b', b, served)
    await del('a', a, served)
    const wrong = await lab.cni({
      command: 'ADD',
      containerId: 'w',
      netns: a,
      conf: network('wrong', '10.94.0.0/24', {}, { resolver: 'yes' }),
    })
    assert.equal(wrong.json.code, 7)
  })

  test('a pair that somebody deletes is made anew with its routes and limits, by an engine that was started again too', async () => {
    const ns = lab.netns()
    const conf = network(
      'mended',
      '10.95.0.0/24',
      { bandwidth: { ingressRate: 8_000_000, egressRate: 4_000_000 }, aliases: ['me'] },
      {
        ipam: {
          subnet: '10.95.0.0/24',
          routes: [{ dst: '0.0.0.0/0' }, { dst: '192.168.9.0/24', gw: '10.95.0.9' }, { dst: '10.99.0.0/16' }],
        },
      },
    )
    const prevResult = await lab.add('m1', ns, conf)
    const host = prevResult.interfaces[1].name
    const check = async () => (await lab.cni({ command: 'CHECK', containerId: 'm1', netns: ns, conf: { ...conf, prevResult } })).out
    assert.equal(await check(), '')
    for (const restarted of [false, true]) {
      if (restarted) {
        await lab.kill9()
        await lab.sh(`ip link del ${host}`)
        await lab.start()
      } else await lab.sh(`ip link del ${host}`)
      await until('CHECK finds it as it was', async () => (await check()) === '')
      const routes = (await lab.inside(ns, 'ip route')).out
      for (const line of [/^default via 10\.95\.0\.1 /m, /^192\.168\.9\.0\/24 via 10\.95\.0\.9 /m, /^10\.99\.0\.0\/16 via 10\.95\.0\.1 /m])
        assert.match(routes, line)
      assert.match((await lab.inside(ns, 'tc qdisc show dev eth0')).out, /tbf .*rate 4Mbit/)
      assert.match((await lab.sh(`tc qdisc show dev ${host}`)).out, /tbf .*rate 8Mbit/)
      assert.equal((await lab.inside(ns, 'ping -c1 -W2 10.95.0.1')).code, 0)
      assert.equal(await ask(ns, 'me'), '10.95.0.2')
    }
    await del('m1', ns, conf)
  })

  test("the same routes and limits as options of an endpoint of Causeway's own container", async () => {
    await lab.api('POST', '/networks/create', { Name: 'optional', IPAM: { Config: [{ Subnet: '10.97.0.0/24' }] } })
    await lab.run('box')
    const connect = (DriverOpts: Record<string, string>) =>
      lab.api('POST', '/networks/optional/connect', { Container: 'box', EndpointConfig: { DriverOpts } })
    const wrong = await connect({ 'causeway.rate_out': '10mbit' })
    assert.equal(wrong.status, 400)
    assert.match(wrong.json.message, /"10mbit" should be bits per second/)
    const options = { 'causeway.routes': '10.98.0.0/16, 192.168.8.0/24 via 10.97.0.9', 'causeway.rate_out': '4000000' }
    assert.equal((await connect(options)).status, 200)
    for (const again of [false, true]) {
      if (again) await lab.api('POST', '/containers/box/restart?t=0')
      const { out } = await lab.exec('box', 'ip', 'route')
      assert.match(out, /^10\.98\.0\.0\/16 via 10\.97\.0\.1 dev eth1/m)
      assert.match(out, /^192\.168\.8\.0\/24 via 10\.97\.0\.9 dev eth1/m)
      const key = (await lab.api('GET', '/containers/box/json')).json.NetworkSettings.SandboxKey
      assert.match((await lab.inside(key, 'tc qdisc show dev eth1')).out, /tbf .*rate 4Mbit/)
    }
    await lab.api('DELETE', '/containers/box?force=1')
    await lab.api('DELETE', '/networks/optional')
  })
})

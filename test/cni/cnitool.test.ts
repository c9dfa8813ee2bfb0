/** cnitool, the CNI project's own runtime, drives the plugin: every verb, capabilities, and chains with reference plugins behind it. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import type { Ran } from '../../testkit/engine-lab.ts'
import { type CniLab, startCniLab } from './lab.ts'
import { findPeers } from './peers.ts'

const ROOT = new URL('../..', import.meta.url).pathname
const { folder: peers, skip: withoutPeers } = findPeers()
const found = spawnSync(`${ROOT}tools/cnitool-peer`, { encoding: 'utf8', timeout: 400_000 })
const skip = withoutPeers || (found.status === 0 ? false : found.stderr.trim() || 'tools/cnitool-peer failed')
const program = found.stdout.trim()

describe('cnitool', { skip }, () => {
  let lab: CniLab
  before(async () => {
    lab = await startCniLab()
    for (const name of ['tuning', 'firewall']) copyFileSync(`${peers}/usr/lib/cni/${name}`, `${lab.bin}/${name}`)
  })
  after(async () => {
    assert.deepEqual(await lab.close(), [])
  })

  const configure = (name: string, cniVersion: string, subnet: string, more: object = {}, behind: object[] = []) => {
    mkdirSync(`${lab.dir}/net.d`, { recursive: true })
    const own = { type: 'causeway', ...more, ipam: { subnet }, capabilities: { portMappings: true, aliases: true } }
    writeFileSync(`${lab.dir}/net.d/${name}.conflist`, JSON.stringify({ cniVersion, name, plugins: [own, ...behind] }))
  }
  const cnitool = (verb: string, network: string, netns: string, capabilities: object = {}, ifname = 'eth0'): Promise<Ran> =>
    lab.sh(
      `CNI_PATH=${lab.bin} NETCONFPATH=${lab.dir}/net.d CNI_IFNAME=${ifname} CAP_ARGS='${JSON.stringify(capabilities)}' timeout 30 ${program} ${verb} ${network} ${netns}`,
    )
  const ok = async (...call: Parameters<typeof cnitool>) => {
    const ran = await cnitool(...call)
    assert.equal(ran.code, 0, `cnitool ${call.slice(0, 3).join(' ')}: ${ran.out}${ran.err}`)
    return ran.out
  }

  test('add, check, del with capabilities, in each version that has a list', async () => {
    const [ns, other] = [lab.netns(), lab.netns()]
    for (const version of ['0.3.1', '0.4.0', '1.0.0', '1.1.0']) {
      configure('tool', version, '10.68.0.0/24')
      const capabilities = { portMappings: [{ hostPort: 8068, containerPort: 80, protocol: 'tcp' }], aliases: ['box'] }
      const result = JSON.parse(await ok('add', 'tool', ns, capabilities))
      assert.equal(result.cniVersion, version)
      assert.deepEqual(result.dns.nameservers, ['127.0.0.11'])
      const [address] = result.ips[0].address.split('/')
      await ok('add', 'tool', other, { aliases: ['asker'] })
      assert.equal((await lab.inside(other, 'dig +short @127.0.0.11 box')).out.trim(), address)
      assert.equal((await lab.inside(other, `ping -c1 -W2 ${address}`)).code, 0)
      assert.match((await lab.sh('nft list table inet causeway')).out, /8068/)
      if (version !== '0.3.1') {
        await ok('check', 'tool', ns, capabilities)
        await lab.inside(ns, 'ip route del default')
        assert.match((await cnitool('check', 'tool', ns, capabilities)).err, /the attachment is not as ADD left it/)
      }
      for (const path of [ns, other]) await ok('del', 'tool', path, capabilities)
      assert.doesNotMatch((await lab.sh('nft list table inet causeway')).out, /8068/)
      assert.equal((await lab.inside(ns, 'ip link show eth0')).code, 1)
    }
  })

  test('gc takes away what nobody has in use; status', async () => {
    const ns = lab.netns()
    configure('tool', '1.1.0', '10.68.0.0/24')
    await ok('status', 'tool', ns)
    await ok('add', 'tool', ns)
    // an attachment of which libcni knows nothing
    const stray = lab.netns()
    await lab.add('stray', stray, { cniVersion: '1.1.0', name: 'tool', type: 'causeway', ipam: { subnet: '10.68.0.0/24' } })
    await ok('gc', 'tool', ns)
    assert.equal((await lab.inside(stray, 'ip link show eth0')).code, 1)
    await ok('del', 'tool', ns)
  })

  test('reference plugins behind ours find in its result what they need', async () => {
    const ns = lab.netns()
    // a hardware address that is set behind our back passes only without the source guard
    configure('chain', '1.0.0', '10.69.0.0/24', { macspoofchk: false }, [
      { type: 'tuning', mac: 'c2:11:22:33:44:77' },
      { type: 'firewall', backend: 'iptables' },
    ])
    const result = JSON.parse(await ok('add', 'chain', ns))
    await ok('check', 'chain', ns)
    assert.equal(result.interfaces.find((i: { name: string }) => i.name === 'eth0').mac, 'c2:11:22:33:44:77')
    assert.match((await lab.inside(ns, 'ip link show eth0')).out, /c2:11:22:33:44:77/)
    assert.match((await lab.sh('iptables -S CNI-FORWARD')).out, new RegExp(result.ips[0].address.split('/')[0].replaceAll('.', '\\.')))
    assert.equal((await lab.inside(ns, 'ping -c1 -W2 10.69.0.1')).code, 0, 'with the address that tuning gave it')
    await ok('del', 'chain', ns)
    await lab.sh('iptables -F; iptables -X')
  })
})

/**
 * Real containers of other runtimes on Causeway's networks: Podman with its CNI backend, and containerd's ctr, both of Debian 12
 * (tools/cni-peers). Both start runc containers from a folder with busybox.
 */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import type { Ran } from '../../testkit/engine-lab.ts'
import { until } from '../../testkit/until.ts'
import { type CniLab, startCniLab } from './lab.ts'
import { findPeers, makeRootfs, startContainerd } from './peers.ts'

const { folder: peers, skip } = findPeers()
const LIBRARIES = `${peers}/usr/lib/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`
/** Not every machine lets root raise its limits, which both runtimes try to. */
const LIMITS = '--ulimit nofile=1024:1024 --ulimit nproc=1024:1024'

const network = (name: string, subnet: string, bridge: string) => ({
  cniVersion: '1.0.0',
  name,
  plugins: [
    {
      type: 'causeway',
      bridge,
      ipam: { type: 'host-local', routes: [{ dst: '0.0.0.0/0' }], ranges: [[{ subnet }]] },
      capabilities: { portMappings: true, ips: true, mac: true, aliases: true },
    },
  ],
})

describe('runtimes with the CNI plugin', { skip }, () => {
  let lab: CniLab
  before(async () => {
    lab = await startCniLab()
  })
  after(async () => {
    assert.deepEqual(await lab.close(), [])
  })
  const noContainerLeft = () =>
    until('the attachments are gone', async () => !(await lab.sh('ip -o link')).out.includes('causeway:endpoint'), 10_000)

  test('Podman: containers reach each other by name, and the host; a port is published, addresses and MACs are taken', async () => {
    const dir = `${lab.dir}/podman`
    mkdirSync(`${dir}/net.d`, { recursive: true })
    const rootfs = makeRootfs(`${dir}/rootfs`)
    const confs = [network('pods', '10.64.0.0/24', 'cni-pods'), network('back', '10.65.0.0/24', 'cni-back')]
    for (const conf of confs) writeFileSync(`${dir}/net.d/${conf.name}.conflist`, JSON.stringify(conf))
    writeFileSync(
      `${dir}/containers.conf`,
      [
        '[network]',
        'network_backend="cni"',
        `cni_plugin_dirs=["${lab.bin}"]`,
        `network_config_dir="${dir}/net.d"`,
        'default_network="pods"',
        '[engine]',
        'runtime="runc"',
        'cgroup_manager="cgroupfs"',
        'events_logger="file"',
        `tmp_dir="${dir}/tmp"`,
        '[containers]',
        'log_driver="k8s-file"',
      ].join('\n'),
    )
    writeFileSync(`${dir}/storage.conf`, `[storage]\ndriver="vfs"\nrunroot="${dir}/run"\ngraphroot="${dir}/graph"\n`)
    const env = `LD_LIBRARY_PATH=${LIBRARIES} CONTAINERS_CONF=${dir}/containers.conf CONTAINERS_STORAGE_CONF=${dir}/storage.conf`
    const podman = (line: string): Promise<Ran> => lab.sh(`${env} timeout 60 ${peers}/usr/bin/podman ${line}`)
    const ok = async (line: string): Promise<string> => {
      const ran = await podman(line)
      assert.equal(ran.code, 0, `podman ${line}: ${ran.err}`)
      return ran.out.trim()
    }
    assert.match(await ok('network ls'), /pods +causeway/)
    await ok(
      `run -d --name web ${LIMITS} --network pods:alias=www --network back -p 8090:80 --rootfs ${rootfs} /bin/httpd -f -p 80 -h /www`,
    )
    try {
      await until('the port answers', async () => (await lab.sh('curl -s -m 2 127.0.0.1:8090')).out === 'hello from inside\n', 10_000)
      const states = JSON.parse(await ok("inspect web --format '{{json .NetworkSettings.Networks}}'"))
      assert.match(states.pods.IPAddress, /^10\.64\.0\./)
      assert.match(states.back.IPAddress, /^10\.65\.0\./)
      const run = `run -d --name other ${LIMITS} --network pods --ip 10.64.0.99 --mac-address 92:d0:c6:0a:29:33 --rootfs ${rootfs}`
      const script = `ip addr show eth0; ping -c1 -W3 ${states.pods.IPAddress} && ping -c1 -W3 10.64.0.1`
      await ok(`${run} /bin/sleep 600`)
      const out = await ok(`exec other /bin/sh -c '${script}'`)
      assert.match(out, /92:d0:c6:0a:29:33[\s\S]*10\.64\.0\.99\/24[\s\S]*1 packets received[\s\S]*1 packets received/)
      assert.match(await ok('exec other /bin/cat /etc/resolv.conf'), /^nameserver 127\.0\.0\.11$/m)
      await ok(`run -d --name third ${LIMITS} --network back --rootfs ${rootfs} /bin/sleep 600`)
      for (const [from, name, address] of [
        ['other', 'web', states.pods.IPAddress],
        ['other', 'www', states.pods.IPAddress],
        ['third', 'web', states.back.IPAddress],
        ['web', 'other', '10.64.0.99'],
        ['web', 'third', '10.65.0.'], // web asks the names of both its networks
      ])
        assert.match(await ok(`exec ${from} /bin/ping -c1 -W3 ${name}`), new RegExp(`PING ${name} \\(${address.replaceAll('.', '\\.')}`))
      assert.notEqual((await podman('exec third /bin/ping -c1 -W1 other')).code, 0, 'names stay within their network')
    } finally {
      await podman('rm -f -t 0 web other third')
    }
    assert.equal((await lab.sh('nft list table inet causeway')).out.includes('8090'), false)
    await noContainerLeft()
  })

  test('containerd: ctr run --cni', async () => {
    const dir = `${lab.dir}/containerd`
    const rootfs = makeRootfs(`${dir}/rootfs`)
    // ctr knows one place for plugins and one for configurations; both are this test's own
    mkdirSync('/opt/cni/bin', { recursive: true })
    mkdirSync('/etc/cni/net.d', { recursive: true })
    copyFileSync(`${lab.bin}/causeway`, '/opt/cni/bin/causeway')
    writeFileSync('/etc/cni/net.d/10-ctr.conflist', JSON.stringify(network('ctr', '10.66.0.0/24', 'cni-ctr')))
    const containerd = await startContainerd(`${peers}/usr/bin`, dir, 'disabled_plugins = ["io.containerd.grpc.v1.cri"]')
    try {
      const script = 'ip addr show eth0; ip route; ping -c1 -W3 10.66.0.1'
      const ran = await lab.sh(
        `PATH=${containerd.path} timeout 60 ctr -a ${containerd.socket} -n causeway run --rm --cni --rootfs ${rootfs} one /bin/sh -c 'sleep 0.5; ${script}'`,
      )
      assert.equal(ran.code, 0, ran.err)
      assert.match(ran.out, /10\.66\.0\.2\/24[\s\S]*default via 10\.66\.0\.1[\s\S]*1 packets received/)
      await noContainerLeft()
    } finally {
      await containerd.close()
    }
  })
})

/** Pods as a kubelet makes them: containerd's CRI plugin (Debian 12) with Causeway as its CNI plugin. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { until } from '../../testkit/until.ts'
import { CriClient, decode, inner, type Message, text } from './cri-client.ts'
import { type CniLab, startCniLab } from './lab.ts'
import { type Containerd, findPeers, makeRootfs, startContainerd } from './peers.ts'

const { folder: peers, skip } = findPeers()
const IMAGE = 'docker.io/library/pod:latest'

describe('containerd with CRI', { skip }, () => {
  let lab: CniLab
  let containerd: Containerd
  let cri: CriClient

  before(async () => {
    lab = await startCniLab()
    const dir = `${lab.dir}/cri`
    mkdirSync(`${dir}/net.d`, { recursive: true })
    copyFileSync(`${peers}/usr/lib/cni/loopback`, `${lab.bin}/loopback`) // CRI sets up lo by the reference plugin
    writeFileSync(
      `${dir}/net.d/10-causeway.conflist`,
      JSON.stringify({
        cniVersion: '1.0.0',
        name: 'k8s',
        plugins: [
          {
            type: 'causeway',
            bridge: 'cni-k8s',
            ipam: { type: 'host-local', ranges: [[{ subnet: '10.67.0.0/24' }], [{ subnet: 'fd67::/64' }]] },
            capabilities: { portMappings: true, bandwidth: true },
          },
        ],
      }),
    )
    containerd = await startContainerd(
      `${peers}/usr/bin`,
      dir,
      [
        'disabled_plugins = ["io.containerd.internal.v1.opt"]',
        '[plugins."io.containerd.grpc.v1.cri"]',
        `  sandbox_image = "${IMAGE}"`,
        '  restrict_oom_score_adj = true',
        '  stream_server_port = "0"',
        '  [plugins."io.containerd.grpc.v1.cri".cni]',
        `    bin_dir = "${lab.bin}"`,
        `    conf_dir = "${dir}/net.d"`,
      ].join('\n'),
    )
    await importImage(dir)
    cri = new CriClient(containerd.socket)
  })
  after(async () => {
    for (const pod of (await cri?.call('ListPodSandbox'))?.get(1) ?? []) await removePod(text(decode(pod as Buffer), 1))
    cri?.close()
    await containerd?.close()
    assert.deepEqual(await lab.close(), [])
  })

  /** Makes an image of a folder with busybox that sleeps, as `docker save` writes it, and gives it to containerd. */
  async function importImage(dir: string): Promise<void> {
    makeRootfs(`${dir}/rootfs`)
    mkdirSync(`${dir}/image`)
    await lab.sh(`tar -C ${dir}/rootfs -cf ${dir}/image/layer.tar .`)
    const diffId = createHash('sha256')
      .update(readFileSync(`${dir}/image/layer.tar`))
      .digest('hex')
    const config = { Cmd: ['/bin/sleep', '600'] }
    const image = {
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      os: 'linux',
      config,
      rootfs: { type: 'layers', diff_ids: [`sha256:${diffId}`] },
    }
    writeFileSync(`${dir}/image/config.json`, JSON.stringify(image))
    writeFileSync(`${dir}/image/manifest.json`, JSON.stringify([{ Config: 'config.json', RepoTags: [IMAGE], Layers: ['layer.tar'] }]))
    const ran = await lab.sh(
      `tar -C ${dir}/image -cf ${dir}/image.tar manifest.json config.json layer.tar && PATH=${containerd.path} timeout 30 ctr -a ${containerd.socket} -n k8s.io images import ${dir}/image.tar`,
    )
    assert.equal(ran.code, 0, ran.err)
  }

  const podConfig = (name: string, more: Message = {}): Message => ({
    1: { 1: name, 2: `uid-${name}`, 3: 'default' },
    2: name,
    3: `${lab.dir}/cri/logs`,
    4: { 1: ['10.67.0.53'], 2: ['default.svc.cluster.local'], 3: ['ndots:5'] },
    8: { 2: { 9: { 1: 1 } } }, // seccomp: unconfined
    ...more,
  })

  async function removePod(pod: string): Promise<void> {
    await cri.call('StopPodSandbox', { 1: pod })
    await cri.call('RemovePodSandbox', { 1: pod })
  }

  /** A pod with one container; ids and addresses of both. */
  async function startPod(
    config: Message,
    command: string[],
  ): Promise<{ pod: string; container: string; ips: string[]; exec(...argv: string[]): Promise<string> }> {
    const pod = text(await cri.call('RunPodSandbox', { 1: config }), 1)
    const created = await cri.call('CreateContainer', {
      1: pod,
      2: { 1: { 1: 'main' }, 2: { 1: IMAGE }, 3: command, 15: { 2: { 15: { 1: 1 } } } },
      3: config,
    })
    const container = text(created, 1)
    await cri.call('StartContainer', { 1: container })
    const network = inner(await cri.call('PodSandboxStatus', { 1: pod }), 1, 5)
    const more = (network.get(2) ?? []).map((ip) => text(decode(ip as Buffer), 1))
    return {
      pod,
      container,
      ips: [text(network, 1), ...more],
      async exec(...argv) {
        const ran = await cri.call('ExecSync', { 1: container, 2: argv, 3: 10 })
        return text(ran, 1) + text(ran, 2)
      },
    }
  }

  test('two pods reach each other over both families, a host port leads to its pod, and removal leaves nothing', async () => {
    await until('the network is ready', async () => {
      const conditions = inner(await cri.call('Status'), 1).get(1) ?? []
      const ready = conditions.map((bytes) => decode(bytes as Buffer)).find((c) => text(c, 1) === 'NetworkReady')
      return ready?.get(2)?.[0] === 1
    })
    const web = await startPod(podConfig('web', { 5: { 2: 80, 3: 8067 } }), ['/bin/httpd', '-f', '-p', '80', '-h', '/www'])
    const other = await startPod(podConfig('other'), ['/bin/sleep', '600'])
    assert.match(web.ips.join(' '), /^10\.67\.0\.\d+ fd67::[0-9a-f]+$/)
    for (const ip of web.ips) assert.match(await other.exec('/bin/ping', '-c1', '-W3', ip), /1 packets received/)
    assert.equal((await lab.sh('curl -s -m 5 127.0.0.1:8067')).out, 'hello from inside\n')
    assert.match(
      await other.exec('/bin/cat', '/etc/resolv.conf'),
      /search default\.svc\.cluster\.local\nnameserver 10\.67\.0\.53\noptions ndots:5/,
    )
    // containerd asks for both families' routes, and the pod has them
    assert.match(await other.exec('/bin/ip', 'route'), /default via 10\.67\.0\.1 dev eth0/)
    // the engine comes back in the middle of it all
    await lab.kill9()
    await lab.start()
    assert.match(await other.exec('/bin/ping', '-c1', '-W3', web.ips[0] ?? ''), /1 packets received/)
    for (const { pod } of [web, other]) await removePod(pod)
    await until('the attachments are gone', async () => !(await lab.sh('ip -o link')).out.includes('causeway:endpoint'))
    assert.equal((await lab.sh('nft list table inet causeway')).out.includes('8067'), false)
    await until('the network has gone with its last pod', async () => (await lab.sh('ip link show cni-k8s')).code === 1, 15_000)
    assert.equal((await lab.sh('ls /run/netns')).out, '')
  })
})

/** What stands for a kubelet in tests: a containerd with its CRI plugin on Causeway's CNI plugin, an image, and pods of one container. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { until } from '../../testkit/until.ts'
import { type Answer, CriClient, decode, inner, type Message, text } from './cri-client.ts'
import type { CniLab } from './lab.ts'
import { makeRootfs, startContainerd } from './peers.ts'

const IMAGE = 'docker.io/library/pod:latest'
const UNCONFINED: Message = { 1: 1 }

export interface Pod {
  readonly id: string
  readonly ips: readonly string[]
  exec(...argv: string[]): Promise<string>
}

export interface Kubelet {
  /** `ports`: of the pod and of the host. */
  startPod(name: string, command: string[], ports?: { readonly inside: number; readonly outside: number }): Promise<Pod>
  removePod(id: string): Promise<void>
  /** Version of containerd. */
  readonly version: string
  /** Removes the pods and ends containerd. */
  close(): Promise<void>
}

/** `bin`: folder with containerd, its shim and ctr. `loopback`: the reference plugin that CRI sets up `lo` with. */
export async function startKubelet(lab: CniLab, bin: string, dir: string, conflist: object, loopback: string): Promise<Kubelet> {
  mkdirSync(`${dir}/net.d`, { recursive: true })
  copyFileSync(loopback, `${lab.bin}/loopback`)
  writeFileSync(`${dir}/net.d/10-causeway.conflist`, JSON.stringify(conflist))
  const config = `
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${IMAGE}"
  restrict_oom_score_adj = true
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${lab.bin}"
    conf_dir = "${dir}/net.d"
[plugins."io.containerd.internal.v1.opt"]
  path = "${dir}/opt"`
  const containerd = await startContainerd(bin, dir, config)
  await importImage(lab, dir, `PATH=${containerd.path} timeout 30 ctr -a ${containerd.socket} -n k8s.io`)
  const cri = new CriClient(containerd.socket)
  await until('the pod network is ready', async () => isReady(await cri.call('Status')), { ms: 20_000, log: containerd.log })

  const removePod = async (id: string) => {
    await cri.call('StopPodSandbox', { 1: id })
    await cri.call('RemovePodSandbox', { 1: id })
  }
  return {
    version: text(await cri.call('Version'), 3),
    removePod,
    async startPod(name, command, ports) {
      const pod: Message = {
        1: { 1: name, 2: `uid-${name}`, 3: 'default' },
        2: name,
        3: `${dir}/logs`,
        4: { 1: ['10.67.0.53'], 2: ['default.svc.cluster.local'], 3: ['ndots:5'] },
        8: { 2: { 9: UNCONFINED } },
        ...(ports === undefined ? {} : { 5: { 2: ports.inside, 3: ports.outside } }),
      }
      const id = text(await cri.call('RunPodSandbox', { 1: pod }), 1)
      const container: Message = { 1: { 1: 'main' }, 2: { 1: IMAGE }, 3: command, 15: { 2: { 15: UNCONFINED } } }
      const main = text(await cri.call('CreateContainer', { 1: id, 2: container, 3: pod }), 1)
      await cri.call('StartContainer', { 1: main })
      const network = inner(await cri.call('PodSandboxStatus', { 1: id }), 1, 5)
      return {
        id,
        ips: [text(network, 1), ...(network.get(2) ?? []).map((ip) => text(decode(ip as Buffer), 1))],
        async exec(...argv) {
          const ran = await cri.call('ExecSync', { 1: main, 2: argv, 3: 10 })
          return text(ran, 1) + text(ran, 2)
        },
      }
    },
    async close() {
      for (const pod of (await cri.call('ListPodSandbox')).get(1) ?? []) await removePod(text(decode(pod as Buffer), 1))
      cri.close()
      await containerd.close()
    },
  }
}

function isReady(status: Answer): boolean {
  const conditions = (inner(status, 1).get(1) ?? []).map((bytes) => decode(bytes as Buffer))
  return conditions.find((condition) => text(condition, 1) === 'NetworkReady')?.get(2)?.[0] === 1
}

/** Makes an image of a folder with busybox that sleeps, as `docker save` writes it, and gives it to containerd. */
async function importImage(lab: CniLab, dir: string, ctr: string): Promise<void> {
  makeRootfs(`${dir}/rootfs`)
  mkdirSync(`${dir}/image`)
  await lab.sh(`tar -C ${dir}/rootfs -cf ${dir}/image/layer.tar .`)
  const layer = createHash('sha256').update(readFileSync(`${dir}/image/layer.tar`))
  const image = {
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    config: { Cmd: ['/bin/sleep', '600'] },
    rootfs: { type: 'layers', diff_ids: [`sha256:${layer.digest('hex')}`] },
  }
  writeFileSync(`${dir}/image/config.json`, JSON.stringify(image))
  writeFileSync(`${dir}/image/manifest.json`, JSON.stringify([{ Config: 'config.json', RepoTags: [IMAGE], Layers: ['layer.tar'] }]))
  const ran = await lab.sh(
    `tar -C ${dir}/image -cf ${dir}/image.tar manifest.json config.json layer.tar && ${ctr} images import ${dir}/image.tar`,
  )
  assert.equal(ran.code, 0, ran.err)
}

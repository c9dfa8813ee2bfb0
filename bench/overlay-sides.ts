/**
 * The two that are compared over hosts: Causeway, and Docker 20.10 with an external key-value store, the last that had such a network. Both
 * on hosts of a lab network with a router between them, each with a store of its own.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { startLab } from '../testkit/lab.ts'
import { buildLabNet, type LabHost, systemEnv } from '../testkit/lab-net.ts'
import { serverProcess } from '../testkit/server-process.ts'
import { unpackPeer } from './engines.ts'
import { Api } from './http.ts'
import { buildRootfs, IMAGE, importImage } from './image.ts'

export interface SideHost {
  readonly api: Api
  readonly host: LabHost
  /** Folder with the networks' namespaces, as seen on the host. */
  readonly netnsDir: string
}

export interface Side {
  readonly label: string
  readonly image: string
  readonly hosts: readonly SideHost[]
  close(): Promise<void>
}

export async function startCauseway(count: number): Promise<Side> {
  const lab = await startLab({ hosts: count })
  const hosts = lab.engines.map((engine) => ({ api: new Api(engine.socket), host: engine.host, netnsDir: `${engine.dir}/run/netns` }))
  return {
    label: 'Causeway',
    image: 'busybox',
    hosts,
    async close() {
      for (const { api } of hosts) api.close()
      const left = await lab.close()
      if (left.length > 0) throw new Error(`left behind: ${left.join(', ')}`)
    },
  }
}

/** Docker 20.10 in the hosts' own network and mount namespaces; its containerd is its child. */
export async function startClassic(count: number): Promise<Side> {
  const root = unpackPeer()
  const dir = mkdtempSync('/var/tmp/causeway-bench-classic-')
  const net = buildLabNet({ hosts: count })
  const store = net.hosts[0] as LabHost
  const client = `http://${store.ip}:2379`
  const etcd = serverProcess(
    () => ['etcd', '--enable-v2=true', '--data-dir', join(dir, 'etcd'), '--listen-client-urls', client, '--advertise-client-urls', client],
    store.netns,
  )
  etcd.start()
  const daemons: ChildProcess[] = []
  const hosts: SideHost[] = []
  const close = async () => {
    for (const { api } of hosts) {
      const list = await api.call<{ Id: string }[]>('GET', '/containers/json?all=1').catch(() => [])
      for (const { Id } of list) await api.call('DELETE', `/containers/${Id}?force=1`).catch(() => {})
      api.close()
    }
    await Promise.all(daemons.map(end))
    await etcd.kill9()
    net.close()
    rmSync(dir, { recursive: true, force: true })
  }
  try {
    for (const [i, host] of net.hosts.entries()) {
      const own = join(dir, String(i))
      const config = join(dir, `${i}.json`)
      writeFileSync(config, JSON.stringify({ 'deprecated-key-path': join(dir, `${i}.key`) }))
      const argv = host.enter(join(root, 'usr/sbin/dockerd'), '--config-file', config, '-H', `unix://${own}.sock`)
      argv.push('--data-root', `${own}/data`, '--exec-root', '/run/docker', '--pidfile', `${own}.pid`, '--storage-driver', 'vfs')
      argv.push('--cluster-store', `etcd://${store.ip}:2379/network`, '--cluster-advertise', 'eth0:2375')
      const path = `${join(root, 'usr/sbin')}:${join(root, 'usr/bin')}:${systemEnv.PATH}`
      daemons.push(spawn(argv[0] as string, argv.slice(1), { env: { ...systemEnv, PATH: path }, stdio: ['ignore', 'ignore', 'ignore'] }))
      hosts.push({ api: new Api(`${own}.sock`), host, netnsDir: '/run/docker/netns' })
    }
    for (const { api } of hosts) await answers(api)
    const rootfs = buildRootfs()
    for (const { api } of hosts) await importImage(api, rootfs)
    return { label: 'Docker 20.10', image: IMAGE, hosts, close }
  } catch (error) {
    await close()
    throw error
  }
}

async function answers(api: Api): Promise<void> {
  for (const until = Date.now() + 60_000; ; await sleep(100))
    try {
      return void (await api.call('GET', '/version'))
    } catch (error) {
      if (Date.now() > until) throw error
    }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  await Promise.race([gone, sleep(15_000)])
  child.kill('SIGKILL')
}

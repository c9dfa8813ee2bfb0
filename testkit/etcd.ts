/**
 * Real etcd servers for a test: one or three members, each in its own network namespace when wanted, with TLS and users when wanted.
 *
 *   const etcd = await startEtcd()                                  // one member on 127.x.y.1:2379
 *   const etcd = await startEtcd({ members: 3 })
 *   const etcd = await startEtcd({ places: [{ ip: '10.0.0.1', netns: '/run/netns/store' }] })
 *   etcd.storeUrl('/prefix')   etcd.storeOpts   etcd.members[0].kill9()   etcd.members[0].start()   await etcd.close()
 */
import { execFile, execFileSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { serverProcess } from './server-process.ts'
import { type StoreMember, type StoreServers, type StoreServersOptions, storeGround, storeLives } from './store-servers.ts'

export interface EtcdOptions extends StoreServersOptions {
  /** Turns authentication on, with this user as root besides etcd's own. */
  readonly user?: { readonly name: string; readonly password: string }
  /** Seconds that an authentication token lives (etcd: 300). */
  readonly tokenSeconds?: number
  /** Program, `etcd` of the PATH unless said. */
  readonly binary?: string
}

export interface EtcdLab extends StoreServers {
  /** etcdctl against all members, with the right certificates and user; throws with its words when it fails. */
  ctl(...args: string[]): Promise<string>
}

/** Why there is no etcd here, or undefined when there is one. */
export function etcdMissing(binary = 'etcd'): string | undefined {
  try {
    execFileSync(binary, ['--version'], { stdio: 'ignore' })
    return undefined
  } catch {
    return `no "${binary}" program: tools/setup --for-tests installs Debian's etcd-server and etcd-client`
  }
}

export async function startEtcd(options: EtcdOptions = {}): Promise<EtcdLab> {
  const missing = etcdMissing(options.binary)
  if (missing !== undefined) throw new Error(missing)
  const ground = storeGround('etcd', options)
  const { dir, places, certs } = ground
  const http = certs === undefined ? 'http' : 'https'
  const initial = places.map((place, i) => `m${i}=http://${place.ip}:2380`).join(',')
  let token = 'first'

  const argv = (i: number, ip: string): string[] => {
    const args = [options.binary ?? 'etcd', '--name', `m${i}`, '--data-dir', join(dir, `m${i}`), '--initial-cluster-token', token]
    args.push('--listen-client-urls', `${http}://${ip}:2379`, '--advertise-client-urls', `${http}://${ip}:2379`)
    args.push('--listen-peer-urls', `http://${ip}:2380`, '--initial-advertise-peer-urls', `http://${ip}:2380`)
    args.push('--initial-cluster', initial, '--heartbeat-interval', '50', '--election-timeout', '500', '--log-level', 'warn')
    // the least work per password: log-ins of the tests shall not wait for the processor
    args.push('--logger', 'zap', '--auto-compaction-retention', '0', '--bcrypt-cost', '4')
    if (options.tokenSeconds !== undefined) args.push('--auth-token-ttl', String(options.tokenSeconds))
    if (certs !== undefined) args.push('--cert-file', certs.serverCert, '--key-file', certs.serverKey, '--trusted-ca-file', certs.ca)
    if (options.tls === 'mutual') args.push('--client-cert-auth')
    return args
  }
  const members = places.map(
    (place, i): StoreMember => ({
      ...serverProcess(() => argv(i, place.ip), place.netns),
      name: `m${i}`,
      ip: place.ip,
      endpoint: `${place.ip}:2379`,
    }),
  )

  let user: { name: string; password: string } | undefined
  const run = (endpoints: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> => {
    const first = places[0]?.netns
    const all = ['etcdctl', '--endpoints', endpoints, '--dial-timeout', '1s', '--command-timeout', '5s']
    if (certs !== undefined) all.push('--cacert', certs.ca, '--cert', certs.clientCert, '--key', certs.clientKey)
    if (user !== undefined) all.push('--user', `${user.name}:${user.password}`)
    const [file, ...rest] = first === undefined ? all : ['nsenter', `--net=${first}`, ...all]
    return new Promise((resolve, reject) => {
      execFile(
        file as string,
        [...rest, ...args],
        { env: { ...process.env, ETCDCTL_API: '3', ...env }, timeout: 20_000 },
        (error, out, err) => (error === null ? resolve(out) : reject(new Error(`etcdctl ${args.join(' ')}: ${err || error.message}`))),
      )
    })
  }
  const running = () => members.filter((member) => member.pid() !== 0).map((member) => `${http}://${member.endpoint}`)
  const ctl = (...args: string[]) => run(running().join(','), args)
  const answers = async (): Promise<boolean> => {
    for (const url of running()) {
      const healthy = await run(url, ['endpoint', 'health']).then(
        () => true,
        () => false,
      )
      if (healthy) return true
    }
    return false
  }
  const lab: EtcdLab = {
    ...storeLives('etcd', ground, members, answers),
    storeOpts: {
      ...ground.tlsOpts,
      ...(options.user === undefined ? {} : { 'kv.username': options.user.name, 'kv.password': options.user.password }),
    },
    ctl,
    async stop() {
      await Promise.all(members.map((member) => member.stop()))
    },
    async save(file) {
      // a snapshot is asked of one member
      await run(running()[0] as string, ['snapshot', 'save', file])
    },
    // as after a disaster: a new cluster
    async restore(file) {
      await lab.stop()
      token = `restored-${Date.now()}`
      for (const member of members) {
        rmSync(join(dir, member.name), { recursive: true, force: true })
        const own = ['--name', member.name, '--data-dir', join(dir, member.name), '--initial-cluster', initial]
        await run('', [
          'snapshot',
          'restore',
          file,
          ...own,
          '--initial-cluster-token',
          token,
          '--initial-advertise-peer-urls',
          `http://${member.ip}:2380`,
        ])
      }
      await lab.start()
    },
    async wipe() {
      await lab.stop()
      token = `wiped-${Date.now()}`
      user = undefined
      for (const member of members) rmSync(join(dir, member.name), { recursive: true, force: true })
      await lab.start()
      await enableUsers()
    },
  }
  const enableUsers = async () => {
    if (options.user === undefined) return
    const { name, password } = options.user
    await ctl('user', 'add', `root:${name === 'root' ? password : 'root-password'}`)
    await ctl('user', 'grant-role', 'root', 'root')
    if (name !== 'root') {
      await ctl('user', 'add', `${name}:${password}`)
      await ctl('user', 'grant-role', name, 'root')
    }
    await ctl('auth', 'enable')
    user = { name, password }
  }
  try {
    await lab.start()
    await enableUsers()
  } catch (error) {
    await lab.close()
    throw error
  }
  return lab
}

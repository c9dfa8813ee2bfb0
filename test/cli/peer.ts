/** A dockerd of Debian's packages as the API to talk to, in namespaces of its own. Call `isolate()` before. */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from '../../src/client/client.ts'
import { until } from '../../testkit/until.ts'

/** Where packages of peers are kept, outside of the repository. */
const CACHE = process.env['CAUSEWAY_PEERS'] ?? '/var/tmp/causeway-peers'

export interface Peer {
  readonly host: string
  readonly folder: string
  stop(): Promise<void>
}

/** Why there can be no peer here, or undefined. */
export function whyNoPeer(): string | undefined {
  const packages = existsSync(CACHE) ? readdirSync(CACHE) : []
  const missing = ['docker.io', 'containerd'].filter(
    (name) => !packages.some((file) => file.startsWith(`${name}_`) && file.endsWith('.deb')),
  )
  return missing.length === 0 ? undefined : `no packages of ${missing.join(' and ')} in ${CACHE}`
}

/** Starts containerd and dockerd and gives them a busybox image. */
export async function startPeer(): Promise<Peer> {
  const folder = mkdtempSync(join(tmpdir(), 'causeway-cli-peer-'))
  const root = join(folder, 'root')
  for (const file of readdirSync(CACHE)) if (/^(docker\.io|containerd)_.*\.deb$/.test(file)) must('dpkg', ['-x', join(CACHE, file), root])
  mkdirSync('/run/containerd', { recursive: true })
  must('mount', ['-t', 'tmpfs', 'tmpfs', '/run/containerd']) // our own mount namespace: the machine's stays
  const env = { ...process.env, PATH: `${root}/usr/bin:${root}/usr/sbin:${process.env['PATH']}` }
  const log = openSync(join(folder, 'log'), 'a')
  const start = (program: string, args: string[]) => spawn(program, args, { env, stdio: ['ignore', log, log] })
  const containerd = start(`${root}/usr/bin/containerd`, [
    '--root',
    `${folder}/ctd`,
    '--state',
    '/run/containerd/s',
    '--address',
    `${folder}/ctd.sock`,
  ])
  await until('containerd', () => existsSync(`${folder}/ctd.sock`), 30_000)
  const socket = `${folder}/docker.sock`
  const dockerd = start(`${root}/usr/sbin/dockerd`, [
    ...['--data-root', `${folder}/data`, '--exec-root', `${folder}/exec`, '-H', `unix://${socket}`],
    ...['--pidfile', `${folder}/pid`, '--containerd', `${folder}/ctd.sock`, '--iptables=false', '--bridge=none'],
  ])
  const host = `unix://${socket}`
  const client = new Client({ host })
  await until(
    'dockerd',
    async () =>
      client.system.ping().then(
        () => true,
        () => false,
      ),
    30_000,
  )
  const tree = join(folder, 'busybox')
  mkdirSync(`${tree}/bin`, { recursive: true })
  for (const name of ['tmp', 'proc', 'sys', 'dev', 'etc']) mkdirSync(`${tree}/${name}`)
  must('sh', [
    '-c',
    `cp "$(command -v busybox)" ${tree}/bin/ && ${tree}/bin/busybox --install -s ${tree}/bin && printf 'root:x:0:0:root:/:/bin/sh\\n' > ${tree}/etc/passwd`,
  ])
  must('sh', ['-c', `for f in ${tree}/bin/*; do [ -L "$f" ] && ln -sf busybox "$f"; done; tar -C ${tree} -cf ${folder}/busybox.tar .`])
  must('docker', ['-H', host, 'import', '-c', 'CMD ["sh"]', `${folder}/busybox.tar`, 'busybox:latest'])
  return {
    host,
    folder,
    stop: async () => {
      // one that removes itself (--rm) may be on its way out already
      for (const { Id } of await client.containers.list({ all: true }))
        await client.containers.remove(Id, { force: true, volumes: true }).catch(() => {})
      client.close()
      for (const child of [dockerd, containerd]) {
        const ended = new Promise((resolve) => child.once('exit', resolve))
        child.kill('SIGTERM')
        await ended
      }
      for (const mount of mountsBelow(folder, '/run/containerd')) spawnSync('umount', ['-l', mount])
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** Mount points below the folders, deepest first. */
function mountsBelow(...folders: readonly string[]): string[] {
  const points = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
  return points.filter((point) => folders.some((folder) => point === folder || point.startsWith(`${folder}/`))).toReversed()
}

function must(program: string, args: readonly string[]): void {
  const done = spawnSync(program, args, { encoding: 'utf8' })
  if (done.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${done.stderr}`)
}

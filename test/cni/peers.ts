/** The runtimes of Debian that tools/cni-peers unpacks, and what they start. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, openSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { until } from '../../testkit/until.ts'

const ROOT = new URL('../..', import.meta.url).pathname

/** The folder of the unpacked packages; `skip` says why there is none. */
export function findPeers(): { readonly folder: string; readonly skip: string | false } {
  const found = spawnSync(`${ROOT}tools/cni-peers`, { encoding: 'utf8', timeout: 400_000 })
  return { folder: found.stdout.trim(), skip: found.status === 0 ? false : found.stderr.trim() || 'tools/cni-peers failed' }
}

const COMMANDS = ['sh', 'httpd', 'sleep', 'ping', 'ip', 'cat']

/** A root file system with busybox, and a page to serve in /www. */
export function makeRootfs(folder: string): string {
  for (const name of ['bin', 'etc', 'tmp', 'proc', 'sys', 'dev', 'www']) mkdirSync(`${folder}/${name}`, { recursive: true })
  copyFileSync('/usr/bin/busybox', `${folder}/bin/busybox`)
  for (const name of COMMANDS) symlinkSync('busybox', `${folder}/bin/${name}`)
  writeFileSync(`${folder}/www/index.html`, 'hello from inside\n')
  return folder
}

export interface Containerd {
  readonly socket: string
  /** For programs that shall find the peers' own. */
  readonly path: string
  log(): string
  close(): Promise<void>
}

/** Starts containerd with everything it keeps in `dir`. `config` is appended to its configuration file. */
export async function startContainerd(bin: string, dir: string, config: string): Promise<Containerd> {
  mkdirSync(dir, { recursive: true })
  const socket = `${dir}/c.sock`
  writeFileSync(
    `${dir}/config.toml`,
    `version = 2\nroot = "${dir}/root"\nstate = "${dir}/state"\n${config}\n[grpc]\n  address = "${socket}"\n`,
  )
  const path = `${bin}:${process.env['PATH']}`
  const output = openSync(`${dir}/log`, 'a')
  const daemon: ChildProcess = spawn(`${bin}/containerd`, ['--config', `${dir}/config.toml`], {
    env: { ...process.env, PATH: path },
    stdio: ['ignore', output, output],
  })
  const log = () => readFileSync(`${dir}/log`, 'utf8')
  await until('containerd listens', () => existsSync(socket), { ms: 20_000, log })
  return {
    socket,
    path,
    log,
    async close() {
      const gone = daemon.exitCode === null ? new Promise((resolve) => daemon.once('exit', resolve)) : undefined
      daemon.kill('SIGTERM')
      await gone
    },
  }
}

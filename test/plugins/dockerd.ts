/**
 * A real Docker Engine of Debian's packages (docker.io with its containerd), unpacked and never installed, in the namespaces of the
 * caller (call `isolate()` before, and have a /run of your own) or on a host of lab-net.ts.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Where packages of peers are kept, outside of the repository. */
const CACHE = process.env['CAUSEWAY_PEERS'] ?? '/var/tmp/causeway-peers'

/** The Docker Engine of Debian sid (tools/dockerd-peer); `skip` says why there is none. */
export function findNewDockerd(): { readonly root: string; readonly skip: string | false } {
  const found = spawnSync(new URL('../../tools/dockerd-peer', import.meta.url).pathname, { encoding: 'utf8', timeout: 400_000 })
  return { root: found.stdout.trim(), skip: found.status === 0 ? false : found.stderr.trim() || 'tools/dockerd-peer failed' }
}

/** The folder of the unpacked packages; undefined when they cannot be had here. */
export function findDockerd(): string | undefined {
  const root = join(CACHE, 'docker.io-20.10')
  if (existsSync(join(root, '.complete'))) return root
  mkdirSync(CACHE, { recursive: true })
  const fresh = mkdtempSync(join(CACHE, 'unpack-'))
  for (const name of ['docker.io', 'containerd']) {
    const find = () => readdirSync(CACHE).find((file) => file.startsWith(`${name}_`) && file.endsWith('.deb'))
    if (find() === undefined) spawnSync('apt-get', ['download', '-q', name], { cwd: CACHE })
    const file = find()
    if (file === undefined || spawnSync('dpkg', ['-x', join(CACHE, file), fresh]).status !== 0) {
      rmSync(fresh, { recursive: true, force: true })
      return undefined
    }
  }
  writeFileSync(join(fresh, '.complete'), '')
  try {
    renameSync(fresh, root)
  } catch {
    rmSync(fresh, { recursive: true, force: true }) // somebody else was quicker
  }
  return root
}

export interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

export interface Dockerd {
  docker(...args: string[]): Promise<Ran>
  log(): string
  /** kill -9 of dockerd alone; {@link start} brings it up again on the same folders. */
  kill9(): Promise<void>
  start(): Promise<void>
  /** Removes all containers, ends the processes, removes the folders. */
  close(): Promise<void>
}

/** Starts it and gives it busybox:latest. `enter`: argv that runs a command where it shall live, else in the caller's own namespaces. */
export async function startDockerd(root: string, enter: (...argv: string[]) => string[] = (...argv) => argv): Promise<Dockerd> {
  const dir = mkdtempSync(join(tmpdir(), 'causeway-dockerd-'))
  const socket = `${dir}/docker.sock`
  const env = { ...process.env, PATH: `${root}/usr/sbin:${root}/usr/bin:${process.env['PATH']}`, DOCKER_CONFIG: `${dir}/config` }
  const log = openSync(join(dir, 'log'), 'a')
  const children: ChildProcess[] = []
  const start = (argv: string[]): ChildProcess => {
    const [program = '', ...args] = enter(...argv)
    const child = spawn(program, args, { env, stdio: ['ignore', log, log] })
    children.push(child)
    return child
  }
  // 20.10 writes a key into /etc/docker unless it is told otherwise; later ones know no such option
  const isOld = spawnSync(`${root}/usr/sbin/dockerd`, ['--version']).stdout.toString().includes('version 20.')
  writeFileSync(join(dir, 'daemon.json'), JSON.stringify(isOld ? { 'deprecated-key-path': join(dir, 'key.json') } : {}))
  start([`${root}/usr/bin/containerd`, '--root', `${dir}/ctd`, '--state', `${dir}/ctd-run`, '--address', `${dir}/ctd.sock`])
  await until(() => existsSync(`${dir}/ctd.sock`), 'containerd', dir)
  let dockerd: ChildProcess | undefined
  const docker = (...args: string[]): Promise<Ran> =>
    new Promise((resolve) => {
      execFile('docker', ['-H', `unix://${socket}`, ...args], { env, timeout: 60_000 }, (error, out, err) => {
        resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : 255, out, err })
      })
    })
  const up = async (): Promise<void> => {
    dockerd = start([
      `${root}/usr/sbin/dockerd`,
      ...['--config-file', `${dir}/daemon.json`, '--data-root', `${dir}/data`, '--exec-root', `${dir}/exec`],
      ...[
        '-H',
        `unix://${socket}`,
        '-H',
        'unix:///var/run/docker.sock',
        '--pidfile',
        `${dir}/pid`,
        '--containerd',
        `${dir}/ctd.sock`,
        '--storage-driver',
        'overlay2',
      ],
    ])
    await until(async () => (await docker('version')).code === 0, 'dockerd', dir)
  }
  await up()
  const tree = join(dir, 'busybox')
  const made = spawnSync('sh', [
    '-ec',
    `mkdir -p ${tree}/bin ${tree}/tmp ${tree}/etc; cp "$(command -v busybox)" ${tree}/bin/; for f in $(${tree}/bin/busybox --list); do ln -sf busybox ${tree}/bin/$f; done
     printf 'root:x:0:0:root:/:/bin/sh\\n' > ${tree}/etc/passwd; cp "$(command -v busybox)" ${tree}/bin/busybox.new; mv ${tree}/bin/busybox.new ${tree}/bin/busybox; tar -C ${tree} -cf ${dir}/busybox.tar .`,
  ])
  if (made.status !== 0) throw new Error(made.stderr.toString())
  const imported = await docker('import', '-c', 'CMD ["sh"]', `${dir}/busybox.tar`, 'busybox:latest')
  if (imported.code !== 0) throw new Error(imported.err)

  const end = async (child: ChildProcess | undefined, signal: 'SIGTERM' | 'SIGKILL') => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise((resolve) => child.once('exit', resolve))
    child.kill(signal)
    const timer = setTimeout(() => child.kill('SIGKILL'), 15_000)
    await gone
    clearTimeout(timer)
  }
  return {
    docker,
    log: () => readFileSync(join(dir, 'log'), 'utf8'),
    async kill9() {
      await end(dockerd, 'SIGKILL')
      rmSync(`${dir}/pid`, { force: true })
    },
    start: up,
    async close() {
      const { out } = await docker('ps', '-aq')
      const ids = out.split('\n').filter((id) => id !== '')
      if (ids.length > 0) await docker('rm', '-f', ...ids)
      for (const child of children.toReversed()) await end(child, 'SIGTERM')
      const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
        .split('\n')
        .map((line) => line.split(' ')[4] ?? '')
        .filter((point) => point.startsWith(`${dir}/`))
      for (const point of mounts.toReversed()) spawnSync('umount', ['-l', point])
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

async function until(isTrue: () => boolean | Promise<boolean>, what: string, dir: string): Promise<void> {
  const end = Date.now() + 30_000
  while (!(await isTrue())) {
    if (Date.now() > end) throw new Error(`${what} did not start in 30 s: ${readFileSync(join(dir, 'log'), 'utf8').slice(-3000)}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

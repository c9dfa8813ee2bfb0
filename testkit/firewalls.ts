/**
 * ufw and firewalld of Debian 12 (tools/firewall-peers) on the test's own network namespace, as if they were installed: they run in a root
 * of their own, the machine's with theirs laid over it. Call `isolate()` first: its mount namespace takes the mounts, and /run is
 * replaced there, so that the bus is where everybody looks for it.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { until } from './until.ts'

const found = spawnSync(new URL('../tools/firewall-peers', import.meta.url).pathname, { encoding: 'utf8', timeout: 200_000 })
const PEER = found.stdout.trim()
/** Why there are none here, or false. */
export const withoutFirewalls: string | false = found.status === 0 ? false : found.stderr.trim() || 'tools/firewall-peers failed'

const PATH = '/usr/sbin:/usr/bin:/sbin:/bin'

/** A bus of firewalld's own, on which everybody may do everything. */
const BUS = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/><allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/><allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/>
  </policy>
</busconfig>
`

export class Firewalls {
  readonly #dir = mkdtempSync(`${tmpdir()}/causeway-firewalls-`)
  readonly #root = `${this.#dir}/root`
  #bus: ChildProcess | undefined
  #firewalld: ChildProcess | undefined

  constructor() {
    const dir = this.#dir
    mount('-t', 'tmpfs', 'none', dir)
    for (const name of ['upper', 'work', 'root']) mkdirSync(`${dir}/${name}`)
    cpSync(PEER, `${dir}/peer`, { recursive: true, verbatimSymlinks: true })
    // what its package's installation copies
    const ufw = `${dir}/peer/etc/ufw`
    cpSync(`${dir}/peer/usr/share/ufw/iptables`, ufw, { recursive: true })
    for (const name of ['ufw.conf', 'before.init', 'after.init']) cpSync(`${dir}/peer/usr/share/ufw/${name}`, `${ufw}/${name}`)
    writeFileSync(`${dir}/peer/etc/causeway-bus.conf`, BUS)
    mount('-t', 'overlay', 'none', '-o', `lowerdir=${dir}/peer:/,upperdir=${dir}/upper,workdir=${dir}/work`, this.#root)
    mount('-t', 'tmpfs', 'none', '/run')
    mkdirSync('/run/dbus')
    for (const folder of ['proc', 'sys', 'dev', 'run']) mount('--rbind', `/${folder}`, `${this.#root}/${folder}`)
  }

  #command(argv: readonly string[]): [string, string[]] {
    return ['chroot', [this.#root, 'env', '-i', `PATH=${PATH}`, 'LANG=C.UTF-8', ...argv]]
  }

  /** Runs a command of theirs, returns what it printed. Throws when it fails. */
  run(...argv: string[]): string {
    const { status, stdout, stderr } = spawnSync(...this.#command(argv), { encoding: 'utf8', timeout: 30_000 })
    if (status !== 0) throw new Error(`${argv.join(' ')}: ${stdout}${stderr}`)
    return stdout.trim()
  }

  /** Starts a bus and firewalld on it; resolves when it answers. */
  async startFirewalld(): Promise<void> {
    this.#bus ??= this.#start('dbus-daemon', '--config-file=/etc/causeway-bus.conf', '--nofork', '--nopidfile')
    await until('the bus listens', () => existsSync('/run/dbus/system_bus_socket'))
    this.#firewalld = this.#start('firewalld', '--nofork', '--nopid')
    await until('firewalld answers', () => {
      try {
        return this.run('firewall-cmd', '--state') === 'running'
      } catch {
        return false
      }
    })
  }

  async stopFirewalld(): Promise<void> {
    await end(this.#firewalld, 'SIGTERM')
    this.#firewalld = undefined
  }

  #start(...argv: string[]): ChildProcess {
    return spawn(...this.#command(argv), { stdio: 'ignore' })
  }

  async close(): Promise<void> {
    await this.stopFirewalld()
    await end(this.#bus, 'SIGKILL')
    spawnSync('umount', ['-l', '/run'])
    spawnSync('umount', ['-l', this.#root])
    spawnSync('umount', ['-l', this.#dir])
    rmSync(this.#dir, { recursive: true, force: true })
  }
}

function mount(...args: string[]): void {
  const { status, stderr } = spawnSync('mount', args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`mount ${args.join(' ')}: ${stderr}`)
}

async function end(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill(signal)
  await gone
}

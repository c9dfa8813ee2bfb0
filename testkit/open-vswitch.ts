/** Open vSwitch of Debian 12 (tools/ovs-peer) on a host of a test: database server and switch as processes of their own, with a folder of their own. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const ROOT = new URL('..', import.meta.url).pathname

const found = spawnSync(`${ROOT}tools/ovs-peer`, { encoding: 'utf8', timeout: 200_000 })
const PEER = found.stdout.trim()
/** Why there is none here, or false. */
export const withoutOpenVswitch: string | false = found.status === 0 ? false : found.stderr.trim() || 'tools/ovs-peer failed'

export class OpenVswitch {
  readonly dir = mkdtempSync(join(tmpdir(), 'causeway-ovs-'))
  readonly socket = `${this.dir}/db.sock`
  readonly #enter: (...argv: string[]) => string[]
  readonly #env: NodeJS.ProcessEnv
  #database: ChildProcess | undefined
  #switch: ChildProcess | undefined

  /** `enter`: argv that runs a command on the host. */
  constructor(enter: (...argv: string[]) => string[] = (...argv) => argv) {
    this.#enter = enter
    this.#env = {
      ...process.env,
      LD_LIBRARY_PATH: `${PEER}/usr/lib/x86_64-linux-gnu:${PEER}/lib/x86_64-linux-gnu`,
      OVS_RUNDIR: this.dir,
      OVS_LOGDIR: this.dir,
      OVS_DBDIR: this.dir,
      OVS_SYSCONFDIR: this.dir,
    }
    this.#run(`${PEER}/usr/bin/ovsdb-tool`, 'create', `${this.dir}/conf.db`, `${PEER}/usr/share/openvswitch/vswitch.ovsschema`)
  }

  #run(...argv: string[]): string {
    const [file = '', ...args] = this.#enter(...argv)
    const { status, stdout, stderr } = spawnSync(file, args, { env: this.#env, encoding: 'utf8', timeout: 20_000 })
    if (status !== 0) throw new Error(`${argv.join(' ')}: ${stderr}`)
    return stdout.trim()
  }

  #spawn(...argv: string[]): ChildProcess {
    const [file = '', ...args] = this.#enter(...argv)
    return spawn(file, args, { env: this.#env, stdio: 'ignore' })
  }

  async start(): Promise<void> {
    const { dir } = this
    rmSync(this.socket, { force: true })
    this.#database = this.#spawn(`${PEER}/usr/sbin/ovsdb-server`, `${dir}/conf.db`, `--remote=punix:${this.socket}`, '--log-file=/dev/null')
    const until = Date.now() + 10_000
    while (!existsSync(this.socket)) {
      if (Date.now() > until) throw new Error('ovsdb-server does not listen')
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    this.vsctl('--no-wait', 'init')
    const program = `${PEER}/usr/lib/openvswitch-switch/ovs-vswitchd`
    this.#switch = this.#spawn(program, `unix:${this.socket}`, `--log-file=${dir}/switch.log`)
  }

  /** `ovs-vsctl ...`; throws when it fails. */
  vsctl(...args: string[]): string {
    return this.#run(`${PEER}/usr/bin/ovs-vsctl`, `--db=unix:${this.socket}`, '--timeout=10', ...args)
  }

  /** Ends both processes; the database's file stays. */
  async stop(): Promise<void> {
    for (const child of [this.#switch, this.#database]) {
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) continue
      const gone = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGKILL')
      await gone
    }
  }

  async close(): Promise<void> {
    await this.stop()
    rmSync(this.dir, { recursive: true, force: true })
  }
}

/** An engine, its installed CNI plugin and namespaces to attach, in the test file's own namespaces (call `isolate()` first). */
import { execFile, spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { type EngineLab, type Ran, startEngineLab } from '../../testkit/engine-lab.ts'

const ROOT = new URL('../..', import.meta.url).pathname
let nextNetns = 0

export interface Call {
  readonly command: string
  readonly containerId?: string
  readonly netns?: string
  readonly ifname?: string
  readonly args?: string
  readonly conf: object | string
}

export interface Called extends Ran {
  // biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely by tests
  readonly json: any
}

export interface CniLab extends EngineLab {
  /** Folder with the plugin, for CNI_PATH. */
  readonly bin: string
  /** Starts the plugin as a runtime would. */
  cni(call: Call): Promise<Called>
  /** ADD, which must succeed. */
  add(containerId: string, netns: string, conf: object, extra?: Partial<Call>): Promise<Called['json']>
  /** A fresh namespace; its file. */
  netns(): string
  /** A command inside a namespace. */
  inside(netns: string, command: string): Promise<Ran>
  dropNetns(path: string): void
}

/** Folders with fixed places that `ip netns` and runtimes keep things in: empty ones of this test's own, in its mount namespace. */
const OWN_FOLDERS = ['/run/netns', '/var/lib/cni', '/etc/cni', '/opt/cni']

function ownFolders(): void {
  for (const folder of OWN_FOLDERS) {
    mkdirSync(folder, { recursive: true })
    spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', folder])
  }
}

export async function startCniLab(flags: readonly string[] = []): Promise<CniLab> {
  ownFolders()
  const lab = await startEngineLab(flags)
  const bin = `${lab.dir}/bin`
  const installed = await lab.sh(
    `${process.execPath} ${ROOT}bin/causeway cni install --dir ${bin} --data-root ${lab.dir}/data --exec-root ${lab.dir}/run -H unix://${lab.socket} ${flags.join(' ')}`,
  )
  if (installed.code !== 0) throw new Error(`cni install: ${installed.err}`)
  const cni = (call: Call): Promise<Called> =>
    new Promise((resolve) => {
      const env: NodeJS.ProcessEnv = {
        PATH: process.env['PATH'],
        CNI_COMMAND: call.command,
        CNI_PATH: bin,
        ...(call.containerId === undefined ? {} : { CNI_CONTAINERID: call.containerId }),
        ...(call.netns === undefined ? {} : { CNI_NETNS: call.netns }),
        ...(call.containerId === undefined ? {} : { CNI_IFNAME: call.ifname ?? 'eth0' }),
        ...(call.args === undefined ? {} : { CNI_ARGS: call.args }),
      }
      const child = execFile(`${bin}/causeway`, [], { env, timeout: 60_000 }, (error, out, err) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 255
        let json: unknown
        try {
          json = JSON.parse(out)
        } catch {
          json = undefined
        }
        resolve({ code, out, err, json })
      })
      child.stdin?.on('error', () => {}).end(typeof call.conf === 'string' ? call.conf : JSON.stringify(call.conf))
    })
  return Object.assign(lab, {
    bin,
    cni,
    async add(containerId: string, netns: string, conf: object, extra: Partial<Call> = {}) {
      const added = await cni({ command: 'ADD', containerId, netns, conf, ...extra })
      if (added.code !== 0) throw new Error(`ADD ${containerId}: ${added.out} ${added.err}`)
      return added.json
    },
    netns() {
      const name = `cni${process.pid}-${nextNetns++}`
      spawnSync('ip', ['netns', 'add', name])
      return `/run/netns/${name}`
    },
    inside: (netns: string, command: string) => lab.sh(`nsenter --net=${netns} sh -c '${command}'`),
    dropNetns(path: string) {
      spawnSync('ip', ['netns', 'del', path.slice(path.lastIndexOf('/') + 1)])
    },
  })
}

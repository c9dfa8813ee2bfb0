/**
 * `node --import tsx bench/cni.ts [--rounds 40]`
 * ADD and DEL of a container with one published port, by Causeway's plugin, by the reference plugins (bridge with host-local, portmap,
 * firewall) and by netavark, both of Debian 12. Each side has a host namespace of its own; rounds are taken in turn. Time is from
 * starting the first program to the end of the last, by a small runtime (cni-runtime.pl) that is the same for all.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { isolate } from '../testkit/isolated.ts'
import { run } from './engines.ts'
import { short, summarize } from './stats.ts'

isolate()

const { values: args } = parseArgs({ options: { rounds: { type: 'string', default: '40' } } })
const rounds = Number(args.rounds)
const ROOT = join(import.meta.dirname, '..')
const PEERS = run(join(ROOT, 'tools/cni-peers'), []).trim()
const dir = mkdtempSync('/var/tmp/causeway-cni-')

interface Side {
  readonly name: string
  /** One operation; microseconds. */
  operate(verb: 'ADD' | 'DEL', id: string, netns: string): Promise<number>
  stop(): Promise<void>
}

/** A namespace that plays the host of one side. */
function host(name: string): string {
  run('ip', ['netns', 'add', name])
  run('ip', ['-n', name, 'link', 'set', 'lo', 'up'])
  return name
}

function runtime(name: string, netns: string, argv: readonly string[], before?: ChildProcess): Side {
  const child = spawn('ip', ['netns', 'exec', netns, 'perl', join(import.meta.dirname, 'cni-runtime.pl'), ...argv], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, CNI_PATH: `${PEERS}/usr/lib/cni` },
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const ended = (process: ChildProcess) =>
    new Promise<void>((done) => (process.exitCode === null ? process.once('exit', () => done()) : done()))
  return {
    name,
    async operate(verb, id, path) {
      child.stdin.write(`${verb} ${id} ${path}\n`)
      const { value } = await lines.next()
      const micros = Number(value)
      if (!Number.isFinite(micros)) throw new Error(`${name} ${verb}: ${value}`)
      return micros
    },
    async stop() {
      child.stdin.end()
      await ended(child)
      before?.kill('SIGTERM')
      if (before) await ended(before)
    },
  }
}

const PORT = { hostPort: 8080, containerPort: 80, protocol: 'tcp' }
const json = (name: string, value: object): string => {
  writeFileSync(join(dir, name), JSON.stringify(value))
  return join(dir, name)
}

async function causeway(): Promise<Side> {
  const netns = host('bench-causeway')
  const roots = ['--data-root', `${dir}/data`, '--exec-root', `${dir}/run`]
  const child = spawn('ip', ['netns', 'exec', netns, process.execPath, `${ROOT}/bin/causeway`, 'daemon', ...roots], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  run(process.execPath, [`${ROOT}/bin/causeway`, 'cni', 'install', '--dir', `${dir}/bin`, ...roots])
  for (const until = Date.now() + 20_000; !existsSync(`${dir}/run/cni.sock`); await new Promise((done) => setTimeout(done, 50)))
    if (Date.now() > until) throw new Error('the engine does not start')
  const conf = {
    cniVersion: '1.0.0',
    name: 'bench',
    type: 'causeway',
    ipam: { type: 'host-local', subnet: '10.90.0.0/16' },
    runtimeConfig: { portMappings: [PORT] },
  }
  return runtime('causeway', netns, ['cni', `${dir}/bin/causeway=${json('causeway.json', conf)}`], child)
}

function reference(): Side {
  const head = { cniVersion: '1.0.0', name: 'bench' }
  const chain = [
    {
      type: 'bridge',
      bridge: 'cni0',
      isGateway: true,
      ipMasq: true,
      ipam: { type: 'host-local', dataDir: `${dir}/host-local`, ranges: [[{ subnet: '10.91.0.0/16' }]], routes: [{ dst: '0.0.0.0/0' }] },
    },
    { type: 'portmap', runtimeConfig: { portMappings: [PORT] } },
    { type: 'firewall' },
  ]
  const plugins = chain.map((conf) => `${PEERS}/usr/lib/cni/${conf.type}=${json(`${conf.type}.json`, { ...head, ...conf })}`)
  return runtime('bridge+portmap+firewall', host('bench-reference'), ['cni', ...plugins])
}

function netavark(): Side {
  const program = `${PEERS}/usr/lib/podman/netavark`
  const conf = {
    container_id: 'CONTAINER',
    container_name: 'CONTAINER',
    port_mappings: [{ host_ip: '', container_port: PORT.containerPort, host_port: PORT.hostPort, protocol: 'tcp', range: 1 }],
    networks: { bench: { interface_name: 'eth0', static_ips: ['10.92.0.2'] } },
    network_info: {
      bench: {
        name: 'bench',
        id: '2'.repeat(64),
        driver: 'bridge',
        network_interface: 'podman1',
        subnets: [{ subnet: '10.92.0.0/16', gateway: '10.92.0.1' }],
        ipv6_enabled: false,
        internal: false,
        dns_enabled: false,
        ipam_options: { driver: 'host-local' },
      },
    },
  }
  mkdirSync(`${dir}/netavark`)
  return runtime('netavark', host('bench-netavark'), ['netavark', program, json('netavark.json', conf), `${dir}/netavark`])
}

async function main(): Promise<void> {
  mkdirSync('/run/netns', { recursive: true })
  run('mount', ['-t', 'tmpfs', 'tmpfs', '/run/netns']) // ours alone, in this mount namespace
  const sides = [await causeway(), reference(), netavark()]
  const times = new Map<string, number[]>()
  try {
    for (let round = 0; round <= rounds; round++)
      for (const side of sides) {
        const id = `c${round}`
        const netns = `/run/netns/${side.name.slice(0, 4)}${round}`
        run('ip', ['netns', 'add', netns.slice(11)])
        for (const verb of ['ADD', 'DEL'] as const) {
          const micros = await side.operate(verb, id, netns)
          const key = `${side.name} ${verb}`
          // the first round makes the network and is not counted
          if (round > 0) times.set(key, [...(times.get(key) ?? []), micros / 1000])
        }
        run('ip', ['netns', 'del', netns.slice(11)])
      }
    console.log(report(sides, times))
  } finally {
    for (const side of sides) await side.stop()
    spawnSync('umount', ['-l', '/run/netns'])
    rmSync(dir, { recursive: true, force: true })
  }
}

/** A table with medians and how many times faster Causeway is. */
function report(sides: readonly Side[], times: ReadonlyMap<string, readonly number[]>): string {
  const of = (side: string, verb: string) => summarize(times.get(`${side} ${verb}`) ?? [])
  const lines = [`| ms, ${rounds} rounds | ADD min | ADD median | times | DEL min | DEL median | times |`, '|---|---|---|---|---|---|---|']
  for (const { name } of sides) {
    const [add, del] = [of(name, 'ADD'), of(name, 'DEL')]
    const ratio = (verb: string, median: number) => `${short(median / of('causeway', verb).median)}x`
    lines.push(
      `| ${name} | ${short(add.min)} | ${short(add.median)} | ${ratio('ADD', add.median)} | ${short(del.min)} | ${short(del.median)} | ${ratio('DEL', del.median)} |`,
    )
  }
  return lines.join('\n')
}

await main()

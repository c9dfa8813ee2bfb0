/** Machines outside: a namespace of its own at the end of a cable into the engine's namespace, with this one as its router. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'

export interface Outside {
  readonly pid: number
  readonly address: string
  /** Runs a command there. */
  sh(command: string): string
  /** Starts something there that lives until `close`. */
  start(command: string): ChildProcess
  close(): void
}

/** Cable `<name>` in this namespace with 10.<net>.0.1/24, its other end `eth0` with 10.<net>.0.2. `bridge` joins a bridge instead. */
export function outside(name: string, net: number, bridge?: string, host = 2): Outside {
  const child = spawn('unshare', ['--net', 'sleep', '600'], { stdio: 'ignore' })
  const pid = child.pid as number
  const run = (command: string) => execFileSync('sh', ['-c', command], { encoding: 'utf8' })
  // unshare(1) needs a moment before it is in the new namespace
  for (let i = 0; i < 200; i++) {
    const mine = spawnSync('readlink', ['/proc/self/ns/net']).stdout.toString()
    if (
      spawnSync('readlink', [`/proc/${pid}/ns/net`]).stdout.toString() !== mine &&
      spawnSync('readlink', [`/proc/${pid}/exe`])
        .stdout.toString()
        .includes('sleep')
    )
      break
    spawnSync('sleep', ['0.01'])
  }
  const address = `10.${net}.0.${host}`
  run(`ip link add ${name} type veth peer name eth0 netns ${pid}`)
  if (bridge === undefined) run(`ip addr add 10.${net}.0.1/24 dev ${name}`)
  else run(`ip link set ${name} master ${bridge}`)
  run(`ip link set ${name} up`)
  const inside = (command: string) => run(`nsenter -t ${pid} -n sh -c '${command}'`)
  inside(`ip link set lo up; ip addr add ${address}/24 dev eth0; ip link set eth0 up; ip route add default via 10.${net}.0.1`)
  const started: ChildProcess[] = []
  return {
    pid,
    address,
    sh: inside,
    start(command) {
      const process = spawn('nsenter', ['-t', String(pid), '-n', 'sh', '-c', `exec ${command}`], { stdio: 'ignore' })
      started.push(process)
      return process
    },
    close() {
      for (const process of started) process.kill('SIGKILL')
      child.kill('SIGKILL')
      spawnSync('ip', ['link', 'del', name])
    },
  }
}

/**
 * A network of hosts inside this machine: each host is a namespace (network, mounts, host name) with `eth0`, hosts live on subnets of their
 * own, a router between them, as in the experiment of Docker's classic overlay. Call `isolate()` first. Everything ends with the holder
 * processes of the namespaces.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { readlinkSync } from 'node:fs'
import type { Ran } from './engine-lab.ts'

const SYSTEM_PATH = '/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin'
export const systemEnv = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:${SYSTEM_PATH}` }

export interface LabHost {
  readonly name: string
  /** Address on eth0. */
  readonly ip: string
  readonly ip6: string
  /** Namespace file of its network. */
  readonly netns: string
  readonly pid: number
  /** argv that runs a command in its namespaces. */
  enter(...argv: string[]): string[]
  /** A shell command there; never throws. */
  sh(command: string, timeoutMs?: number): Promise<Ran>
}

export interface LabNetOptions {
  readonly hosts?: number
  readonly mtu?: number
  /** All hosts on one link instead of one subnet each. */
  readonly flat?: boolean
}

export interface LabNet {
  readonly hosts: readonly LabHost[]
  readonly router: LabHost
  close(): void
}

/** Addresses of the seeds' two hosts, then more of the same kind. */
const SUBNETS = [126, 105, 117, 118, 119, 120, 121, 122]
const HOST_BYTES = [101, 71, 31, 41, 51, 61, 81, 91]

/** Answers every question with NXDOMAIN. */
const NO_SUCH_NAME = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 53))
while True:
    q, a = s.recvfrom(4096)
    s.sendto(q[:2] + bytes([0x81 | (q[2] & 1), 0x83]) + q[4:6] + bytes(6) + q[12:], a)
`

function runIn(argv: readonly string[], timeoutMs = 30_000): Promise<Ran> {
  return new Promise((resolve) => {
    const [file = '', ...args] = argv
    execFile(file, args, { env: systemEnv, timeout: timeoutMs, maxBuffer: 64 << 20 }, (error, out, err) => {
      resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : 255, out, err })
    })
  })
}

function holder(name: string, resolver: string, children: ChildProcess[]): Omit<LabHost, 'ip' | 'ip6'> {
  // /run is the host's own; /sys shows its devices, with the machine's control groups in their place; names are asked of the router
  const script = `hostname ${name}
    mount -t tmpfs tmpfs /run; mkdir -p /run/cgroup /run/lock
    mount --rbind /sys/fs/cgroup /run/cgroup && mount -t sysfs sysfs /sys && mount --move /run/cgroup /sys/fs/cgroup
    echo 'nameserver ${resolver}' >/run/resolv.conf; mount --bind /run/resolv.conf "$(readlink -f /etc/resolv.conf)"
    exec sleep 7200`
  const own = readlinkSync('/proc/self/ns/uts')
  const child = spawn('unshare', ['--net', '--mount', '--uts', '--propagation', 'private', 'sh', '-c', script], {
    stdio: 'ignore',
    env: systemEnv,
  })
  children.push(child)
  const pid = child.pid as number
  // ready when `exec sleep` has happened
  const until = Date.now() + 20_000
  for (;;) {
    if (Date.now() > until) throw new Error(`namespaces of ${name} do not appear`)
    const isSleep = () =>
      execFileSync('cat', [`/proc/${pid}/comm`])
        .toString()
        .trim() === 'sleep'
    if (readlinkSync(`/proc/${pid}/ns/uts`) !== own && isSleep()) break
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2)
  }
  const enter = (...argv: string[]) => ['nsenter', '-t', String(pid), '--net', '--mount', '--uts', '--wd=/', '--', ...argv]
  return {
    name,
    netns: `/proc/${pid}/ns/net`,
    pid,
    enter,
    sh: (command, timeoutMs) => runIn(enter('sh', '-c', command), timeoutMs),
  }
}

/** Builds the network; answers when every host reaches the router. */
export function buildLabNet(options: LabNetOptions = {}): LabNet {
  const count = options.hosts ?? 2
  const mtu = options.mtu ?? 1500
  const children: ChildProcess[] = []
  const close = () => {
    for (const child of children.splice(0)) child.kill('SIGKILL')
  }
  process.on('exit', close)
  const must = (argv: readonly string[]) =>
    execFileSync(argv[0] as string, argv.slice(1), { env: systemEnv, stdio: ['ignore', 'ignore', 'pipe'] })
  try {
    const router = { ...holder('router', '127.0.0.1', children), ip: '', ip6: '' }
    must(
      router.enter(
        'sh',
        '-ec',
        `ip link set lo up; sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
         ip link add lan0 mtu ${mtu} type bridge; ip link set lan0 up`,
      ),
    )
    const hosts = Array.from({ length: count }, (_, i): LabHost => {
      const subnet = options.flat ? SUBNETS[0] : SUBNETS[i]
      const byte = HOST_BYTES[i]
      const host = {
        ...holder(`host${i + 1}`, `10.10.${subnet}.1`, children),
        ip: `10.10.${subnet}.${byte}`,
        ip6: `fd10:10:${subnet}::${byte}`,
      }
      must(
        router.enter(
          'sh',
          '-ec',
          `ip link add h${i} mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns ${host.pid}
           ${options.flat ? `ip link set h${i} master lan0` : ''}
           ip link set h${i} up`,
        ),
      )
      const gateway = options.flat ? 'lan0' : `h${i}`
      if (!options.flat || i === 0)
        must(
          router.enter(
            'sh',
            '-ec',
            `ip addr add 10.10.${subnet}.1/24 dev ${gateway}; ip addr add fd10:10:${subnet}::1/64 dev ${gateway} nodad`,
          ),
        )
      must(
        host.enter(
          'sh',
          '-ec',
          `ip link set lo up; sysctl -qw net.ipv4.ip_forward=0; ip link set eth0 up
           ip addr add ${host.ip}/24 dev eth0; ip addr add ${host.ip6}/64 dev eth0 nodad
           ip route add default via 10.10.${subnet}.1; ip -6 route add default via fd10:10:${subnet}::1`,
        ),
      )
      return host
    })
    // resolvers that do not answer would keep every unknown name waiting for seconds
    const [file = '', ...args] = router.enter('python3', '-c', NO_SUCH_NAME)
    children.push(spawn(file, args, { stdio: 'ignore', env: systemEnv }))
    return { hosts, router, close }
  } catch (error) {
    close()
    throw error
  }
}

/**
 * A host with our tables, a client outside, a VPN peer, and networks with containers, all made of namespaces. The "host" is the test's
 * own (isolated) namespace. Containers run a small Python server that tells every caller the address it came from.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { parseIp } from '../../src/base/address.ts'
import { Nft } from '../../src/kernel/nft.ts'
import { type FirewallNetwork, type FirewallPort, networkElements, portElements } from '../../src/plan/firewall/elements.ts'
import { ElementLedger } from '../../src/plan/firewall/ledger.ts'
import { renderTables } from '../../src/plan/firewall/tables.ts'
import { initNetns } from '../../src/sys/netns.ts'

export const HOST4 = '192.0.2.1'
export const HOST6 = '2001:db8:ff::1'
export const CLIENT4 = '192.0.2.2'
export const CLIENT6 = '2001:db8:ff::2'

const SERVER = `
import socket, select, sys
socks = []
for p in map(int, sys.argv[1].split(',')):
    t = socket.socket(socket.AF_INET6); t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); t.bind(('::', p)); t.listen(50)
    u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.bind(('::', p))
    socks += [t, u]
print('ready', flush=True)
say = lambda a: (a[0].replace('::ffff:', '') + '\\n').encode()
while True:
    for s in select.select(socks, [], [])[0]:
        if s.type == socket.SOCK_STREAM:
            c, a = s.accept(); c.sendall(say(a)); c.close()
        else:
            d, a = s.recvfrom(2000); s.sendto(say(a), a)
`

export interface LabContainer {
  readonly name: string
  readonly ip4: string
  readonly ip6: string
  readonly hostIf: string
  readonly mac: string
}

export function sh(command: string): string {
  return execFileSync('sh', ['-ec', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], timeout: 30_000 })
}

export class FirewallLab {
  readonly nft: Nft
  readonly ledger = new ElementLedger()
  readonly #servers: ChildProcess[] = []
  #next = 1

  private constructor(nft: Nft) {
    this.nft = nft
  }

  /** Builds host, client and VPN peer. Call after isolate(). */
  static async build(): Promise<FirewallLab> {
    await initNetns()
    mkdirSync('/run/netns', { recursive: true })
    sh('mount -t tmpfs none /run/netns') // `ip netns` marks its folder as shared: keep that inside this mount namespace
    sh('sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1')
    const lab = new FirewallLab(Nft.open())
    for (const [name, dev, net4, net6] of [
      ['client', 'out0', '192.0.2', '2001:db8:ff'],
      ['vpn', 'tun0', '198.51.100', '2001:db8:fe'],
    ] as const) {
      sh(`ip netns add ${name}; ip -n ${name} link set lo up
        ip link add ${dev} type veth peer name eth0 netns ${name}; ip link set ${dev} up; ip -n ${name} link set eth0 up
        ip addr add ${net4}.1/24 dev ${dev}; ip addr add ${net6}::1/64 dev ${dev} nodad
        ip -n ${name} addr add ${net4}.2/24 dev eth0; ip -n ${name} addr add ${net6}::2/64 dev eth0 nodad
        ip -n ${name} route add default via ${net4}.1; ip -n ${name} route add default via ${net6}::1`)
    }
    lab.nft.ensureTables(renderTables())
    return lab
  }

  /** A bridge with its gateway addresses, and its elements. */
  network(bridge: string, options: Partial<FirewallNetwork> = {}): FirewallNetwork {
    const n = this.#next++
    sh(`ip link add ${bridge} type bridge; sysctl -qw net.ipv4.conf.${bridge}.route_localnet=1; ip link set ${bridge} up
      ip addr add 10.${n}.0.1/16 dev ${bridge}; ip addr add fd00:${n}::1/64 dev ${bridge} nodad`)
    const network: FirewallNetwork = {
      id: bridge.padEnd(16, '0'),
      bridge,
      mode4: 'nat',
      mode6: 'nat',
      internal: false,
      icc: true,
      masquerade: true,
      trusted: [],
      ...options,
    }
    this.nft.change({ add: this.ledger.take(networkElements(network)), remove: [] })
    return network
  }

  /** A container on a bridge whose server listens on `ports`. */
  async container(name: string, bridge: string, ports = '80,81'): Promise<LabContainer> {
    const n = /\.(\d+)\.0\.1\/16/.exec(sh(`ip -4 addr show dev ${bridge}`).replace('10.', '.'))?.[1]
    const host = this.#next++
    const c = {
      name,
      ip4: `10.${n}.0.${host}`,
      ip6: `fd00:${n}::${host.toString(16)}`,
      hostIf: `v-${name}`,
      mac: `02:00:00:00:00:${host.toString(16).padStart(2, '0')}`,
    }
    sh(`ip netns add ${name}; ip -n ${name} link set lo up
      ip link add ${c.hostIf} type veth peer name eth0 address ${c.mac} netns ${name}
      ip link set ${c.hostIf} master ${bridge} up; bridge link set dev ${c.hostIf} hairpin on; ip -n ${name} link set eth0 up
      ip -n ${name} addr add ${c.ip4}/16 dev eth0; ip -n ${name} addr add ${c.ip6}/64 dev eth0 nodad
      ip -n ${name} route add default via 10.${n}.0.1; ip -n ${name} route add default via fd00:${n}::1`)
    await this.serve(name, ports)
    return c
  }

  /** Starts the server in a namespace; '' is the host. */
  async serve(netns: string, ports: string): Promise<void> {
    const argv = [...(netns === '' ? [] : ['ip', 'netns', 'exec', netns]), 'python3', '-c', SERVER, ports]
    const child = spawn(argv[0] as string, argv.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] })
    this.#servers.push(child)
    await new Promise<void>((resolve, reject) => {
      child.stdout?.once('data', () => resolve())
      child.once('exit', (code) => reject(new Error(`server in ${netns} ended with ${code}`)))
    })
  }

  publish(options: Partial<FirewallPort> & { to: LabContainer; hostPort: number; hostIp?: never; at?: string }): FirewallPort[] {
    const { to, at, ...rest } = options
    const ports = (at === undefined ? ['0.0.0.0', '::'] : [at]).map(
      (hostIp): FirewallPort => ({
        proto: 'tcp',
        count: 1,
        containerPort: 80,
        bridge: '',
        routed: false,
        ...rest,
        hostIp: parseIp(hostIp),
        containerIp: parseIp(hostIp.includes(':') ? to.ip6 : to.ip4),
      }),
    )
    this.nft.change({ add: this.ledger.take(ports.flatMap(portElements)), remove: [] })
    return ports
  }

  /** What a server says to a call from `netns`: the address it sees, or '' when it does not answer within a second. */
  call(netns: string, to: string, port: number, proto: 'tcp' | 'udp' = 'tcp'): Promise<string> {
    return this.run(netns, `${proto === 'udp' ? 'echo hi | nc -u -w1 -W1' : 'nc -w1'} ${to} ${port} ${proto === 'udp' ? '' : '</dev/null'}`)
  }

  async pings(netns: string, to: string): Promise<boolean> {
    return (await this.run(netns, `ping -c1 -W1 ${to} >/dev/null && echo yes`)) === 'yes'
  }

  run(netns: string, command: string): Promise<string> {
    const argv = [...(netns === '' ? [] : ['ip', 'netns', 'exec', netns]), 'sh', '-c', command]
    return new Promise((resolve) => {
      execFile(argv[0] as string, argv.slice(1), { timeout: 10_000 }, (_error, stdout) => resolve(stdout.trim()))
    })
  }

  counter(name: string, family = 'inet'): number {
    const { nftables } = JSON.parse(sh(`nft -j list counter ${family} causeway ${name}`)) as {
      nftables: { counter?: { packets: number } }[]
    }
    return nftables.find((o) => o.counter)?.counter?.packets ?? Number.NaN
  }

  close(): void {
    for (const server of this.#servers) {
      server.removeAllListeners('exit')
      server.kill('SIGKILL')
    }
    this.nft.close()
    sh('for n in $(ls /run/netns); do ip netns del $n; done')
  }
}

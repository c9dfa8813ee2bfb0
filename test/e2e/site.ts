/**
 * What the engine's host has around it, for end-to-end tests: machines on the LAN (namespaces joined by veth), small servers inside
 * containers that tell each caller where it seems to come from, clients, long flows, crafted frames, captures. All judged from outside.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { EngineLab, Ran } from '../../testkit/engine-lab.ts'

/** Says the caller's address as `ip port`, then echoes line by line (tcp); answers each datagram with the same (udp). */
const SERVER = `
import socket, select, sys
word = sys.argv[2]
socks = []
for spec in sys.argv[1].split(','):
    host, _, p = spec.rpartition('@')
    fam = socket.AF_INET if '.' in host else socket.AF_INET6
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = socket.socket(fam, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((host or '::', int(p)))
        if kind == socket.SOCK_STREAM: s.listen(50)
        socks.append(s)
print('ready', flush=True)
say = lambda a: ('%s %d %s\\n' % (a[0].replace('::ffff:', ''), a[1], word)).encode()
conns = set()
while True:
    for s in select.select(socks + list(conns), [], [])[0]:
        try:
            if s in conns:
                d = s.recv(65536)
                if d: s.sendall(d)
                else: conns.discard(s); s.close()
            elif s.type == socket.SOCK_STREAM:
                c, a = s.accept(); c.sendall(say(a)); conns.add(c)
            else:
                d, a = s.recvfrom(2000); s.sendto(say(a), a)
        except OSError:
            conns.discard(s)
`

/** One question: prints the first line of the answer, or nothing. */
const CLIENT = `
import socket, sys
proto, ip, port, src, wait = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], float(sys.argv[5])
fam = socket.AF_INET6 if ':' in ip else socket.AF_INET
kind = {'tcp': (socket.SOCK_STREAM, 0), 'udp': (socket.SOCK_DGRAM, 0), 'sctp': (socket.SOCK_STREAM, 132)}[proto]
s = socket.socket(fam, *kind)
s.settimeout(wait)
if src != '-': s.bind((src.split('#')[0] if '#' in src else src, int(src.split('#')[1]) if '#' in src else 0))
try:
    s.connect(socket.getaddrinfo(ip, port)[0][4])
    if proto == 'udp': s.send(b'hello')
    sys.stdout.write(s.recv(2000).decode().split('\\n')[0])
except OSError as e:
    sys.stderr.write(e.__class__.__name__ + ' ' + str(e))
`

/** An open tcp flow: each line from stdin travels there and back. */
const FLOW = `
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)
f = s.makefile('rw')
print(f.readline().strip(), flush=True)
s.settimeout(3)
for line in sys.stdin:
    try:
        f.write(line); f.flush(); print(f.readline().strip(), flush=True)
    except OSError:
        print('', flush=True)
`

const SEND_FRAMES = `
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind((sys.argv[1], 0))
for frame in sys.argv[2:]: s.send(bytes.fromhex(frame))
`

const PATH = `/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin`
const env = { ...process.env, PATH: `${PATH}:${process.env['PATH'] ?? ''}` }

/** A network namespace: of a container, of a machine on the LAN, or the engine's own (''). */
export type Place = string

export interface Flow {
  /** What the server said when the flow began: address and port of the caller, word of the server. */
  readonly hello: string
  /** True when a line came back. */
  alive(): Promise<boolean>
  close(): void
}

export class Site {
  readonly lab: EngineLab
  readonly #children: ChildProcess[] = []

  constructor(lab: EngineLab) {
    this.lab = lab
  }

  /** Namespace of a running container. */
  async inside(container: string): Promise<Place> {
    const { json } = await this.lab.api('GET', `/containers/${container}/json`)
    return json.NetworkSettings.SandboxKey as string
  }

  async endpoint(container: string, network: string): Promise<{ IPAddress: string; GlobalIPv6Address: string; MacAddress: string }> {
    const { json } = await this.lab.api('GET', `/containers/${container}/json`)
    return json.NetworkSettings.Networks[network]
  }

  /** A machine on a LAN of its own with the host: `dev` is the host's interface, .1/::1 the host, .2/::2 the machine. */
  machine(dev: string, net4: string, net6: string, options: { route?: boolean } = {}): Place {
    const holder = spawn('unshare', ['-n', 'sleep', '3600'], { stdio: 'ignore' })
    this.#children.push(holder)
    const place = `/proc/${holder.pid}/ns/net`
    const own = execFileSync('readlink', ['/proc/self/ns/net']).toString()
    for (let i = 0; execFileSync('readlink', [place]).toString() === own; i++) if (i > 1000) throw new Error('unshare does not start')
    const sh = (command: string) => execFileSync('sh', ['-ec', command], { env })
    sh(`ip link add ${dev} type veth peer name eth0 netns ${holder.pid}
      ip link set ${dev} up; ip addr add ${net4}.1/24 dev ${dev}; ip addr add ${net6}::1/64 dev ${dev} nodad
      nsenter --net=${place} sh -ec 'ip link set lo up; ip link set eth0 up
        ip addr add ${net4}.2/24 dev eth0; ip addr add ${net6}::2/64 dev eth0 nodad
        ${options.route === false ? '' : `ip route add default via ${net4}.1; ip route add default via ${net6}::1`}'`)
    return place
  }

  /** A command in a place. */
  at(place: Place, command: string): Promise<Ran> {
    return this.lab.sh(place === '' ? command : `nsenter --net=${place} sh -c '${command.replaceAll("'", `'\\''`)}'`)
  }

  #python(place: Place, script: string, args: readonly string[]): ChildProcess {
    const argv = ['python3', '-c', script, ...args]
    const child = spawn(place === '' ? 'python3' : 'nsenter', place === '' ? argv.slice(1) : [`--net=${place}`, ...argv], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env,
    })
    this.#children.push(child)
    return child
  }

  /** Serves tcp and udp on `ports` (`80` or `address@80`) of both families; `word` tells servers apart. Returns a way to end it. */
  async serve(place: Place, ports: readonly (number | string)[], word = '-'): Promise<() => void> {
    const child = this.#python(place, SERVER, [ports.join(','), word])
    await new Promise<void>((resolve, reject) => {
      let err = ''
      child.stderr?.on('data', (chunk: Buffer) => {
        err += chunk.toString()
      })
      child.once('exit', () => reject(new Error(`server ended: ${err}`)))
      child.stdout?.once('data', () => resolve())
    })
    return () => child.kill('SIGKILL')
  }

  /** A program that runs in a place until the end of the test. */
  daemon(place: Place, file: string, args: readonly string[]): void {
    const argv = [file, ...args]
    this.#children.push(spawn(place === '' ? file : 'nsenter', place === '' ? args : [`--net=${place}`, ...argv], { stdio: 'ignore', env }))
  }

  /** Asks a server; `address port word` as it saw us, '' when no answer came within `wait` seconds. */
  ask(place: Place, proto: 'tcp' | 'udp', ip: string, port: number, options: { from?: string; wait?: number } = {}): Promise<string> {
    const child = this.#python(place, CLIENT, [proto, ip, String(port), options.from ?? '-', String(options.wait ?? 1.5)])
    return new Promise((resolve) => {
      let out = ''
      child.stdout?.on('data', (chunk: Buffer) => {
        out += chunk.toString()
      })
      child.once('close', () => resolve(out))
    })
  }

  async flow(place: Place, ip: string, port: number): Promise<Flow> {
    const child = this.#python(place, FLOW, [ip, String(port)])
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]()
    const first = await lines.next()
    return {
      hello: first.done ? '' : first.value,
      async alive() {
        const word = `ping${Math.random()}`
        child.stdin?.write(`${word}\n`)
        const next = await lines.next()
        return !next.done && next.value === word
      },
      close: () => child.kill('SIGKILL'),
    }
  }

  /** Sends raw Ethernet frames, given in hex, out of an interface. */
  async send(place: Place, dev: string, ...frames: string[]): Promise<void> {
    const child = this.#python(place, SEND_FRAMES, [dev, ...frames])
    await new Promise((resolve) => child.once('close', resolve))
  }

  /** tcpdump's lines while `during` runs and `settleMs` more. */
  async capture(place: Place, dev: string, filter: string, during: () => Promise<unknown>, settleMs = 200): Promise<string> {
    const argv = ['tcpdump', '-nn', '-e', '-l', '-U', '--immediate-mode', '-i', dev, ...(filter === '' ? [] : [filter])]
    const child = spawn(place === '' ? 'tcpdump' : 'nsenter', place === '' ? argv.slice(1) : [`--net=${place}`, ...argv], { env })
    this.#children.push(child)
    let out = ''
    let err = ''
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk.toString()
    })
    await new Promise<void>((resolve, reject) => {
      child.once('exit', () => reject(new Error(`tcpdump ended: ${err}`)))
      child.stderr.on('data', (chunk: Buffer) => {
        err += chunk.toString()
        if (err.includes('listening on')) resolve()
      })
    })
    await during()
    await new Promise((resolve) => setTimeout(resolve, settleMs))
    child.removeAllListeners('exit')
    await new Promise((resolve) => {
      child.once('close', resolve)
      child.kill('SIGINT')
    })
    return out
  }

  /** Parsed `ip -j <words>` in a place. */
  // biome-ignore lint/suspicious/noExplicitAny: the output of ip(8) is looked into freely by tests
  async ip(place: Place, words: string): Promise<any[]> {
    const { out, err } = await this.at(place, `ip -j -d ${words}`)
    if (err !== '') throw new Error(`ip ${words}: ${err}`)
    return out.trim() === '' ? [] : JSON.parse(out)
  }

  /** Ends all servers, flows and machines. */
  close(): void {
    for (const child of this.#children) child.kill('SIGKILL')
  }
}

/** Waits until `probe` gives something true, at most `ms`. Returns the last value. */
export async function until<T>(probe: () => Promise<T>, ms = 3000): Promise<T> {
  const end = Date.now() + ms
  for (;;) {
    const value = await probe()
    if (value || Date.now() > end) return value
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}

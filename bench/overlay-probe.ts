/** Eyes inside a container's and a network's namespace, with the machine's monotonic clock: when is a name known, an address reached, an entry gone. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { systemEnv } from '../testkit/lab-net.ts'

/** Commands come by lines; asks and pings every millisecond or two until it is so. */
const PROGRAM = `
import random, select, socket, struct, sys, time
def ask(name, wait):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    q = struct.pack("!6H", random.randrange(65536), 0x100, 1, 0, 0, 0) + b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\\0\\0\\1\\0\\1"
    s.sendto(q, ("127.0.0.11", 53))
    ok, _, _ = select.select([s], [], [], wait)
    a = s.recv(4096) if ok else b""
    s.close()
    return None if not a else socket.inet_ntoa(a[-4:]) if a[3] & 15 == 0 and a[7] > 0 else ""
def sum16(b):
    n = sum(struct.unpack("!%dH" % (len(b) // 2), b)); n = (n >> 16) + (n & 65535); return ~(n + (n >> 16)) & 65535
def ping(ip):
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    me, n = random.randrange(65536), 0
    while True:
        n += 1
        head = struct.pack("!BBHHH", 8, 0, 0, me, n & 65535)
        s.sendto(struct.pack("!BBHHH", 8, 0, sum16(head), me, n & 65535), (ip, 0))
        end = time.monotonic() + 0.001
        while select.select([s], [], [], max(0, end - time.monotonic()))[0]:
            p = s.recv(2048)
            if p[20] == 0 and p[24:26] == struct.pack("!H", me): s.close(); return
def say(word): print(word, time.monotonic_ns(), flush=True)
for line in sys.stdin:
    verb, what = line.split()
    if verb == "ping": ping(what); say("reached")
    elif verb == "name":
        while not (ip := ask(what, 1)): time.sleep(0.001)
        say("named"); ping(ip); say("reached")
    elif verb == "gone":
        while ask(what, 1) != "": time.sleep(0.001)
        say("gone")
`

/** Milliseconds of the monotonic clock, the same for all processes. */
export const nowMs = (): number => Number(process.hrtime.bigint()) / 1e6

const MOST_MS = 20_000

function lines(child: ChildProcess, isWanted: (line: string) => boolean): Promise<string> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('the probe has seen nothing for 20 s')), MOST_MS)
    const reader = (child as ChildProcess & { reader: ReturnType<typeof createInterface> }).reader
    const look = (line: string) => {
      if (!isWanted(line)) return
      clearTimeout(timer)
      reader.off('line', look)
      resolve(line)
    }
    reader.on('line', look)
  })
}

const children = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL')
})

function start(argv: readonly string[]): ChildProcess & { reader: ReturnType<typeof createInterface> } {
  const child = spawn(argv[0] as string, argv.slice(1), { env: systemEnv, stdio: ['pipe', 'pipe', 'inherit'] })
  children.add(child)
  return Object.assign(child, { reader: createInterface({ input: child.stdout as NodeJS.ReadableStream }) })
}

export class Probe {
  readonly #child: ReturnType<typeof start>

  /** `netns`: namespace file of a container. */
  constructor(netns: string) {
    this.#child = start(['nsenter', `--net=${netns}`, 'python3', '-c', PROGRAM])
  }

  /** When a word was said, in milliseconds of {@link nowMs}. */
  async #when(word: string): Promise<number> {
    const line = await lines(this.#child, (text) => text.startsWith(`${word} `))
    return Number(line.split(' ')[1]) / 1e6
  }

  /** When `name` is known, and when it first answers a ping. */
  async name(name: string): Promise<{ named: number; reached: number }> {
    const both = Promise.all([this.#when('named'), this.#when('reached')])
    this.#child.stdin?.write(`name ${name}\n`)
    const [named, reached] = await both
    return { named, reached }
  }

  ping(ip: string): Promise<number> {
    const when = this.#when('reached')
    this.#child.stdin?.write(`ping ${ip}\n`)
    return when
  }

  gone(name: string): Promise<number> {
    const when = this.#when('gone')
    this.#child.stdin?.write(`gone ${name}\n`)
    return when
  }

  close(): void {
    this.#child.kill('SIGKILL')
  }
}

/** Sees neighbour entries of a network's namespace go. `enter`: argv that runs a command there. */
export class EntryWatch {
  readonly #child: ReturnType<typeof start>

  constructor(enter: readonly string[]) {
    this.#child = start([...enter, 'ip', 'monitor', 'neigh'])
  }

  async gone(ip: string): Promise<number> {
    await lines(this.#child, (line) => line.startsWith('Deleted') && line.includes(`${ip} dev vxlan`))
    return nowMs()
  }

  close(): void {
    this.#child.kill('SIGKILL')
  }
}

/** A lab for the DNS tests: sandboxes with dig inside, and upstreams that misbehave on request. */
import { execFile, spawnSync } from 'node:child_process'
import { createSocket, type RemoteInfo } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Ip, parseIp } from '../../src/base/address.ts'
import { type DnsPorts, DnsService } from '../../src/dns/service.ts'
import type { DnsView } from '../../src/dns/types.ts'
import { closeNetns, createNetns, initNetns, type Netns, openNetns, removeNetns } from '../../src/sys/netns.ts'
import { type DnsMessage, type DnsRecord, decodeMessage, encodeMessage, FLAG, RCODE, TYPE } from '../../src/wire/dns.ts'

export const ip = (text: string): Ip => parseIp(text)

export interface DigAnswer {
  readonly status: string
  readonly flags: readonly string[]
  /** Answer section, one line per record, fields separated by one space. */
  readonly answers: readonly string[]
  /** Data of the answer records, sorted. */
  readonly data: readonly string[]
  readonly question: string
  /** Milliseconds that dig itself measured. */
  readonly ms: number
  readonly text: string
}

/** Reads dig's output. */
function parseDig(text: string): DigAnswer {
  const section = (name: string): string[] =>
    (new RegExp(`;; ${name} SECTION:\n([\\s\\S]*?)\n\n`).exec(text)?.[1] ?? '').split('\n').filter((line) => line !== '')
  const answers = section('ANSWER').map((line) => line.replaceAll(/\s+/g, ' '))
  return {
    status: /status: (\w+)/.exec(text)?.[1] ?? 'NONE',
    flags: (/;; flags: ([a-z ]*);/.exec(text)?.[1] ?? '').split(' '),
    answers,
    data: answers.map((line) => line.split(' ').slice(4).join(' ')).sort(),
    question: section('QUESTION')[0]?.slice(1).split(/\s/)[0] ?? '',
    ms: Number(/;; Query time: (\d+) msec/.exec(text)?.[1] ?? Number.NaN),
    text,
  }
}

export class DnsLab {
  readonly service: DnsService
  readonly errors: string[] = []
  readonly #folder = mkdtempSync(join(tmpdir(), 'causeway-dns-'))
  readonly #spaces: Netns[] = []
  readonly #stops: (() => void)[] = []

  static async start(): Promise<DnsLab> {
    await initNetns()
    const errors: string[] = []
    const error = (message: string, fields?: object): void => {
      errors.push(`${message} ${JSON.stringify(fields)}`)
    }
    const service = await DnsService.start({ logger: { debug() {}, info() {}, warn() {}, error } })
    return new DnsLab(service, errors)
  }

  private constructor(service: DnsService, errors: string[]) {
    this.service = service
    this.errors = errors
  }

  /** A namespace with `lo` up. */
  space(): Netns {
    const path = join(this.#folder, `ns${this.#spaces.length}`)
    createNetns(path)
    const ns = openNetns(path)
    this.#spaces.push(ns)
    this.inside(ns, 'ip', 'link', 'set', 'lo', 'up')
    return ns
  }

  inside(ns: Netns, ...command: string[]): string {
    const run = spawnSync('nsenter', [`--net=${ns.path}`, ...command], { encoding: 'utf8' })
    if (run.status !== 0) throw new Error(`${command.join(' ')}: ${run.stderr}${run.stdout}`)
    return run.stdout
  }

  /** dig inside `ns`, one try, 5 s: the resolver must not need more. `+tcp` among the arguments uses the TCP port. */
  async dig(ns: Netns, ports: DnsPorts, ...args: string[]): Promise<DigAnswer> {
    const port = args.includes('+tcp') ? ports.tcpPort : ports.udpPort
    const argv = [`--net=${ns.path}`, 'dig', '@127.0.0.11', '-p', String(port), '+tries=1', '+time=5', ...args]
    const { stdout } = await promisify(execFile)('nsenter', argv).catch((error: { stdout: string }) => error)
    return parseDig(stdout)
  }

  /** Runs at the end, newest first. */
  onStop(stop: () => void): void {
    this.#stops.push(stop)
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops.reverse()) stop()
    await this.service.close()
    for (const ns of this.#spaces) {
      closeNetns(ns)
      removeNetns(ns.path)
    }
    rmSync(this.#folder, { recursive: true })
  }
}

export function view(parts: Partial<DnsView> = {}): DnsView {
  return { networks: [{ id: 'n1', name: 'net1', aliases: {} }], upstreams: [], hasGateway: true, ndotsSet: false, ...parts }
}

/** What a fake upstream does with one question: a reply, or nothing. */
export type Behaviour = (
  question: DnsMessage,
  transport: 'udp' | 'tcp',
) => Promise<Partial<DnsMessage> | undefined> | Partial<DnsMessage> | undefined

export const aRecord = (name: string, address: string, ttl = 60): DnsRecord => ({
  name,
  type: TYPE.A,
  class: 1,
  ttl,
  data: Uint8Array.from(address.split('.'), Number),
})
export const answerWith =
  (address: string, ttl = 60): Behaviour =>
  (query) => ({ answers: [aRecord(query.questions[0]?.name ?? '', address, ttl)] })
export const silent: Behaviour = () => undefined
export const failing =
  (rcode: number = RCODE.SERVFAIL): Behaviour =>
  () => ({ rcode })
export const slowly =
  (ms: number, then: Behaviour): Behaviour =>
  (query, transport) =>
    new Promise((resolve) => setTimeout(() => resolve(then(query, transport)), ms))

/** A DNS server on `address:port` (UDP and TCP) in the test's own namespace. */
export class FakeUpstream {
  readonly port: number
  readonly ip: Ip
  /** Questions that arrived, `name/type/transport`. */
  readonly seen: string[] = []
  behaviour: Behaviour
  readonly #stop: () => void

  private constructor(address: string, port: number, behaviour: Behaviour, stop: () => void) {
    this.ip = ip(address)
    this.port = port
    this.behaviour = behaviour
    this.#stop = stop
  }

  static async start(lab: DnsLab, address: string, behaviour: Behaviour): Promise<FakeUpstream> {
    const udp = createSocket('udp4')
    udp.bind(0, address)
    await once(udp, 'listening')
    const { port } = udp.address()
    const tcp = createServer()
    tcp.listen(port, address)
    await once(tcp, 'listening')
    const fake: FakeUpstream = new FakeUpstream(address, port, behaviour, () => {
      udp.close()
      tcp.close()
    })
    udp.on('message', async (bytes: Buffer, from: RemoteInfo) => {
      const reply = await fake.#reply(bytes, 'udp')
      if (reply !== undefined) udp.send(reply, from.port, from.address)
    })
    tcp.on('connection', (socket) => {
      socket.on('error', () => {})
      socket.on('data', async (bytes) => {
        const reply = await fake.#reply(bytes.subarray(2), 'tcp')
        if (reply !== undefined) socket.write(Buffer.concat([Buffer.of(reply.length >> 8, reply.length & 255), reply]))
      })
    })
    lab.onStop(() => fake.stop())
    return fake
  }

  stop(): void {
    try {
      this.#stop()
    } catch {
      // stopped by the test already: ERR_SOCKET_DGRAM_NOT_RUNNING
    }
  }

  get asHost() {
    return { ip: this.ip, port: this.port, from: 'host' as const }
  }

  async #reply(bytes: Uint8Array, transport: 'udp' | 'tcp'): Promise<Uint8Array | undefined> {
    const query = decodeMessage(bytes)
    const [question] = query.questions
    this.seen.push(`${question?.name}/${question?.type}/${transport}`)
    const reply = await this.behaviour(query, transport)
    if (reply === undefined) return undefined
    const flags = FLAG.QR | FLAG.RA | (query.flags & FLAG.RD) | (reply.flags ?? 0)
    return encodeMessage({ ...query, rcode: 0, answers: [], authorities: [], additionals: [], ...reply, flags })
  }
}

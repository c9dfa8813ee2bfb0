/**
 * A cluster that anything may happen to: steps chosen by a seeded generator on three engines and three members of the store, faults among
 * them. Answers that no circumstance explains are remembered.
 */
import type { Reply } from '../../testkit/engine-lab.ts'
import type { Lab } from '../../testkit/lab.ts'
import type { Random } from '../../testkit/random.ts'
import { Faults } from './cluster-faults.ts'
import { judgeState, judgeTraffic } from './cluster-judge.ts'

const CONTAINERS = 12
const NETWORKS = 4
/** An operation that takes longer hangs. */
const ANSWER_MS = 40_000
const REST_MS = 45_000

/** Statuses that have an explanation in a world where others act too. */
const EXPLAINED = new Set([200, 201, 204, 304, 403, 404, 409])

/** Docker answers this with 500. */
const NOT_CONNECTED = /is not connected to (the )?network/
/** Nobody else uses a container's name: only what could not be given back yet has it. */
const NAME_TAKEN = /endpoint with name/

interface Thing {
  readonly name: string
  host: number
  /** It was created; at least it may be. */
  made: boolean
}

export class World {
  readonly lab: Lab
  readonly #random: Random
  readonly #faults: Faults
  readonly #busy = new Set<string>()
  readonly #running = new Set<Promise<void>>()
  /** Kinds of steps and of answers, counted. */
  readonly counts = new Map<string, number>()
  readonly unexplained: string[] = []
  readonly history: string[] = []
  readonly #containers: Thing[]
  #steps = 0

  constructor(lab: Lab, random: Random) {
    this.lab = lab
    this.#random = random
    this.#faults = new Faults({
      lab,
      random,
      say: (text) => this.#say(text),
      count: (what) => this.#count(what),
      call: (...args) => this.#call(...args),
    })
    this.#containers = Array.from({ length: CONTAINERS }, (_, i) => ({ name: `c${i}x`, host: i % lab.engines.length, made: false }))
  }

  /** One step. Ordinary ones run up to four at a time, on different containers and networks. */
  async step(): Promise<void> {
    this.#steps++
    const { below } = this.#random
    const roll = below(100)
    while (this.#running.size >= 4) await Promise.race(this.#running)
    if (roll < 23) this.#spawn('start', () => this.#start())
    else if (roll < 37) this.#spawn('stop', () => this.#stop())
    else if (roll < 49) this.#spawn('move', () => this.#move())
    else if (roll < 63) this.#spawn('connect', () => this.#connect('connect'))
    else if (roll < 73) this.#spawn('disconnect', () => this.#connect('disconnect'))
    else if (roll < 80) this.#spawn('network create', () => this.#createNetwork())
    else if (roll < 84) this.#spawn('network rm', () => this.#removeNetwork())
    else if (roll < 87) await this.#faults.killEngine()
    else if (roll < 90) await this.#faults.startEngines(1)
    else if (roll < 92) await this.#faults.killMember()
    else if (roll < 95) await this.#faults.startMembers()
    else if (roll < 96) await this.#faults.cutHost()
    else if (roll < 98) await this.#evict()
    else await this.#faults.heal()
  }

  #spawn(kind: string, run: () => Promise<void>): void {
    const running: Promise<void> = run()
      .catch((error: Error) => this.unexplained.push(`${kind}: ${error.message}`))
      .then(() => void this.#running.delete(running))
    this.#running.add(running)
  }

  #count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1)
  }

  #say(text: string): void {
    this.history.push(`${this.#steps} ${new Date().toISOString().slice(11, 23)} ${text}`)
  }

  /** One call to an engine; undefined when the engine died over it or is down. */
  async #call(host: number, kind: string, method: string, path: string, body?: unknown): Promise<Reply | undefined> {
    if (this.#faults.down.has(host)) return undefined
    const disturbed = this.#faults.isDisturbed
    const begun = performance.now()
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), ANSWER_MS)
    })
    const reply = await Promise.race([
      (this.lab.engines[host] as Lab['engines'][number]).api(method, path, body).catch(() => undefined),
      late,
    ])
    clearTimeout(timer)
    const text = reply === undefined ? 'died' : reply === 'late' ? 'late' : `${reply.status} ${reply.json?.message ?? ''}`
    this.#say(`host${host + 1} ${kind} ${path} ${text} ${Math.round(performance.now() - begun)} ms`)
    this.#count(`${kind}: ${text.replaceAll(/[0-9a-f]{64}|\b[cn]\d+x\b|"[^"]*"|\d+\.\d+\.\d+\.\d+(:\d+)?/g, '*').slice(0, 150)}`)
    if (reply === 'late') this.unexplained.push(`${kind} on host${host + 1} is not answered: ${path}`)
    else if (reply === undefined) {
      if (!this.#faults.down.has(host)) this.unexplained.push(`host${host + 1} died over ${kind} ${path}`)
    } else if (!this.#isRight(kind, reply, disturbed || this.#faults.isDisturbed))
      this.unexplained.push(`${kind} on host${host + 1} ${path}: ${reply.status} ${reply.text}`)
    return reply === 'late' ? undefined : reply
  }

  #isRight(kind: string, { status, text }: Reply, disturbed: boolean): boolean {
    if (disturbed && status === 503) return true
    if (!disturbed && kind === 'start' && NAME_TAKEN.test(text)) return false
    return EXPLAINED.has(status) || NOT_CONNECTED.test(text)
  }

  /** Runs with a container that nobody else is busy with. */
  async #with(run: (thing: Thing) => Promise<void>, which: (thing: Thing) => boolean = ({ made }) => made): Promise<void> {
    const free = this.#containers.filter((thing) => !this.#busy.has(thing.name) && !this.#faults.down.has(thing.host) && which(thing))
    if (free.length === 0) return
    const thing = this.#random.pick(free)
    this.#busy.add(thing.name)
    try {
      await run(thing)
    } finally {
      this.#busy.delete(thing.name)
    }
  }

  #network(): string {
    return `n${this.#random.below(NETWORKS)}x`
  }

  async #create(thing: Thing, network: string, address?: string): Promise<Reply | undefined> {
    const { host, name } = thing
    thing.made = true
    return this.#call(host, 'create', 'POST', `/containers/create?name=${name}`, {
      Image: 'busybox',
      Cmd: ['sleep', '7200'],
      StopSignal: 'SIGKILL',
      HostConfig: { NetworkMode: network },
      ...(address === undefined ? {} : { NetworkingConfig: { EndpointsConfig: { [network]: { IPAMConfig: { IPv4Address: address } } } } }),
    })
  }

  #start(): Promise<void> {
    const [network, byAddress, last] = [this.#network(), this.#random.below(3) === 0, this.#random.below(6)]
    return this.#with(
      async (thing) => {
        if (thing.made) {
          const started = await this.#call(thing.host, 'start', 'POST', `/containers/${thing.name}/start`)
          if (started?.status !== 404 || !/No such container/.test(started.text)) return
        }
        const subnet = Number(network.slice(1, -1))
        const made = await this.#create(thing, network, byAddress && subnet < 2 ? `10.77.${subnet}.${100 + last}` : undefined)
        if (made?.status === 201) await this.#call(thing.host, 'start', 'POST', `/containers/${thing.name}/start`)
      },
      () => true,
    )
  }

  #stop(): Promise<void> {
    const remove = this.#random.below(2) === 0
    return this.#with(async (thing) => {
      const { host, name } = thing
      if (remove) thing.made = (await this.#call(host, 'rm', 'DELETE', `/containers/${name}?force=1`))?.status !== 204
      else await this.#call(host, 'stop', 'POST', `/containers/${name}/stop?t=0`)
    })
  }

  /** The container goes, and comes again on another host: with the same address when it had one of a network with a subnet of its own. */
  #move(): Promise<void> {
    const to = this.#random.below(this.lab.engines.length)
    return this.#with(async (thing) => {
      const before = await this.#call(thing.host, 'inspect', 'GET', `/containers/${thing.name}/json`)
      if (before?.status !== 200) return
      const removed = await this.#call(thing.host, 'rm', 'DELETE', `/containers/${thing.name}?force=1`)
      if (removed?.status !== 204) return
      thing.made = false
      thing.host = to
      const network = before.json.HostConfig.NetworkMode as string
      const address = before.json.NetworkSettings.Networks[network]?.IPAddress as string | undefined
      const own = /^n[01]x$/.test(network) && address ? address : undefined
      if ((await this.#create(thing, network, own))?.status === 201)
        await this.#call(thing.host, 'start', 'POST', `/containers/${thing.name}/start`)
    })
  }

  #connect(verb: 'connect' | 'disconnect'): Promise<void> {
    const network = this.#network()
    return this.#with(async ({ host, name }) => {
      await this.#call(host, verb, 'POST', `/networks/${network}/${verb}`, { Container: name })
    })
  }

  /** The first two networks have subnets of their own, the third is internal. */
  async #createNetwork(): Promise<void> {
    const name = this.#network()
    const i = Number(name.slice(1, -1))
    await this.#call(this.#random.below(this.lab.engines.length), 'network create', 'POST', '/networks/create', {
      Name: name,
      Driver: 'overlay',
      Internal: i === 2,
      ...(i < 2 ? { IPAM: { Config: [{ Subnet: `10.77.${i}.0/24` }] } } : {}),
    })
  }

  async #removeNetwork(): Promise<void> {
    await this.#call(this.#random.below(this.lab.engines.length), 'network rm', 'DELETE', `/networks/${this.#network()}`)
  }

  /** All networks, so that the run begins with something. */
  async begin(): Promise<void> {
    for (let i = 0; i < NETWORKS; i++) {
      const made = await this.lab.engines[i % this.lab.engines.length]?.api('POST', '/networks/create', {
        Name: `n${i}x`,
        Driver: 'overlay',
        Internal: i === 2,
        ...(i < 2 ? { IPAM: { Config: [{ Subnet: `10.77.${i}.0/24` }] } } : {}),
      })
      if (made?.status !== 201) throw new Error(`network n${i}x: ${made?.text}`)
    }
  }

  /** A host that cannot be reached is evicted, and a container elsewhere gets the address of one that still runs there. */
  async #evict(): Promise<void> {
    const evicted = await this.#faults.evict()
    const there = (evicted?.endpoints ?? []).filter(({ network }) => /^n[01]x$/.test(network))
    if (evicted === undefined || there.length === 0) return
    const { gone, by } = evicted
    const { network, ipv4 } = this.#random.pick(there)
    this.#spawn('take an address', () =>
      this.#with(
        async (thing) => {
          if (thing.made && (await this.#call(thing.host, 'rm', 'DELETE', `/containers/${thing.name}?force=1`))?.status !== 204) return
          thing.made = false
          thing.host = by
          if ((await this.#create(thing, network, ipv4))?.status !== 201) return
          const started = await this.#call(by, 'start', 'POST', `/containers/${thing.name}/start`)
          if (started?.status !== 204) return
          this.#say(`${thing.name} on host${by + 1} has taken ${ipv4} of ${network} from host${gone + 1}`)
          this.#count('an address of an evicted host taken')
        },
        ({ made, host }) => !made || host !== gone,
      ),
    )
  }

  /** Containers that lost their place to another one while their host was evicted, and that their engines have not taken off it yet. */
  async #unsettled(): Promise<string[]> {
    const lists = this.lab.engines.map(async ({ api, host }) => {
      const { conflicts } = (await api('GET', '/causeway/v1/cluster')).json as {
        conflicts: { name: string; why: string; outcome: string }[]
      }
      return conflicts.filter(({ outcome }) => outcome === '').map(({ name, why }) => `${host.name}: ${name} keeps its place: ${why}`)
    })
    return (await Promise.all(lists)).flat()
  }

  /** Mends everything, waits until nothing changes any more, and says what is wrong then. */
  async rest(): Promise<string[]> {
    await Promise.all(this.#running)
    await this.#faults.heal()
    await this.#faults.startMembers()
    await this.#faults.startEngines()
    await this.lab.etcd.ready()
    const until = performance.now() + REST_MS
    for (;;) {
      const judged = await judgeState(this.lab).catch((error: Error) => ({ truth: undefined, wrong: [error.message] }))
      judged.wrong.push(...(await this.#unsettled()))
      if (judged.wrong.length === 0 && judged.truth !== undefined) {
        const { truth } = judged
        const gone = this.#containers.filter(({ name }) => !truth.attached.some((a) => a.container === name)).map(({ name }) => name)
        this.#say(`at rest with ${truth.attached.length} endpoints on ${truth.networks[0]?.size} networks`)
        return [...this.unexplained, ...(await judgeTraffic(this.lab, truth, gone))]
      }
      if (performance.now() > until) return [...this.unexplained, ...judged.wrong]
      await new Promise((resolve) => setTimeout(resolve, 250))
    }
  }
}

/**
 * A cluster of many simulated hosts in one process, on a real etcd: what its stages do, and whether all kernels are as the store says.
 * `bench/cluster-sim.ts` reports with 500 hosts, `test/cluster/simulation.test.ts` asserts with few.
 */
import { hasCode } from '../src/base/errors.ts'
import type { Logger } from '../src/base/ports.ts'
import { decodeEndpoint } from '../src/cluster/decode.ts'
import { CLUSTER_KEY } from '../src/cluster/keys.ts'
import type { ClusterEndpoint } from '../src/cluster/model.ts'
import type { StoreConfig } from '../src/cluster/store/url.ts'
import type { EndpointFinal } from '../src/drivers/authority.ts'
import type { Network } from '../src/model/network.ts'
import { inTurns } from '../test/cluster/model-lab.ts'
import { SimHost } from './sim-host.ts'
import type { Watchdog } from './watchdog.ts'

/** Hosts that do something at one time. */
const WIDTH = 16
const MAX_ATTEMPTS = 60

export interface Traffic {
  readonly events: number
  readonly bytes: number
  /** Changes of the views. */
  readonly changes: number
  /** Steps applied to the kernels. */
  readonly steps: number
}

export class SimCluster {
  readonly hosts: SimHost[] = []
  readonly networks: Network[] = []
  readonly perNetwork: number
  /** Changes that were refused because the store did not answer in time, and made later. */
  refused = 0
  readonly #config: StoreConfig
  readonly #logger: Logger
  readonly #watchdog: Watchdog

  constructor(config: StoreConfig, perNetwork: number, logger: Logger, watchdog: Watchdog) {
    this.#config = config
    this.perNetwork = perNetwork
    this.#logger = logger
    this.#watchdog = watchdog
  }

  /** Starts hosts until all know all. */
  async join(count: number): Promise<void> {
    await inTurns(count, WIDTH, async (n) => {
      const host = new SimHost(n, this.#config, this.#logger)
      this.hosts[n] = host
      await this.#watchdog.step(`${host.name} joins`, host.member.service.membership.join())
    })
    await this.eventually('all hosts know all hosts', () => this.#first((h) => h.member.service.view.hosts().length !== count))
  }

  /** A network for each `perNetwork` hosts, until all know all. */
  async createNetworks(): Promise<void> {
    const count = Math.ceil(this.hosts.length / this.perNetwork)
    await inTurns(count, 4, async (n) => {
      const host = this.hosts[n * this.perNetwork] as SimHost
      this.networks[n] = await this.#patiently(`${host.name} creates net${n}`, () => host.member.create(`net${n}`))
    })
    await this.eventually('all hosts know all networks', () => this.#first((h) => h.member.known.size !== count))
  }

  networkOf(host: number): Network {
    return this.networks[Math.floor(host / this.perNetwork)] as Network
  }

  /** `each` containers on each host, on its network. */
  async startAll(each: number): Promise<void> {
    await inTurns(this.hosts.length * each, WIDTH, async (n) => {
      await this.start(n % this.hosts.length, `c${n}`)
    })
  }

  start(host: number, name: string): Promise<EndpointFinal> {
    const on = this.hosts[host] as SimHost
    return this.#patiently(`${on.name} starts ${name}`, () => on.start(this.networkOf(host), name))
  }

  stop(host: number, endpoint: EndpointFinal): Promise<void> {
    const on = this.hosts[host] as SimHost
    return this.#patiently(`${on.name} stops ${endpoint.containerName}`, () => on.stop(endpoint))
  }

  /** Containers come and go on the hosts of the first network, one after the other. Each one is three changes: granted, told, freed. */
  async replace(count: number): Promise<void> {
    for (let n = 0; n < count; n++) {
      const host = n % this.perNetwork
      await this.stop(host, await this.start(host, 'replaced'))
    }
  }

  /** Endpoints as the store has them now, read beside all watches. */
  async endpoints(): Promise<ClusterEndpoint[]> {
    const { store } = (this.hosts[0] as SimHost).member
    const prefix = CLUSTER_KEY.endpoints('').slice(0, -1)
    return (await store.list(prefix)).entries.map(({ key, value }) => {
      const [networkId = '', endpointId = ''] = key.slice(prefix.length).split('/')
      const decoded = decodeEndpoint(value, networkId, endpointId)
      if (!decoded.ok) throw new Error(`${key}: ${decoded.why}`)
      return decoded.value
    })
  }

  /** Until every kernel is what the store says. Returns how many endpoints that are. */
  async agreed(timeoutMs?: number): Promise<number> {
    let count = 0
    await this.eventually(
      'all kernels are as the store says',
      async () => {
        const endpoints = await this.endpoints()
        count = endpoints.length
        for (const host of this.hosts) {
          const [wrong] = host.differences(endpoints)
          if (wrong !== undefined) return wrong
        }
        return undefined
      },
      timeoutMs,
    )
    return count
  }

  traffic(hosts: readonly SimHost[]): Traffic {
    const sum = { events: 0, bytes: 0, changes: 0, steps: 0 }
    for (const { member, changes, kernel } of hosts) {
      const { watchEvents, watchBytes } = member.store.counters()
      sum.events += watchEvents
      sum.bytes += watchBytes
      sum.changes += changes
      for (const { rtnl } of kernel.mounted.values()) sum.steps += rtnl.steps
    }
    return sum
  }

  /** Hosts on the first network, and all others. */
  get concerned(): readonly SimHost[] {
    return this.hosts.slice(0, this.perNetwork)
  }

  get unconcerned(): readonly SimHost[] {
    return this.hosts.slice(this.perNetwork)
  }

  /** Asks until `wrong` says nothing any more; throws what it said last. */
  async eventually(what: string, wrong: () => Promise<string | undefined> | string | undefined, timeoutMs = 120_000): Promise<void> {
    const end = Date.now() + timeoutMs
    let said: string | undefined = ''
    const ask = async () => {
      for (;;) {
        said = await wrong()
        if (said === undefined) return
        if (Date.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what}: ${said}`)
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }
    await this.#watchdog.step(() => `${what} (${said})`, ask())
  }

  async crash(): Promise<void> {
    await inTurns(this.hosts.length, 32, (n) => (this.hosts[n] as SimHost).crash())
  }

  /** What is refused because the store is too slow or away is asked again, as a user would. */
  #patiently<T>(what: string, run: () => Promise<T>): Promise<T> {
    const tries = async () => {
      for (let attempt = 1; ; attempt++) {
        try {
          return await run()
        } catch (error) {
          if (attempt === MAX_ATTEMPTS || !hasCode(error, 'unavailable')) throw error
          this.refused++
          await new Promise((resolve) => setTimeout(resolve, 1000))
        }
      }
    }
    return this.#watchdog.step(what, tries())
  }

  #first(isBehind: (host: SimHost) => boolean): string | undefined {
    const behind = this.hosts.filter(isBehind)
    return behind.length === 0 ? undefined : `${behind.length} hosts do not, ${behind[0]?.name} is one`
  }
}

/** What came between two readings. */
export function difference(before: Traffic, after: Traffic): Traffic {
  return {
    events: after.events - before.events,
    bytes: after.bytes - before.bytes,
    changes: after.changes - before.changes,
    steps: after.steps - before.steps,
  }
}

/** What happens to a cluster from outside: engines and members of the store are killed, hosts are cut off and evicted. And how it is mended. */
import { execFile } from 'node:child_process'
import type { Reply } from '../../testkit/engine-lab.ts'
import type { Lab } from '../../testkit/lab.ts'
import { systemEnv } from '../../testkit/lab-net.ts'
import type { Random } from '../../testkit/random.ts'

/** After the last fault was mended the store may be refused for so long. */
const RECOVERY_MS = 12_000

export interface FaultsOptions {
  readonly lab: Lab
  readonly random: Random
  readonly say: (text: string) => void
  readonly count: (what: string) => void
  /** One call to an engine; undefined when it has none or gives no answer. */
  readonly call: (host: number, kind: string, method: string, path: string, body?: unknown) => Promise<Reply | undefined>
}

export interface Eviction {
  readonly gone: number
  /** The host that evicted it. */
  readonly by: number
  /** What it owned. */
  readonly endpoints: readonly { readonly network: string; readonly ipv4: string }[]
}

export class Faults {
  readonly #o: FaultsOptions
  /** Hosts whose engine does not run. */
  readonly down = new Set<number>()
  readonly #cut = new Set<number>()
  #mendedAt = Number.NEGATIVE_INFINITY

  constructor(options: FaultsOptions) {
    this.#o = options
  }

  /** The store may be refused now. */
  get isDisturbed(): boolean {
    const stopped = this.#o.lab.etcd.members.some((member) => member.pid() === 0)
    return this.#cut.size > 0 || this.down.size > 0 || stopped || performance.now() - this.#mendedAt < RECOVERY_MS
  }

  #host(): number {
    return this.#o.random.below(this.#o.lab.engines.length)
  }

  #happens(text: string, kind: string): void {
    this.#o.say(text)
    this.#o.count(kind)
  }

  async killEngine(): Promise<void> {
    const host = this.#host()
    if (this.down.has(host)) return
    this.down.add(host)
    this.#happens(`kill -9 of host${host + 1}'s engine`, 'kill -9 of an engine')
    await this.#o.lab.engines[host]?.kill9()
  }

  async startEngines(most = Number.POSITIVE_INFINITY): Promise<void> {
    for (const host of [...this.down].slice(0, most)) {
      this.#o.say(`start of host${host + 1}'s engine`)
      await this.#o.lab.engines[host]?.start()
      this.#mendedAt = performance.now()
      this.down.delete(host)
    }
  }

  async killMember(): Promise<void> {
    const member = this.#o.random.pick(this.#o.lab.etcd.members)
    if (member.pid() === 0) return
    this.#happens(`kill -9 of ${member.name} of the store`, 'kill -9 of a member of the store')
    await member.kill9()
  }

  async startMembers(): Promise<void> {
    for (const member of this.#o.lab.etcd.members) {
      if (member.pid() !== 0) continue
      this.#o.say(`start of ${member.name} of the store`)
      member.start()
      this.#mendedAt = performance.now()
    }
  }

  /** Nothing comes to or goes from a host any more. */
  async cutHost(host = this.#host()): Promise<void> {
    if (this.#cut.has(host)) return
    this.#cut.add(host)
    this.#happens(`host${host + 1} is cut off`, 'cut of a link')
    await this.#nft(
      host,
      `add table inet cut; add chain inet cut in { type filter hook input priority -300; }; add chain inet cut out { type filter hook output priority -300; }
       add rule inet cut in iifname eth0 drop; add rule inet cut out oifname eth0 drop`,
    )
  }

  /** Joins all hosts again. */
  async heal(): Promise<void> {
    for (const host of this.#cut) {
      this.#o.say(`host${host + 1} is joined again`)
      await this.#nft(host, 'delete table inet cut')
      this.#mendedAt = performance.now()
    }
    this.#cut.clear()
  }

  /**
   * Another host evicts one that cannot be reached: it was cut off before or is now, or its engine does not run; by mistake, now and then, one
   * that is well.
   */
  async evict(): Promise<Eviction | undefined> {
    const { lab, random, call } = this.#o
    const gone = random.pick([...this.#cut, ...this.down, this.#host()])
    const others = lab.engines.map((_, host) => host).filter((host) => host !== gone && !this.down.has(host) && !this.#cut.has(host))
    if (others.length === 0) return undefined
    const by = random.pick(others)
    const self = (await call(by, 'cluster ls', 'GET', '/causeway/v1/cluster'))?.json as
      | { hosts: { id: string; name: string }[] }
      | undefined
    const id = self?.hosts.find(({ name }) => name === lab.engines[gone]?.host.name)?.id
    if (id === undefined) return undefined
    if (!this.down.has(gone) && random.below(4) > 0) await this.cutHost(gone)
    const owned = (await call(by, 'cluster inspect', 'GET', `/causeway/v1/cluster/hosts/${id}`))?.json as Eviction | undefined
    const evicted = await call(by, 'evict', 'POST', `/causeway/v1/cluster/hosts/${id}/evict?force=1`)
    this.#mendedAt = performance.now() // one that is well has to join again
    return evicted?.status === 200 ? { gone, by, endpoints: owned?.endpoints ?? [] } : undefined
  }

  async #nft(host: number, rules: string): Promise<void> {
    const [file = '', ...args] = this.#o.lab.net.hosts[host]?.enter('nft', rules) ?? []
    await new Promise<void>((resolve, reject) => {
      execFile(file, args, { env: systemEnv, timeout: 10_000 }, (error) => (error === null ? resolve() : reject(error)))
    })
  }
}

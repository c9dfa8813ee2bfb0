/**
 * Overlay networks that were made by `docker network create -d causeway-overlay NAME` and nothing more. Their name is asked of the Docker
 * Engine, which knows it once the creation has ended. The first engine of a cluster to make NAME keeps its network: Docker gives out its
 * subnet's lower half, the cluster the upper one. On every other engine Docker would give out the same addresses once more. There its
 * network, while no container is on it, is made anew with the IPAM driver `causeway`, whose addresses are the cluster's.
 */
import { cidrOverlaps, cidrRange, type Ip, ipFromBigInt, parseCidr, splitPrefix, tryParseCidr } from '../../base/address.ts'
import { hasCode, messageOf, NetError } from '../../base/errors.ts'
import type { Clock, Logger } from '../../base/ports.ts'
import type { NetworkController } from '../../engine/types.ts'
import type { IpamPoolRequest, NetworkSpec } from '../../model/network.ts'
import { CLUSTER_NAME } from './cluster-name.ts'
import type { DockerApi, DockerNetwork } from './docker-api.ts'
import type { Records } from './ports.ts'

const PREFIX = 'docker-anew/'
const FIRST_PAUSE_MS = 10
const LONGEST_PAUSE_MS = 15_000
/** Docker stores a network right after the plugin's answer; one that it does not know by then was given up. */
const LEARN_WITHIN_MS = 20_000
/** An endpoint whose creation was refused keeps its network for a moment. */
const REMOVE_WITHIN_MS = 5_000

/** Docker's network is being made anew: stored before it is removed, so that a crash does not cost the user a network. */
interface Anew {
  readonly network: DockerNetwork
  readonly spec: NetworkSpec
}

export interface BareParts {
  readonly controller: NetworkController
  readonly records: Records
  readonly clock: Clock
  readonly log: Logger
  /** The Docker Engine's own socket; undefined: names cannot be asked for. */
  readonly docker: DockerApi | undefined
  /** What would be made of a network whose name is not known yet. */
  readonly waitingFor: (dockerId: string) => NetworkSpec | undefined
  readonly joined: (dockerId: string, networkId: string, isMade: boolean) => void
}

export class BareNetworks {
  readonly #o: BareParts
  readonly #stopping = new AbortController()
  /** Decisions under way, by Docker's id. */
  readonly #deciding = new Map<string, Promise<boolean>>()
  readonly #renewing = new Set<string>()

  constructor(parts: BareParts) {
    this.#o = parts
  }

  begin(waiting: readonly string[]): void {
    for (const [key] of this.#o.records.list<Anew>(PREFIX)) this.#renewSoon(key.slice(PREFIX.length))
    for (const dockerId of waiting) this.learnSoon(dockerId)
  }

  close(): void {
    this.#stopping.abort(new Error('closed'))
  }

  canAsk(): Promise<boolean> {
    return this.#o.docker?.isThere() ?? Promise.resolve(false)
  }

  /** Finds out behind the caller's back, so that it is known when the first container comes. */
  learnSoon(dockerId: string): void {
    const { clock, log, waitingFor } = this.#o
    const until = clock.now() + LEARN_WITHIN_MS
    void this.#repeat(async () => {
      if (waitingFor(dockerId) === undefined || clock.now() > until) return true
      try {
        return await this.decide(dockerId)
      } catch (error) {
        if (hasCode(error, 'denied')) return true // being made anew
        log.debug('cannot tell yet which overlay network a network of Docker is', { network: dockerId, error: messageOf(error) })
        return false
      }
    })
  }

  /** Returns false when the engine does not say its name. Throws `denied` while Docker's network is made anew. */
  decide(dockerId: string): Promise<boolean> {
    const there = this.#deciding.get(dockerId)
    if (there !== undefined) return there
    const mine = this.#decide(dockerId).finally(() => this.#deciding.delete(dockerId))
    this.#deciding.set(dockerId, mine)
    return mine
  }

  async #decide(dockerId: string): Promise<boolean> {
    const { controller, records, log, waitingFor, joined } = this.#o
    const spec = waitingFor(dockerId)
    if (spec === undefined) return true
    const begun = records.get<Anew>(PREFIX + dockerId)
    if (begun !== undefined) throw comesAnew(begun.network.Name)
    const seen = await this.#o.docker?.network(dockerId).catch(() => undefined)
    if (seen === undefined) return false
    const ranges = (seen.IPAM?.Config ?? []).flatMap(({ IPRange }) => tryParseCidr(IPRange ?? '') ?? [])
    const there = this.#find(seen.Name)
    if (there === undefined)
      try {
        const config = (spec.ipam?.config ?? []).map((pool) => withRoomFor(pool, ranges))
        const { network } = await controller.createNetwork({ ...spec, name: seen.Name, ipam: { ...spec.ipam, config } })
        joined(dockerId, network.id, true)
        return true
      } catch (error) {
        // another host was quicker, or the cluster uses this subnet for another network
        if (!hasCode(error, 'denied') && !hasCode(error, 'conflict')) throw error
        log.info('the cluster has another idea of a network of Docker', { network: seen.Name, error: messageOf(error) })
      }
    else if (ranges.length > 0 && (spec.ipam?.config ?? []).every(({ subnet }) => there.pools.some((pool) => pool.subnet === subnet))) {
      // its user has divided the addresses
      joined(dockerId, there.id, false)
      return true
    }
    records.put(PREFIX + dockerId, { network: seen, spec } satisfies Anew)
    this.#renewSoon(dockerId)
    throw comesAnew(seen.Name)
  }

  #renewSoon(dockerId: string): void {
    const { clock, log, records } = this.#o
    if (this.#renewing.has(dockerId)) return
    this.#renewing.add(dockerId)
    const until = clock.now() + REMOVE_WITHIN_MS
    void this.#repeat(async () => {
      const anew = records.get<Anew>(PREFIX + dockerId)
      if (anew === undefined) return true
      try {
        await this.#renew(dockerId, anew)
        log.info('a network of Docker was made anew with addresses of the cluster', { network: anew.network.Name })
      } catch (error) {
        const isInUse = hasCode(error, 'denied')
        if (!isInUse || clock.now() < until) {
          log.debug('a network of Docker is not made anew yet', { network: anew.network.Name, error: messageOf(error) })
          return false
        }
        log.warn('a network of Docker keeps the addresses that Docker chooses: containers are on it', { network: anew.network.Name })
      }
      records.remove(PREFIX + dockerId)
      return true
    }).finally(() => this.#renewing.delete(dockerId))
  }

  async #renew(dockerId: string, { network, spec }: Anew): Promise<void> {
    const { controller, docker } = this.#o
    if (docker === undefined) throw new NetError('unavailable', 'there is no Docker Engine to ask')
    const { Name, Driver, Internal, Attachable, EnableIPv6, Options, Labels } = network
    // before anything is taken away
    if (this.#find(Name) === undefined) await controller.createNetwork({ ...spec, name: Name, ipam: {} })
    await docker.removeNetwork(dockerId)
    await docker.createNetwork({
      ...{ Name, Driver, Internal, Attachable, EnableIPv6, Options, Labels },
      CheckDuplicate: true,
      IPAM: { Driver: 'causeway', Options: { [CLUSTER_NAME]: Name } },
    })
  }

  #find(name: string) {
    return this.#o.controller.listNetworks().find((network) => network.driver === 'overlay' && network.name === name)
  }

  /** Until it says true, with growing pauses. */
  async #repeat(attempt: () => Promise<boolean>): Promise<void> {
    const { signal } = this.#stopping
    for (let pause = FIRST_PAUSE_MS; !signal.aborted; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      await this.#o.clock.sleep(pause, signal).catch(() => {})
      if (signal.aborted || (await attempt())) return
    }
  }
}

function comesAnew(name: string): NetError {
  return new NetError(
    'denied',
    `network ${name} is on other hosts too and is being made anew with addresses of the cluster: start the container again`,
  )
}

/** The cluster chooses from the half of the subnet in which Docker does not: Docker takes the lowest free address, or one of its range. */
export function withRoomFor(pool: IpamPoolRequest, ranges: readonly string[]): IpamPoolRequest {
  const subnet = parseCidr(pool.subnet ?? '')
  const { family, first, last } = cidrRange(subnet)
  const { length } = splitPrefix(subnet)
  if (last - first < 7n) return pool
  const middle = first + (last - first + 1n) / 2n
  const half = (start: bigint) => parseCidr(`${ipFromBigInt(family, start) as Ip}/${length + 1}`)
  const isTaken = ranges.some((range) => cidrOverlaps(half(middle), parseCidr(range)))
  return { ...pool, ipRange: isTaken ? half(first) : half(middle) }
}

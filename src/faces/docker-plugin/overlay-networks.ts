/**
 * Docker's networks on the overlay: which of the cluster's networks each of them is. Docker tells a plugin no names. So the name comes
 * from an option; else from the Docker Engine itself, as soon as it knows the network (bare-networks.ts); else the same subnet is the
 * same network, wherever it was made, because no two networks of a cluster overlap.
 */
import { NetError } from '../../base/errors.ts'
import type { CreateNetworkRequest } from '../../drivers/remote/protocol.ts'
import type { NetworkController } from '../../engine/types.ts'
import { LENT_KEY } from '../../model/endpoint.ts'
import type { Network, NetworkSpec } from '../../model/network.ts'
import { BareNetworks, type BareParts } from './bare-networks.ts'
import { CLUSTER_NAME } from './cluster-name.ts'
import { ADDRESS_SPACE } from './ipam.ts'
import type { Records } from './ports.ts'

const PREFIX = 'docker-network/'

interface Joined {
  /** '' while it is not known which one it is. */
  readonly networkId: string
  /** It did not exist before: it goes when Docker's network goes. */
  readonly isMade: boolean
  /** What would be made, while it is not known. */
  readonly waiting?: NetworkSpec
}

export interface OverlayNetworkParts extends Omit<BareParts, 'waitingFor' | 'joined'> {
  readonly controller: NetworkController
  readonly records: Records
  readonly isInCluster: () => boolean
}

export class OverlayNetworks {
  readonly #controller: NetworkController
  readonly #records: Records
  readonly #isInCluster: () => boolean
  readonly #bare: BareNetworks

  constructor(parts: OverlayNetworkParts) {
    this.#controller = parts.controller
    this.#records = parts.records
    this.#isInCluster = parts.isInCluster
    this.#bare = new BareNetworks({
      ...parts,
      waitingFor: (dockerId) => this.#joined(dockerId)?.waiting,
      joined: (dockerId, networkId, isMade) => this.#put(dockerId, { networkId, isMade }),
    })
  }

  /** Takes up what an earlier run has not finished. */
  begin(): void {
    this.#bare.begin(
      this.#records
        .list<Joined>(PREFIX)
        .filter(([, { waiting }]) => waiting !== undefined)
        .map(([key]) => key.slice(PREFIX.length)),
    )
  }

  close(): void {
    this.#bare.close()
  }

  isKnown(dockerId: string): boolean {
    return this.#joined(dockerId)?.waiting !== undefined || this.find(dockerId) !== undefined
  }

  /** The cluster's network behind one of Docker's. */
  find(dockerId: string): Network | undefined {
    const joined = this.#joined(dockerId)
    return joined && this.#controller.listNetworks().find(({ id }) => id === joined.networkId)
  }

  /** The same, found out now when it was not known. Throws `denied` when containers have to wait for another network of Docker's. */
  async settled(dockerId: string): Promise<Network | undefined> {
    const waiting = this.#joined(dockerId)?.waiting
    if (waiting !== undefined && !(await this.#bare.decide(dockerId))) await this.#joinBySubnet(dockerId, waiting, undefined)
    return this.find(dockerId)
  }

  /** Joins the network that Docker's is, or makes it. `spec` is what would be made. */
  async join(dockerId: string, request: Partial<CreateNetworkRequest>, spec: NetworkSpec): Promise<void> {
    const { [CLUSTER_NAME]: asked, ...options } = spec.options ?? {}
    const isOwnIpam = (request.IPv4Data ?? []).some(({ AddressSpace }) => AddressSpace === ADDRESS_SPACE.local)
    if (asked || isOwnIpam || !this.#isInCluster() || !(await this.#bare.canAsk()))
      return this.#joinBySubnet(dockerId, { ...spec, options }, asked)
    this.#put(dockerId, { networkId: '', isMade: false, waiting: spec })
    this.#bare.learnSoon(dockerId)
  }

  async #joinBySubnet(dockerId: string, spec: NetworkSpec, name: string | undefined): Promise<void> {
    const subnets = (spec.ipam?.config ?? []).map(({ subnet = '' }) => subnet)
    const overlays = this.#controller.listNetworks().filter(({ driver }) => driver === 'overlay')
    const named = name ? overlays.find((network) => network.name === name) : undefined
    const there = named ?? overlays.find(({ pools }) => pools.some(({ subnet }) => subnets.includes(subnet)))
    if (there === undefined) {
      const { network } = await this.#controller.createNetwork({ ...spec, ...(name ? { name } : {}) })
      this.#put(dockerId, { networkId: network.id, isMade: true })
      return
    }
    const own = there.pools.map(({ subnet }) => subnet as string)
    const other = subnets.find((subnet) => !own.includes(subnet))
    if (other !== undefined)
      throw new NetError('denied', `overlay network ${there.name} has subnet ${own.join(' and ')}, not ${other}: give --subnet ${own[0]}`)
    this.#put(dockerId, { networkId: there.id, isMade: false })
  }

  /** Docker's network has gone. What was made for it goes as well, unless others are on it. */
  async leave(dockerId: string): Promise<void> {
    const joined = this.#joined(dockerId)
    const network = this.find(dockerId)
    if (network !== undefined) {
      for (const { containerId } of this.#controller.endpointsOf(network.id))
        if (this.#controller.sandboxOf(containerId)?.key === LENT_KEY) await this.#controller.closeSandbox(containerId)
      if (joined?.isMade)
        await this.#controller.removeNetwork(network.id).catch((error: unknown) => {
          if (!(error instanceof NetError && error.code === 'denied')) throw error // others use it: it is theirs now
        })
    }
    this.#records.remove(PREFIX + dockerId)
  }

  #joined(dockerId: string): Joined | undefined {
    return this.#records.get<Joined>(PREFIX + dockerId)
  }

  #put(dockerId: string, joined: Joined): void {
    this.#records.put(PREFIX + dockerId, joined)
  }
}

/**
 * Docker's networks on the overlay: which of the cluster's networks each of them is. The same subnet is the same network, wherever it was
 * made, because no two networks of a cluster overlap; so two Docker Engines and a Causeway host meet by naming one subnet, or one name.
 */
import { NetError } from '../../base/errors.ts'
import type { CreateNetworkRequest } from '../../drivers/remote/protocol.ts'
import type { NetworkController } from '../../engine/types.ts'
import { LENT_KEY } from '../../model/endpoint.ts'
import type { Network, NetworkSpec } from '../../model/network.ts'
import type { Records } from './ports.ts'

const PREFIX = 'docker-network/'
/** Option (`-o`, `--ipam-opt`) with the network's name in the cluster. */
export const CLUSTER_NAME = 'causeway.network'

interface Joined {
  readonly networkId: string
  /** It did not exist before: it goes when Docker's network goes. */
  readonly isMade: boolean
}

export class OverlayNetworks {
  readonly #controller: NetworkController
  readonly #records: Records

  constructor(controller: NetworkController, records: Records) {
    this.#controller = controller
    this.#records = records
  }

  /** The cluster's network behind one of Docker's. */
  find(dockerId: string): Network | undefined {
    const joined = this.#records.get<Joined>(PREFIX + dockerId)
    return joined && this.#controller.listNetworks().find(({ id }) => id === joined.networkId)
  }

  byName(name: string): Network | undefined {
    return this.#controller.listNetworks().find((network) => network.driver === 'overlay' && network.name === name)
  }

  /** Joins the network that has Docker's subnet, or makes it. `spec` is what would be made. */
  async join(dockerId: string, request: Partial<CreateNetworkRequest>, spec: NetworkSpec): Promise<void> {
    const subnets = [...(request.IPv4Data ?? []), ...(request.IPv6Data ?? [])].map(({ Pool }) => Pool)
    const { [CLUSTER_NAME]: asked, ...options } = spec.options ?? {}
    const named = asked ? this.byName(asked) : undefined
    const there =
      named ??
      this.#controller
        .listNetworks()
        .find(({ driver, pools }) => driver === 'overlay' && pools.some(({ subnet }) => subnets.includes(subnet)))
    if (there !== undefined) {
      const own = there.pools.map(({ subnet }) => subnet as string)
      const other = subnets.find((subnet) => !own.includes(subnet))
      if (other !== undefined)
        throw new NetError('denied', `overlay network ${there.name} has subnet ${own.join(' and ')}, not ${other}: give --subnet ${own[0]}`)
      this.#records.put(PREFIX + dockerId, { networkId: there.id, isMade: false } satisfies Joined)
      return
    }
    const { network } = await this.#controller.createNetwork({ ...spec, ...(asked ? { name: asked } : {}), options })
    this.#records.put(PREFIX + dockerId, { networkId: network.id, isMade: true } satisfies Joined)
  }

  /** Docker's network has gone. What was made for it goes as well, unless others are on it. */
  async leave(dockerId: string): Promise<void> {
    const joined = this.#records.get<Joined>(PREFIX + dockerId)
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
}

/** Links of the host whose state follows from a network's live members (routes to containers over macvlan): kept up to date as they come and go. */
import { messageOf } from '../base/errors.ts'
import type { Logger } from '../base/ports.ts'
import type { HostFacts } from '../drivers/types.ts'
import type { Rtnl } from '../kernel/types.ts'
import type { Network } from '../model/network.ts'
import type { HostKernel } from './host-kernel.ts'
import type { Networks } from './networks.ts'
import type { SandboxRegistry } from './sandbox-registry.ts'

export class MemberLinks {
  readonly #networks: Networks
  readonly #registry: SandboxRegistry
  readonly #host: HostKernel
  readonly #log: Logger
  /** What drivers may look at. */
  readonly facts: HostFacts

  constructor(options: { networks: Networks; registry: SandboxRegistry; host: HostKernel; rtnl: Rtnl; log: Logger }) {
    const { networks, registry, host, rtnl, log } = options
    this.#networks = networks
    this.#registry = registry
    this.#host = host
    this.#log = log
    this.facts = {
      link: (name) => rtnl.link(name),
      addressesOf: (name) => (rtnl.link(name) === undefined ? [] : rtnl.addresses({ dev: name })),
    }
  }

  /** Throws the driver's texts when a new network cannot be made on this host. */
  check(network: Network): void {
    if (network.configOnly) return
    const others = this.#networks.list().filter((n) => n.driver === network.driver && n.id !== network.id && !n.configOnly)
    this.#networks.driverOf(network).checkHost?.(network, this.facts, others)
  }

  /** Brings the links of a network in line with its members. What fails is logged: the containers themselves are attached. */
  refresh(network: Network): void {
    const { membersWanted } = this.#networks.driverOf(network)
    if (membersWanted === undefined) return
    try {
      for (const link of membersWanted(network, this.#registry.endpointsOf(network.id), this.facts))
        if (this.#host.isWanted(link.spec.name)) this.#host.ensure(link)
    } catch (error) {
      this.#log.error('cannot bring the host in line with the members of a network', { network: network.name, error: messageOf(error) })
    }
  }

  refreshAll(): void {
    for (const network of this.#networks.list()) if (!network.configOnly) this.refresh(network)
  }
}

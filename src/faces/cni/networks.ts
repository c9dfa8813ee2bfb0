/**
 * CNI configurations as networks of the engine: made at the first ADD under the configuration's name, taken away a while after their
 * last endpoint has gone. Networks that somebody else made are joined when the configuration says so, and never changed.
 */
import { familyOf } from '../../base/address.ts'
import { hasCode, messageOf } from '../../base/errors.ts'
import type { Clock, Logger } from '../../base/ports.ts'
import { OPTION } from '../../drivers/options.ts'
import type { NetworkController } from '../../engine/types.ts'
import type { IpamPoolRequest, Network, NetworkSpec } from '../../model/network.ts'
import type { CniConf } from './conf.ts'
import { CNI, CniError } from './errors.ts'
import { poolRange } from './ranges.ts'

/** Label of networks that were made here; its value is what they were made from. */
const CONFIG_LABEL = 'causeway.cni.config'

/** The network that a configuration describes. */
export function networkSpec(conf: CniConf): NetworkSpec {
  const option = (name: string, value: string | undefined) => (value === undefined ? {} : { [name]: value })
  const options = {
    ...option(OPTION.bridgeName, conf.bridge),
    ...option(OPTION.mtu, conf.mtu === undefined ? undefined : String(conf.mtu)),
    ...option(OPTION.enableMasquerade, conf.ipMasq ? undefined : 'false'),
    ...option(OPTION.inhibitIpv4, conf.isGateway ? undefined : 'true'),
    ...option(OPTION.enableIcc, conf.icc ? undefined : 'false'),
    ...option(OPTION.sourceGuard, conf.sourceGuard ? undefined : 'false'),
  }
  const families = new Set(conf.ranges.map((range) => familyOf(range.subnet)))
  const spec = {
    name: conf.name,
    driver: 'bridge',
    enableIpv4: families.size === 0 || families.has(4),
    enableIpv6: families.has(6),
    internal: conf.internal,
    ipam: { config: [...families].map((family) => poolRequest(conf, family)) },
    options,
  }
  return { ...spec, labels: { [CONFIG_LABEL]: JSON.stringify(spec) } }
}

function poolRequest(conf: CniConf, family: 4 | 6): IpamPoolRequest {
  const own = conf.ranges.filter((range) => familyOf(range.subnet) === family)
  const subnet = own[0]?.subnet as string
  const range = poolRange(conf.ranges, family)
  const gateway = own.find((r) => r.gateway !== undefined)?.gateway
  return { subnet, ...(range === undefined || range === subnet ? {} : { ipRange: range }), ...(gateway ? { gateway } : {}) }
}

export interface CniNetworksOptions {
  readonly controller: NetworkController
  readonly clock: Clock
  readonly log: Logger
  /** How long a network without endpoints stays, in case the next container comes. */
  readonly lingerMs: number
}

export class CniNetworks {
  readonly #o: CniNetworksOptions
  /** Networks being made, by name: a second ADD meanwhile waits for the first. */
  readonly #making = new Map<string, Promise<Network>>()
  /** Operations that need a network now, by name. */
  readonly #users = new Map<string, number>()
  /** What configurations describe, for as long as they are remembered. */
  readonly #specs = new WeakMap<CniConf, NetworkSpec>()
  readonly #timers = new Map<string, () => void>()

  constructor(options: CniNetworksOptions) {
    this.#o = options
    for (const network of options.controller.listNetworks()) if (isOurs(network)) this.#removeLater(network.name)
  }

  /** The network of a configuration, for as long as `fn` runs. Makes it when it is missing. */
  async use<T>(conf: CniConf, fn: (network: Network) => Promise<T>): Promise<T> {
    const name = conf.network ?? conf.name
    this.#users.set(name, (this.#users.get(name) ?? 0) + 1)
    this.#timers.get(name)?.()
    try {
      return await fn(await this.#ensure(conf))
    } finally {
      const left = (this.#users.get(name) ?? 1) - 1
      if (left > 0) this.#users.set(name, left)
      else {
        this.#users.delete(name)
        this.#removeLater(name)
      }
    }
  }

  /** The network that a configuration's attachments are on, when it exists. */
  find(conf: Pick<CniConf, 'name' | 'network'>): Network | undefined {
    const ref = conf.network ?? conf.name
    return this.#o.controller.findNetwork(ref)
  }

  async #ensure(conf: CniConf): Promise<Network> {
    const { controller } = this.#o
    if (conf.network !== undefined) {
      const network = controller.findNetwork(conf.network)
      if (network !== undefined) return network
      throw new CniError(
        CNI.badConfig,
        `network ${conf.network} not found`,
        '"network" names a network that exists; leave it out to have one made',
      )
    }
    const making = this.#making.get(conf.name)
    if (making !== undefined) await making.catch(() => {})
    const found = controller.listNetworks().find((network) => network.name === conf.name)
    const spec = this.#specOf(conf)
    if (found === undefined) return this.#make(spec)
    if (!isOurs(found))
      throw new CniError(
        CNI.badConfig,
        `there is a network "${conf.name}" that was not made by CNI`,
        `give this configuration another name, or say "network": "${conf.name}" to join that one`,
      )
    if (found.labels[CONFIG_LABEL] === spec.labels?.[CONFIG_LABEL]) return found
    if (controller.endpointsOf(found.id).length > 0)
      throw new CniError(
        CNI.badConfig,
        `the configuration of network "${conf.name}" has changed while containers are on it`,
        'remove its containers first, or give the new configuration another name',
      )
    await controller.removeNetwork(found.id)
    return this.#make(spec)
  }

  #specOf(conf: CniConf): NetworkSpec {
    const known = this.#specs.get(conf)
    if (known !== undefined) return known
    const spec = networkSpec(conf)
    this.#specs.set(conf, spec)
    return spec
  }

  async #make(spec: NetworkSpec): Promise<Network> {
    const making = this.#o.controller.createNetwork(spec).then(({ network }) => network)
    this.#making.set(spec.name, making)
    try {
      return await making
    } finally {
      this.#making.delete(spec.name)
    }
  }

  /** Takes a network away when nobody has come after a while. */
  #removeLater(name: string): void {
    this.#timers.get(name)?.()
    const network = this.#o.controller.findNetwork(name)
    if (network === undefined || !isOurs(network) || !this.#isIdle(network)) return
    const cancel = this.#o.clock.after(this.#o.lingerMs, () => {
      this.#timers.delete(name)
      void this.removeIdle(network)
    })
    this.#timers.set(name, () => {
      this.#timers.delete(name)
      cancel()
    })
  }

  /** An endpoint of this network has gone. */
  released(network: Network): void {
    this.#removeLater(network.name)
  }

  #isIdle(network: Network): boolean {
    return !this.#users.has(network.name) && this.#o.controller.endpointsOf(network.id).length === 0
  }

  /** Takes a network away now if it was made here and nothing is on it. */
  async removeIdle(network: Network): Promise<void> {
    const current = this.#o.controller.findNetwork(network.id)
    if (current === undefined || !isOurs(current) || !this.#isIdle(current)) return
    try {
      await this.#o.controller.removeNetwork(current.id)
    } catch (error) {
      if (!hasCode(error, 'not-found'))
        this.#o.log.warn('cannot remove the network of a CNI configuration', { network: current.name, error: messageOf(error) })
    }
  }

  /** Takes all of them away that nothing is on: for a process that does not live long enough to wait. */
  async removeAllIdle(): Promise<void> {
    for (const network of this.#o.controller.listNetworks()) await this.removeIdle(network)
  }

  close(): void {
    for (const cancel of [...this.#timers.values()]) cancel()
  }
}

function isOurs(network: Network): boolean {
  return network.labels[CONFIG_LABEL] !== undefined
}

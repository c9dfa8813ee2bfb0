/** This host's picture of the cluster: the three tables as one {@link ClusterView}. */
import type { Ip } from '../base/address.ts'
import type { Clock, Logger } from '../base/ports.ts'
import type { Store } from '../store/types.ts'
import { BadValues } from './bad-values.ts'
import { EndpointTable } from './endpoint-table.ts'
import { HostTable } from './host-table.ts'
import type { ClusterChange, ClusterEndpoint, ClusterHost, ClusterNetwork, ClusterView } from './model.ts'
import { NetworkTable } from './network-table.ts'
import type { Question } from './published.ts'
import type { ClusterStore } from './store/types.ts'

export interface MirrorOptions {
  readonly store: ClusterStore
  readonly cache: Store
  readonly clock: Clock
  readonly log: Logger
  readonly hostId: string
  /** What this host holds, whatever the store says. */
  readonly isEndpointHeld: (endpointId: string) => boolean
  readonly isNetworkHeld: (networkId: string) => boolean
  /** Something that this host holds is not in the store as it should be. */
  readonly onDisagreement: () => void
  /** The store has lost these networks. */
  readonly onLostNetworks: (networkIds: readonly string[]) => void
  readonly onVerification: (question: Question) => void
}

export class Mirror implements ClusterView {
  readonly hostId: string
  readonly bad: BadValues
  readonly networkTable: NetworkTable
  readonly hostTable: HostTable
  readonly endpointTable: EndpointTable
  readonly #log: Logger
  readonly #listeners = new Set<(change: ClusterChange) => void>()
  readonly #addresses = new Map<string, Ip>()

  constructor(options: MirrorOptions) {
    const { store, cache, log, clock, hostId } = options
    this.hostId = hostId
    this.#log = log
    this.bad = new BadValues(log)
    this.networkTable = new NetworkTable({
      store,
      cache,
      bad: this.bad,
      log,
      isHeld: options.isNetworkHeld,
      onChange: (networkId) => this.#emit({ kind: 'network', networkId }),
      onLost: options.onLostNetworks,
      onVerification: options.onVerification,
    })
    this.hostTable = new HostTable({ store, cache, bad: this.bad, onChange: (id) => this.#hostChanged(id) })
    this.endpointTable = new EndpointTable({
      store,
      cache,
      bad: this.bad,
      clock,
      hostId,
      network: (id) => this.network(id),
      isHeld: options.isEndpointHeld,
      isUp: (id) => this.hostTable.get(id)?.state === 'up',
      onChange: (networkId, endpointId) =>
        this.#emit(endpointId === undefined ? { kind: 'endpoints', networkId } : { kind: 'endpoint', networkId, endpointId }),
      onLost: options.onDisagreement,
    })
  }

  start(): void {
    this.hostTable.start()
    this.networkTable.start()
  }

  close(): void {
    this.networkTable.close()
    this.hostTable.close()
    this.endpointTable.close()
    this.#listeners.clear()
  }

  networks(): readonly ClusterNetwork[] {
    return this.networkTable.list().map(({ value }) => value)
  }

  network(id: string): ClusterNetwork | undefined {
    return this.networkTable.get(id)?.value
  }

  endpointsOf(networkId: string): readonly ClusterEndpoint[] {
    return this.endpointTable.list(networkId).map((endpoint) => this.located(endpoint))
  }

  endpoint(networkId: string, endpointId: string): ClusterEndpoint | undefined {
    const endpoint = this.endpointTable.get(networkId, endpointId)
    return endpoint && this.located(endpoint)
  }

  used(): readonly string[] {
    return this.endpointTable.used()
  }

  hosts(): readonly ClusterHost[] {
    return this.hostTable.list()
  }

  host(id: string): ClusterHost | undefined {
    return this.hostTable.get(id)
  }

  onChange(listener: (change: ClusterChange) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** An endpoint where its host is now; where it was when nothing is known of the host. */
  located(endpoint: ClusterEndpoint): ClusterEndpoint {
    const hostAddress = this.hostTable.get(endpoint.hostId)?.address ?? endpoint.hostAddress
    return hostAddress === endpoint.hostAddress ? endpoint : { ...endpoint, hostAddress }
  }

  #hostChanged(hostId: string): void {
    const address = this.hostTable.get(hostId)?.address
    const before = this.#addresses.get(hostId)
    if (address === undefined) this.#addresses.delete(hostId)
    else this.#addresses.set(hostId, address)
    this.#emit({ kind: 'host', hostId })
    if (address === before) return
    for (const networkId of this.used())
      if (this.endpointTable.list(networkId).some((endpoint) => endpoint.hostId === hostId)) this.#emit({ kind: 'endpoints', networkId })
  }

  #emit(change: ClusterChange): void {
    for (const listener of this.#listeners) {
      try {
        listener(change)
      } catch (error) {
        this.#log.error('a listener of the cluster view failed', { error: String(error) })
      }
    }
  }
}

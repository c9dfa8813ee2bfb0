/** What this host tells its own parts of endpoints elsewhere: names for its resolvers, and events. */
import type { Ip } from '../base/address.ts'
import type { Network } from '../model/network.ts'
import type { ClusterChange, ClusterEndpoint, ClusterView } from './model.ts'

/** The resolver's side; `DnsService` has it. */
export interface NamePort {
  setEndpoint(
    networkId: string,
    record: { readonly endpointId: string; readonly names: readonly string[]; readonly ipv4?: Ip; readonly ipv6?: Ip },
  ): void
  removeEndpoint(networkId: string, endpointId: string): void
}

/** A container has joined or left a network on another host. */
export interface RemoteEvent {
  readonly action: 'connect' | 'disconnect'
  readonly network: Network
  readonly containerId: string
  readonly host: string
}

export class RemoteNames {
  readonly #view: ClusterView
  readonly #names: NamePort
  readonly #onEvent: (event: RemoteEvent) => void
  /** Active endpoints of other hosts as they were told, by network. */
  readonly #told = new Map<string, Map<string, ClusterEndpoint>>()

  constructor(view: ClusterView, names: NamePort, onEvent: (event: RemoteEvent) => void) {
    this.#view = view
    this.#names = names
    this.#onEvent = onEvent
  }

  follow(change: ClusterChange): void {
    if (change.kind === 'endpoint') this.#update(change.networkId, change.endpointId, true)
    if (change.kind === 'endpoints') this.#updateAll(change.networkId)
  }

  #updateAll(networkId: string): void {
    const isFirst = !this.#told.has(networkId)
    const ids = new Set([...this.#view.endpointsOf(networkId).map(({ id }) => id), ...(this.#told.get(networkId)?.keys() ?? [])])
    const isUsed = this.#view.used().includes(networkId)
    for (const id of ids) this.#update(networkId, id, !isFirst && isUsed)
    if (!isUsed) this.#told.delete(networkId)
    else if (isFirst && !this.#told.has(networkId)) this.#told.set(networkId, new Map())
  }

  #update(networkId: string, endpointId: string, loud: boolean): void {
    const told = this.#told.get(networkId) ?? new Map<string, ClusterEndpoint>()
    this.#told.set(networkId, told)
    const now = this.#view.endpoint(networkId, endpointId)
    const before = told.get(endpointId)
    if (now === undefined || !now.active || now.hostId === this.#view.hostId) {
      if (before === undefined) return
      told.delete(endpointId)
      // an endpoint that has come to this host is the engine's to tell
      if (now?.hostId !== this.#view.hostId) this.#names.removeEndpoint(networkId, endpointId)
      if (loud) this.#emit('disconnect', before)
      return
    }
    told.set(endpointId, now)
    if (before === undefined || !sameNames(before, now)) {
      const { dnsNames: names, ipv4, ipv6 } = now
      this.#names.setEndpoint(networkId, { endpointId, names, ...(ipv4 === '' ? {} : { ipv4 }), ...(ipv6 === '' ? {} : { ipv6 }) })
    }
    if (before === undefined && loud) this.#emit('connect', now)
  }

  #emit(action: RemoteEvent['action'], endpoint: ClusterEndpoint): void {
    const network = this.#view.network(endpoint.networkId)?.network
    if (network === undefined) return
    const host = this.#view.host(endpoint.hostId)?.name ?? endpoint.hostId
    this.#onEvent({ action, network, containerId: endpoint.containerId, host })
  }
}

function sameNames(a: ClusterEndpoint, b: ClusterEndpoint): boolean {
  return (
    a.ipv4 === b.ipv4 &&
    a.ipv6 === b.ipv6 &&
    a.dnsNames.length === b.dnsNames.length &&
    a.dnsNames.every((name, i) => name === b.dnsNames[i])
  )
}

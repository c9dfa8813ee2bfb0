/** A host as `causeway cluster inspect` shows it: what it owns, and what it has published of its kernel. */
import { decodeEndpoint } from './decode.ts'
import { findHost } from './evict.ts'
import { CLUSTER_KEY } from './keys.ts'
import type { Mirror } from './mirror.ts'
import type { ClusterEndpoint, ClusterHost } from './model.ts'
import type { HostAddress, SharedPools } from './pools/shared-pools.ts'
import { decodePublication, type KernelState } from './published.ts'
import type { ClusterStore } from './store/types.ts'

/** Addresses and endpoints as the store has them. */
export interface HostDetail extends ClusterHost {
  readonly isSelf: boolean
  readonly endpoints: readonly (Pick<ClusterEndpoint, 'id' | 'name' | 'ipv4' | 'ipv6' | 'mac' | 'active'> & { readonly network: string })[]
  /** From pools of the IPAM driver `causeway`. */
  readonly addresses: readonly HostAddress[]
  /** What its kernel holds, as the host last told; empty when it has told nothing or is down. */
  readonly kernel: readonly (KernelState & { readonly network: string; readonly at: number })[]
}

export interface HostDetailOptions {
  readonly store: ClusterStore
  readonly mirror: Mirror
  readonly pools: SharedPools
}

/** By id, name or id prefix. Throws `not-found`, `unavailable`. */
export async function inspectHost({ store, mirror, pools }: HostDetailOptions, ref: string): Promise<HostDetail> {
  const host = findHost(mirror.hosts(), ref)
  const prefix = CLUSTER_KEY.owned(host.id)
  const keys = (await store.list(prefix)).entries.map(({ key }) => key.slice(prefix.length).split('/'))
  const endpoints: HostDetail['endpoints'][number][] = []
  for (const networkId of new Set(keys.map(([id = '']) => id)))
    for (const { hostId, id, name, ipv4, ipv6, mac, active } of await fetchEndpoints(store, mirror, networkId))
      if (hostId === host.id) endpoints.push({ network: mirror.network(networkId)?.name ?? networkId, id, name, ipv4, ipv6, mac, active })
  const addresses = await pools.addressesOf(host.id)
  return { ...host, isSelf: host.id === mirror.hostId, endpoints, addresses, kernel: await kernelOf(store, mirror, host.id) }
}

async function kernelOf(store: ClusterStore, mirror: Mirror, hostId: string): Promise<HostDetail['kernel']> {
  const entry = await store.get(CLUSTER_KEY.kernel(hostId))
  const decoded = entry && decodePublication(entry.value)
  if (!decoded?.ok) return []
  const { at, networks } = decoded.value
  return [...networks].map(([id, state]) => ({ network: mirror.network(id)?.name ?? id, at, ...state }))
}

/** Endpoints of a network on all hosts: as followed, or read from the store when this host does not use the network. Throws `unavailable`. */
export async function fetchEndpoints(store: ClusterStore, mirror: Mirror, networkId: string): Promise<readonly ClusterEndpoint[]> {
  if (mirror.endpointTable.isSynced(networkId)) return mirror.endpointsOf(networkId)
  const prefix = CLUSTER_KEY.endpoints(networkId)
  return (await store.list(prefix)).entries.flatMap(({ key, value }) => {
    const decoded = decodeEndpoint(value, networkId, key.slice(prefix.length))
    if (!decoded.ok) mirror.bad.note(key, decoded.why)
    return decoded.ok ? [mirror.located(decoded.value)] : []
  })
}

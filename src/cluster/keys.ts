/**
 * Where things stand in the shared store, relative to the prefix of its address. docs/cluster.md describes the values.
 *
 * What an endpoint owns (`addr/`, `epname/`, `owned/`) is written and deleted only together with its `endpoints/` key, in one transaction:
 * whoever has seen the endpoint's version unchanged knows that the others are unchanged too.
 */
import type { Ip } from '../base/address.ts'
import { isId } from './fields.ts'

const enc = encodeURIComponent

export const CLUSTER_KEY = {
  /** Every member watches it: hosts and their leases. */
  hosts: 'hosts/',
  host: (hostId: string) => `hosts/${hostId}`,
  /** Held by the host's lease: gone means down. */
  lease: (hostId: string) => `hosts/${hostId}/lease`,
  /** Every member watches it: networks, the guard and calls for verification. */
  networks: 'networks/',
  network: (networkId: string) => `networks/${networkId}`,
  /** Rewritten by whoever takes subnets or VXLAN ids: two that do so at one time conflict here. */
  guard: 'networks/guard',
  /** Rewritten to ask members what their kernels hold. */
  verification: 'networks/verification',
  /** Who asks just now, under its lease: questions are answered one at a time. */
  verifying: 'verifying',
  networkName: (name: string) => `names/networks/${enc(name)}`,
  /** Watched by hosts that use the network, and by no other. */
  endpoints: (networkId: string) => `endpoints/${networkId}/`,
  endpoint: (networkId: string, endpointId: string) => `endpoints/${networkId}/${endpointId}`,
  address: (networkId: string, ip: Ip) => `addr/${networkId}/${ip}`,
  endpointName: (networkId: string, name: string) => `epname/${networkId}/${enc(name)}`,
  /** What a host owns, for its return and its eviction. Nobody watches it. */
  owned: (hostId: string) => `owned/${hostId}/`,
  ownedEndpoint: (hostId: string, networkId: string, endpointId: string) => `owned/${hostId}/${networkId}/${endpointId}`,
  /** Hashes of what a host's kernel holds, of all its networks. Rewritten after changes, watched by nobody. */
  kernels: 'kernels/',
  kernel: (hostId: string) => `kernels/${hostId}`,
  /** A network's entries as they are in a host's kernel. Written on demand, watched by nobody. */
  states: (networkId: string) => `states/${networkId}/`,
  state: (networkId: string, hostId: string) => `states/${networkId}/${hostId}`,
  /** What hosts have found about the paths to each other. Written on demand, watched by nobody. */
  paths: 'paths/',
  path: (hostId: string) => `paths/${hostId}`,
} as const

/** Whose an `owned/` key is; undefined for one that no engine has written. */
export function ownedIds(key: string, hostId: string): { readonly networkId: string; readonly endpointId: string } | undefined {
  const [networkId = '', endpointId = '', ...rest] = key.slice(CLUSTER_KEY.owned(hostId).length).split('/')
  return isId(networkId) && isId(endpointId) && rest.length === 0 ? { networkId, endpointId } : undefined
}

/** Keys in the engine's own store: the last known state, for starts without the cluster's store. */
export const CACHE_KEY = {
  networks: 'cluster/network/',
  network: (networkId: string) => `cluster/network/${networkId}`,
  hosts: 'cluster/host/',
  host: (hostId: string) => `cluster/host/${hostId}`,
  allEndpoints: 'cluster/endpoint/',
  endpoints: (networkId: string) => `cluster/endpoint/${networkId}/`,
  endpoint: (networkId: string, endpointId: string) => `cluster/endpoint/${networkId}/${endpointId}`,
  /** Endpoints that this host has asked for, from before the first request until after their removal. */
  claims: 'cluster/claim/',
  claim: (endpointId: string) => `cluster/claim/${endpointId}`,
  /** Newest revision of `networks/` that was seen. */
  revision: 'cluster/revision',
} as const

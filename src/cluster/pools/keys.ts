/** Where the pools of the IPAM driver `causeway` stand: in the shared store, and in the engine's own. */
import type { Cidr, Ip } from '../../base/address.ts'

/** A subnet as one segment of a key. */
const segment = (subnet: Cidr): string => subnet.replace('/', '_')

export const POOL_KEY = {
  /** Read as a whole by whoever makes a pool or lists them. */
  pools: 'pools/',
  /** Rewritten by whoever makes or removes a pool: two that do so at one time conflict here. */
  guard: 'pools/guard',
  /** The networks that use the subnet, with their gateways. Rewritten whenever one comes or goes; addresses check its version. */
  pool: (subnet: Cidr) => `pools/${segment(subnet)}`,
  allAddresses: 'pool-addr/',
  addresses: (subnet: Cidr) => `pool-addr/${segment(subnet)}/`,
  address: (subnet: Cidr, ip: Ip) => `pool-addr/${segment(subnet)}/${ip}`,
} as const

/** In the engine's own store: what this host has asked for, from before the first request until after its return. */
export const POOL_CLAIM = {
  users: 'cluster/pool-user/',
  user: (subnet: Cidr, userId: string) => `cluster/pool-user/${segment(subnet)}/${userId}`,
  addresses: 'cluster/pool-addr/',
  address: (subnet: Cidr, ip: Ip) => `cluster/pool-addr/${segment(subnet)}/${ip}`,
} as const

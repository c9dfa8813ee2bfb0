/**
 * Which endpoint gives a sandbox its default route, per address family (pure). Docker's order: higher gw-priority first, then
 * docker_gwbridge last, internal last, endpoints that serve both families first, then the network's name in lexical order.
 */
export interface GatewayCandidate {
  readonly endpointId: string
  readonly networkName: string
  readonly priority: number
  readonly internal: boolean
  readonly isGwBridge: boolean
  readonly gateway4: string
  readonly gateway6: string
  /** The endpoint can be a gateway without an address (`default dev eth0` of l3 drivers). */
  readonly device4?: boolean
  readonly device6?: boolean
}

/** The endpoints, the one that gives the default routes first: by priority, then by Docker's rules. */
export function gatewayOrder<T extends GatewayCandidate>(candidates: readonly T[]): T[] {
  const both = (c: T) => (c.gateway4 !== '' || c.device4 === true) && (c.gateway6 !== '' || c.device6 === true)
  return [...candidates].sort(
    (a, b) =>
      b.priority - a.priority ||
      Number(a.isGwBridge) - Number(b.isGwBridge) ||
      Number(a.internal) - Number(b.internal) ||
      Number(both(b)) - Number(both(a)) ||
      (a.networkName < b.networkName ? -1 : a.networkName > b.networkName ? 1 : 0),
  )
}

/** The endpoint that carries the default route of each family, undefined when no endpoint can. */
export function electGateways<T extends GatewayCandidate>(candidates: readonly T[]): { v4: T | undefined; v6: T | undefined } {
  const order = gatewayOrder(candidates)
  return {
    v4: order.find((c) => c.gateway4 !== '' || c.device4),
    v6: order.find((c) => c.gateway6 !== '' || c.device6),
  }
}

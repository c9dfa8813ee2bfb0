/** A network as `GET /networks` and `GET /networks/{id}` print it. */
import type { Network } from '../../model/network.ts'
import type { ApiOptions } from '../types.ts'

type Sources = Pick<ApiOptions, 'controller' | 'containers'>

/** The long form: with `Containers`, and since 1.52 with `Status`. */
export function networkJson(network: Network, sources: Sources, version: number): Record<string, unknown> {
  return {
    ...networkSummary(network, sources, version),
    Containers: endpointsJson(network, sources),
    ...(version >= 52 ? { Status: statusJson(network, sources) } : {}),
  }
}

/** A network as the list shows it. */
export function networkSummary(network: Network, _sources: Sources, version: number): Record<string, unknown> {
  return {
    Name: network.name,
    Id: network.id,
    Created: network.created,
    Scope: network.scope,
    Driver: network.driver,
    ...(version >= 48 ? { EnableIPv4: network.enableIpv4 } : {}),
    EnableIPv6: network.enableIpv6,
    IPAM: { Driver: network.ipamDriver, Options: network.ipamOptions, Config: poolsJson(network) },
    Internal: network.internal,
    Attachable: network.attachable,
    Ingress: network.ingress,
    ConfigFrom: { Network: network.configFrom },
    ConfigOnly: network.configOnly,
    Containers: {},
    Options: network.options,
    Labels: network.labels,
  }
}

/** Unset parts of a pool are left out; a network without pools has `null`. */
function poolsJson(network: Network): object[] | null {
  if (network.pools.length === 0) return null
  return network.pools.map((pool) => ({
    Subnet: pool.subnet,
    ...(pool.ipRange === undefined ? {} : { IPRange: pool.ipRange }),
    ...(pool.gateway === undefined ? {} : { Gateway: pool.gateway }),
    ...(Object.keys(pool.aux).length === 0 ? {} : { AuxiliaryAddresses: pool.aux }),
  }))
}

function endpointsJson(network: Network, { controller, containers }: Sources): Record<string, object> {
  const entries = controller.endpointsOf(network.id).map((endpoint) => {
    const container = containers.find(endpoint.containerId)
    return [
      container === undefined ? `ep-${endpoint.id}` : container.id,
      {
        Name: endpoint.name ?? container?.name ?? endpoint.dnsNames[0] ?? '',
        EndpointID: endpoint.id,
        MacAddress: endpoint.mac,
        IPv4Address: endpoint.ipv4 === '' ? '' : `${endpoint.ipv4}/${endpoint.ipv4Length}`,
        IPv6Address: endpoint.ipv6 === '' ? '' : `${endpoint.ipv6}/${endpoint.ipv6Length}`,
      },
    ] as const
  })
  const remote = controller.remoteEndpointsOf(network.id).map((endpoint) => [
    `ep-${endpoint.id}`,
    {
      Name: endpoint.name,
      EndpointID: endpoint.id,
      MacAddress: endpoint.mac,
      IPv4Address: endpoint.ipv4 === '' ? '' : `${endpoint.ipv4}/${endpoint.ipv4Length}`,
      IPv6Address: endpoint.ipv6 === '' ? '' : `${endpoint.ipv6}/${endpoint.ipv6Length}`,
      Host: endpoint.host, // ours: Docker does not say where a member is
    },
  ])
  return Object.fromEntries([...entries, ...remote])
}

function statusJson(network: Network, { controller }: Sources): object {
  const usage = controller.usageOf(network.id)
  if (usage.length === 0) return { IPAM: {} }
  const subnets = usage.map((entry) => [
    entry.subnet,
    { IPsInUse: saturate(entry.ipsInUse), DynamicIPsAvailable: saturate(entry.dynamicAvailable) },
  ])
  return { IPAM: { Subnets: Object.fromEntries(subnets) } }
}

/** IPv6 subnets hold more addresses than a JSON number counts. */
function saturate(count: bigint): number {
  return count > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(count)
}

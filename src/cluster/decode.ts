/**
 * Values of the shared store, from text to what they say. Anybody who can write to the store can write anything: every field is checked,
 * what is not as it should be is refused as a whole, and the key must agree with the value. Nothing here throws.
 */
import { cidrContains, familyOf, type Ip } from '../base/address.ts'
import type { IpamPool, Network } from '../model/network.ts'
import {
  bool,
  cidr,
  type Decoded,
  decode,
  type Fields,
  fieldsOf,
  id,
  int,
  ip,
  items,
  optional,
  shallow,
  table,
  text,
  texts,
  unicastMac,
  Wrong,
} from './fields.ts'
import type { ClusterEndpoint, ClusterHost, ClusterNetwork, ClusterSubnet } from './model.ts'

/** `networks/<id>`. `removing`: somebody is taking it away; whoever needs it may say otherwise by writing it without. */
export interface StoredNetwork {
  readonly value: ClusterNetwork
  readonly removing: boolean
}

/** `hosts/<id>`, without the state that its lease decides. */
export type StoredHost = Omit<ClusterHost, 'state'> & { readonly evicted: boolean }

/** `networks/guard` */
export interface Guard {
  readonly cluster: string
  /** Creations and removals so far: a store that shows fewer than before has lost some. */
  readonly count: number
}

/** `owned/<host>/<network>/<endpoint>`: everything that has to be freed. */
export interface OwnedEndpoint {
  readonly networkId: string
  readonly endpointId: string
  readonly name: string
  readonly addresses: readonly Ip[]
}

/** `id` and `networkId` come from the key. */
export function decodeEndpoint(value: string, networkId: string, endpointId: string): Decoded<ClusterEndpoint> {
  return decode(value, (f) => {
    if (id(f, 'id') !== endpointId || id(f, 'networkId') !== networkId) throw new Wrong('the value belongs to another key')
    const family = (name: string, wanted: 4 | 6): Ip | '' => {
      if (f[name] === '') return ''
      const address = ip(f, name)
      if (familyOf(address) !== wanted) throw new Wrong(`"${name}" is not an IPv${wanted} address`)
      return address
    }
    const endpoint: ClusterEndpoint = {
      id: endpointId,
      networkId,
      containerId: text(f, 'containerId'),
      name: text(f, 'name'),
      dnsNames: texts(f, 'dnsNames', 64, 253),
      ipv4: family('ipv4', 4),
      ipv6: family('ipv6', 6),
      mac: unicastMac(f, 'mac'),
      hostId: id(f, 'hostId'),
      hostAddress: ip(f, 'hostAddress'),
      active: bool(f, 'active'),
    }
    if (endpoint.ipv4 === '' && endpoint.ipv6 === '') throw new Wrong('the endpoint has no address')
    return endpoint
  })
}

/** `addr/` and `epname/` keys: the endpoint that owns it; undefined when it is no endpoint's. */
export function decodeOwner(value: string): string | undefined {
  const decoded = decode(value, (f) => id(f, 'endpoint'))
  return decoded.ok ? decoded.value : undefined
}

/** Why an endpoint cannot be one of this network, undefined when it can. */
export function misplaced(endpoint: ClusterEndpoint, network: ClusterNetwork): string | undefined {
  for (const address of [endpoint.ipv4, endpoint.ipv6]) {
    if (address === '') continue
    if (!network.subnets.some(({ subnet }) => cidrContains(subnet, address))) return `${address} is in none of the network's subnets`
    if (network.subnets.some(({ gateway }) => gateway === address)) return `${address} is the network's gateway`
  }
  return undefined
}

export function decodeHost(value: string, hostId: string): Decoded<StoredHost> {
  return decode(value, (f) => {
    if (id(f, 'id') !== hostId) throw new Wrong('the value belongs to another key')
    return {
      id: hostId,
      name: text(f, 'name'),
      address: ip(f, 'address'),
      port: int(f, 'port', 1, 65535),
      version: text(f, 'version'),
      started: int(f, 'started', 0, Number.MAX_SAFE_INTEGER),
      instance: text(f, 'instance'),
      mtu: optional(f, 'mtu', (fields, name) => int(fields, name, 0, 65535)) ?? 0,
      routes: items(f, 'routes', 1024).map((route) => cidr({ route }, 'route')),
      evicted: optional(f, 'evicted', bool) ?? false,
    }
  })
}

export function decodeGuard(value: string): Decoded<Guard> {
  return decode(value, (f) => ({ cluster: text(f, 'cluster'), count: int(f, 'count', 0, Number.MAX_SAFE_INTEGER) }))
}

export function decodeOwned(value: string, networkId: string, endpointId: string): Decoded<OwnedEndpoint> {
  return decode(value, (f) => ({
    networkId,
    endpointId,
    name: text(f, 'name'),
    addresses: items(f, 'addresses', 2).map((address) => ip({ address }, 'address')),
  }))
}

export function decodeNetwork(value: string, networkId: string): Decoded<StoredNetwork> {
  return decode(value, (f) => {
    if (id(f, 'id') !== networkId) throw new Wrong('the value belongs to another key')
    const name = text(f, 'name')
    if (name === '') throw new Wrong('"name" is empty')
    const subnets = items(f, 'subnets').map((entry) => subnetOf(fieldsOf(entry, 'a subnet')))
    if (subnets.length === 0) throw new Wrong('the network has no subnet')
    const network = optional(f, 'network', (fields, key) => networkOf(fieldsOf(fields[key], '"network"'), networkId, name, subnets))
    const whole: ClusterNetwork = {
      id: networkId,
      name,
      internal: bool(f, 'internal'),
      subnets,
      options: table(f, 'options'),
      createdBy: id(f, 'createdBy'),
      ...(network === undefined ? {} : { network }),
    }
    return { value: whole, removing: optional(f, 'removing', bool) ?? false }
  })
}

function subnetOf(f: Fields): ClusterSubnet {
  const subnet = cidr(f, 'subnet')
  const gateway = optional(f, 'gateway', ip)
  if (gateway !== undefined && !cidrContains(subnet, gateway)) throw new Wrong(`gateway ${gateway} is not in ${subnet}`)
  return { subnet, ...(gateway === undefined ? {} : { gateway }), vni: int(f, 'vni', 1, 2 ** 24 - 1) }
}

/** The engine's record: only what an overlay network of the cluster may be. */
function networkOf(f: Fields, networkId: string, name: string, subnets: readonly ClusterSubnet[]): Network {
  if (f['id'] !== networkId || f['name'] !== name) throw new Wrong('"network" is another one')
  if (f['driver'] !== 'overlay' || f['scope'] !== 'global') throw new Wrong('"network" is not an overlay network')
  const pools = items(f, 'pools').map((entry) => poolOf(fieldsOf(entry, 'a pool')))
  if (
    pools.length !== subnets.length ||
    pools.some((pool, i) => pool.subnet !== subnets[i]?.subnet || pool.gateway !== subnets[i]?.gateway)
  )
    throw new Wrong("the pools are not the network's subnets")
  const data = optional(f, 'data', (fields, key) => fieldsOf(fields[key], `"${key}"`))
  shallow(data, '"data"')
  return {
    id: networkId,
    name,
    created: text(f, 'created'),
    driver: 'overlay',
    scope: 'global',
    enableIpv4: bool(f, 'enableIpv4'),
    enableIpv6: bool(f, 'enableIpv6'),
    internal: bool(f, 'internal'),
    attachable: bool(f, 'attachable'),
    ingress: false,
    configOnly: false,
    configFrom: text(f, 'configFrom'),
    ipamDriver: 'default',
    ipamOptions: optional(f, 'ipamOptions', table) ?? null,
    pools,
    options: table(f, 'options'),
    labels: table(f, 'labels'),
    predefined: false,
    ...(data === undefined ? {} : { data }),
  }
}

function poolOf(f: Fields): IpamPool {
  const subnet = cidr(f, 'subnet')
  const gateway = optional(f, 'gateway', ip)
  const ipRange = optional(f, 'ipRange', cidr)
  const aux = table(f, 'aux')
  return {
    subnet,
    ...(gateway === undefined ? {} : { gateway }),
    ...(ipRange === undefined ? {} : { ipRange }),
    aux: Object.fromEntries(Object.keys(aux).map((key) => [key, ip(aux, key)])),
  }
}

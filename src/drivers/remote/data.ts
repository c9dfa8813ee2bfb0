/** What is kept of a plugin's answers: in a network's record and in an endpoint's. Read back with every field checked by its type. */
import { type Cidr, type Ip, type Mac, tryParseCidr, tryParseIp, tryParseMac } from '../../base/address.ts'
import type { AuthorityData } from '../authority.ts'

/** A pool that a plugin's IPAM granted; everything in it is given back with it. */
export interface HeldPool {
  readonly id: string
  readonly subnet: Cidr
  readonly gateway: Ip | ''
  readonly aux: readonly Ip[]
}

export interface RemoteNetworkData {
  readonly pools: readonly HeldPool[]
}

export interface RemoteRoute {
  readonly dst: Cidr
  /** '' = on the link itself. */
  readonly via: Ip | ''
}

/** One endpoint after CreateEndpoint and Join. */
export interface RemoteEndpointData {
  /** Interface of the host that the plugin made for the container; '' = none. */
  readonly srcName: string
  /** The plugin has joined the endpoint and named no interface. */
  readonly isWithoutInterface: boolean
  readonly dstPrefix: string
  readonly gateway4: Ip | ''
  readonly gateway6: Ip | ''
  readonly routes: readonly RemoteRoute[]
  readonly disableGatewayService: boolean
  /** What the plugin chose itself, because nobody else did. */
  readonly mac: Mac | ''
  /** With prefix length; also of an address whose length is not its pool's (an IPAM plugin that gives out single addresses). */
  readonly address4: string
  readonly address6: string
  /** Addresses that its IPAM granted, with the pool of each. */
  readonly held: readonly { readonly pool: string; readonly ip: Ip }[]
}

const NOTHING: RemoteEndpointData = {
  srcName: '',
  isWithoutInterface: false,
  dstPrefix: 'eth',
  gateway4: '',
  gateway6: '',
  routes: [],
  disableGatewayService: false,
  mac: '',
  address4: '',
  address6: '',
  held: [],
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '')
const list = (value: unknown): readonly Record<string, unknown>[] => (Array.isArray(value) ? value : [])

/** What a plugin has said of an endpoint, as its record keeps it. */
export function endpointData(data: AuthorityData): RemoteEndpointData {
  const ip = (value: unknown): Ip | '' => tryParseIp(text(value)) ?? ''
  return {
    srcName: text(data['srcName']),
    isWithoutInterface: data['isWithoutInterface'] === true,
    dstPrefix: text(data['dstPrefix']) || NOTHING.dstPrefix,
    gateway4: ip(data['gateway4']),
    gateway6: ip(data['gateway6']),
    routes: list(data['routes']).flatMap((route) => {
      const dst = tryParseCidr(text(route['dst']))
      return dst === undefined ? [] : [{ dst, via: ip(route['via']) }]
    }),
    disableGatewayService: data['disableGatewayService'] === true,
    mac: tryParseMac(text(data['mac'])) ?? '',
    address4: text(data['address4']),
    address6: text(data['address6']),
    held: list(data['held']).flatMap((h) => {
      const parsed = tryParseIp(text(h['ip']))
      return parsed === undefined ? [] : [{ pool: text(h['pool']), ip: parsed }]
    }),
  }
}

/** What a plugin has said of a network, as its record keeps it. */
export function networkData(data: AuthorityData | undefined): RemoteNetworkData {
  return {
    pools: list(data?.['pools']).flatMap((pool) => {
      const subnet = tryParseCidr(text(pool['subnet']))
      if (subnet === undefined) return []
      const aux = (Array.isArray(pool['aux']) ? pool['aux'] : []).flatMap((a: unknown) => tryParseIp(text(a)) ?? [])
      return [{ id: text(pool['id']), subnet, gateway: tryParseIp(text(pool['gateway'])) ?? ('' as const), aux }]
    }),
  }
}

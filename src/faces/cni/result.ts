/** Results of ADD in the shapes of all versions of the specification, both ways. */
import type { Fields } from './fields.ts'
import { type CniVersion, isAtLeast } from './versions.ts'

export interface CniInterface {
  readonly name: string
  readonly mac?: string
  readonly mtu?: number
  /** Namespace file, absent for interfaces of the host. */
  readonly sandbox?: string
}

export interface CniIp {
  /** With its prefix length. */
  readonly address: string
  readonly gateway?: string
  /** Index into the interfaces. */
  readonly interface?: number
}

export interface CniRoute {
  readonly dst: string
  readonly gw?: string
}

export interface CniDns {
  readonly nameservers?: readonly string[]
  readonly domain?: string
  readonly search?: readonly string[]
  readonly options?: readonly string[]
}

/** What is true of every version. Interfaces of others keep fields that are not known here. */
export interface CniResult {
  readonly interfaces: readonly CniInterface[]
  readonly ips: readonly CniIp[]
  readonly routes: readonly CniRoute[]
  readonly dns: CniDns
}

/** What an earlier plugin of the chain did, with ours behind it. */
export function appendResult(before: CniResult, own: CniResult): CniResult {
  const shift = before.interfaces.length
  return {
    interfaces: [...before.interfaces, ...own.interfaces],
    ips: [...before.ips, ...own.ips.map((ip) => (ip.interface === undefined ? ip : { ...ip, interface: ip.interface + shift }))],
    routes: [...before.routes, ...own.routes],
    dns: { ...before.dns, ...own.dns },
  }
}

const isV6 = (address: string): boolean => address.includes(':')

/** The JSON of a result in the version that was asked for. */
export function encodeResult(result: CniResult, version: CniVersion): string {
  return `${JSON.stringify({ cniVersion: version, ...shape(result, version) })}\n`
}

function shape(result: CniResult, version: CniVersion): object {
  if (!isAtLeast(version, '0.3.0')) return legacyShape(result)
  const ips = isAtLeast(version, '1.0.0') ? result.ips : result.ips.map((ip) => ({ version: isV6(ip.address) ? '6' : '4', ...ip }))
  // mtu of an interface came with 1.1.0
  const interfaces = isAtLeast(version, '1.1.0') ? result.interfaces : result.interfaces.map(({ mtu: _mtu, ...rest }) => rest)
  return {
    interfaces,
    ips,
    ...(result.routes.length > 0 ? { routes: result.routes } : {}),
    dns: result.dns,
  }
}

/** 0.1.0 and 0.2.0 know one address of each family. */
function legacyShape(result: CniResult): object {
  const half = (six: boolean) => {
    const ip = result.ips.find(({ address }) => isV6(address) === six)
    if (ip === undefined) return undefined
    const routes = result.routes.filter(({ dst }) => isV6(dst) === six)
    return { ip: ip.address, ...(ip.gateway ? { gateway: ip.gateway } : {}), ...(routes.length > 0 ? { routes } : {}) }
  }
  const [ip4, ip6] = [half(false), half(true)]
  return { ...(ip4 ? { ip4 } : {}), ...(ip6 ? { ip6 } : {}), dns: result.dns }
}

/** A prevResult of the given version. Throws code 7 when its fields have wrong types. */
export function decodeResult(json: Fields, version: CniVersion): CniResult {
  if (!isAtLeast(version, '0.3.0')) return decodeLegacy(json)
  return {
    interfaces: (json.objects('interfaces') ?? []).map((f) => ({ ...f.json, name: f.text('name') ?? '' }) as CniInterface),
    ips: (json.objects('ips') ?? []).map((f) => {
      const { version: _version, ...rest } = f.json
      return { ...rest, address: f.text('address') ?? '' } as CniIp
    }),
    routes: (json.objects('routes') ?? []).map((f) => ({ ...f.json, dst: f.text('dst') ?? '' }) as CniRoute),
    dns: (json.object('dns')?.json ?? {}) as CniDns,
  }
}

function decodeLegacy(json: Fields): CniResult {
  const halves = [json.object('ip4'), json.object('ip6')].filter((half) => half !== undefined)
  return {
    interfaces: [],
    ips: halves.map((half) => {
      const gateway = half.text('gateway')
      return { address: half.text('ip') ?? '', ...(gateway ? { gateway } : {}) }
    }),
    routes: halves.flatMap((half) => (half.objects('routes') ?? []).map((f) => f.json as unknown as CniRoute)),
    dns: (json.object('dns')?.json ?? {}) as CniDns,
  }
}

/** The overlay driver's options, parsed and checked, and the MTU that is left inside. */
import { type Cidr, familyOf, type Ip } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import type { IpamPool } from '../../model/network.ts'
import { boolOption, OPTION, type Options } from '../options.ts'

const OVERLAY_OPTION = {
  vxlanIds: 'com.docker.network.driver.overlay.vxlanid_list',
  encrypted: 'encrypted',
  /** Ours: `vxlan` (Docker's way, the default) or `host-gw` (plain routes between hosts that share a link). */
  mode: 'mode',
} as const

export type OverlayMode = 'vxlan' | 'host-gw'

export interface OverlayConfig {
  readonly mode: OverlayMode
  readonly encrypted: boolean
  /** MTU of the underlay as the user says it, 0 = as found. */
  readonly underlayMtu: number
  /** VXLAN ids, one for each subnet; empty = the cluster chooses. */
  readonly vnis: readonly number[]
}

const LARGEST_VNI = 0xffffff
const DEFAULT_UNDERLAY_MTU = 1500
/** RFC 791: below it no IPv4 works. */
const SMALLEST_MTU = 68
/** Ethernet 14, VXLAN 8, UDP 8 and the outer IP header. */
const VXLAN_BYTES = { 4: 50, 6: 70 } as const
/** ESP around the UDP datagram, RFC 4106: SPI 4, sequence 4, IV 8, pad length 1, next header 1, ICV 16, padding to 4 up to 3. */
const ESP_BYTES = 37

/** Parses the options of an overlay network. Throws NetError with Docker's texts where it has them. */
export function parseOverlayConfig(options: Options): OverlayConfig {
  const mode = options[OVERLAY_OPTION.mode] || 'vxlan'
  if (mode !== 'vxlan' && mode !== 'host-gw')
    throw new NetError('invalid', `invalid overlay mode "${mode}": expected vxlan (encapsulated) or host-gw (plain routes)`)
  // `--opt encrypted` arrives as an empty value
  const encrypted = options[OVERLAY_OPTION.encrypted] === '' || boolOption(options, OVERLAY_OPTION.encrypted, false)
  if (encrypted && mode === 'host-gw')
    throw new NetError('invalid', 'overlay mode "host-gw" cannot be encrypted: its packets are plain routed ones, use mode=vxlan')
  const vnis = parseVnis(options[OVERLAY_OPTION.vxlanIds])
  if (vnis.length > 0 && mode === 'host-gw')
    throw new NetError('invalid', 'overlay mode "host-gw" has no VXLAN ids: leave vxlanid_list out, or use mode=vxlan')
  return { mode, encrypted, underlayMtu: parseMtu(options[OPTION.mtu]), vnis }
}

function parseVnis(text: string | undefined): number[] {
  if (text === undefined || text === '') return []
  const vnis = text.split(',').map((word) => {
    const vni = Number(word)
    if (!/^\d+$/.test(word) || vni < 1 || vni > LARGEST_VNI) throw new NetError('invalid', `invalid vxlan id value "${word}" passed`)
    return vni
  })
  if (new Set(vnis).size < vnis.length) throw new NetError('invalid', `invalid vxlan id list "${text}": each subnet needs an id of its own`)
  return vnis
}

function parseMtu(text: string | undefined): number {
  if (text === undefined) return 0
  if (!/^[+-]?\d+$/.test(text)) throw new NetError('invalid', `failed to parse ${text}: strconv.Atoi: parsing "${text}": invalid syntax`)
  const mtu = Number(text)
  const least = SMALLEST_MTU + VXLAN_BYTES[4]
  if (mtu < 0) throw new NetError('invalid', `invalid MTU value: ${mtu}`)
  if ((mtu > 0 && mtu < least) || mtu > 65535)
    throw new NetError(
      'invalid',
      `invalid MTU value: ${mtu}: it is the underlay's, of which VXLAN takes 50 bytes; expected ${least} to 65535`,
    )
  return mtu
}

/**
 * MTU of the containers' interfaces in bytes. The user's option means the underlay's MTU, as in Docker's classic overlay;
 * without it `foundMtu`, the underlay's as found (0 = unknown, 1500 is assumed).
 */
export function insideMtu(config: OverlayConfig, foundMtu: number, vtep: Ip | ''): number {
  const underlay = config.underlayMtu || foundMtu || DEFAULT_UNDERLAY_MTU
  if (config.mode === 'host-gw') return underlay
  const outer = vtep !== '' && familyOf(vtep) === 6 ? 6 : 4
  return underlay - VXLAN_BYTES[outer] - (config.encrypted ? ESP_BYTES : 0)
}

/** One link layer of an overlay network: a bridge and a VXLAN id of its own. */
export interface OverlaySegment {
  readonly subnets: readonly { readonly subnet: Cidr; readonly gateway: Ip | '' }[]
  /** 0 in host-gw mode. */
  readonly vni: number
}

/** How many segments, and so VXLAN ids, a network with these pools needs. */
export function segmentCount(pools: readonly { readonly subnet: string }[]): number {
  const of4 = pools.filter((pool) => !pool.subnet.includes(':')).length
  return of4 > 0 ? of4 : pools.length
}

/**
 * The pools by segment: each IPv4 subnet has one (br0, br1, ...), the IPv6 subnets join them in order. A network without IPv4 has one
 * segment for each IPv6 subnet. `vnis` in the same order.
 */
export function segmentsOf(pools: readonly IpamPool[], vnis: readonly number[]): OverlaySegment[] {
  const facts = (pool: IpamPool) => ({ subnet: pool.subnet, gateway: pool.gateway ?? ('' as const) })
  const pools4 = pools.filter((pool) => familyOf(pool.subnet) === 4)
  const pools6 = pools.filter((pool) => familyOf(pool.subnet) === 6)
  const first = pools4.length > 0 ? pools4 : pools6
  const second = pools4.length > 0 ? pools6 : []
  return first.map((pool, i) => ({
    vni: vnis[i] ?? 0,
    subnets: [facts(pool), ...second.filter((_, j) => Math.min(j, first.length - 1) === i).map(facts)],
  }))
}

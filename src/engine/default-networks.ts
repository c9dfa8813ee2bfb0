/** The three networks that are always there: `bridge` from the daemon's flags, `host` and `none`. */
import { type Cidr, cidrContains, cidrOf, type Ip, ipPrefixOf, parseCidr, parseIp, splitPrefix, trySplitPrefix } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import type { Logger } from '../base/ports.ts'
import { OPTION } from '../drivers/options.ts'
import type { Rtnl } from '../kernel/types.ts'
import type { IpamPoolRequest, Network, NetworkSpec } from '../model/network.ts'
import type { NetworkingConfig } from './environment.ts'

export interface DefaultBridgePlan {
  readonly spec: NetworkSpec
  readonly bridge: string
  /** The device exists and is somebody else's: used, never deleted. */
  readonly adopted: boolean
}

/**
 * What the default bridge should be (undefined for `--bridge=none`).
 * Subnet: `--bip`, else the existing device's address, else `--fixed-cidr`, else a pool; a stored subnet is asked for again.
 */
export function planDefaultBridge(
  config: NetworkingConfig,
  rtnl: Rtnl,
  device: string,
  stored: Network | undefined,
  log: Logger,
): DefaultBridgePlan | undefined {
  if (config.bridge === 'none') return undefined
  if (config.bridge && config.bip)
    throw new NetError('invalid', 'You specified -b & --bip, mutually exclusive options. Please specify only one')
  const bridge = config.bridge || device
  const link = rtnl.link(bridge)
  const ours = link?.alias.startsWith('causeway:') ?? false
  if (config.bridge && config.bridge !== 'docker0' && link === undefined)
    throw new NetError('invalid', `bridge device with non default name ${bridge} must be created manually`)
  const adopted = link !== undefined && !ours && config.bridge !== undefined && config.bridge !== ''
  const configs: IpamPoolRequest[] = []
  const v4 = ipv4Request(config, rtnl, bridge, link !== undefined && !ours, stored, log)
  if (v4) configs.push(v4)
  const v6 = ipv6Request(config)
  if (v6) configs.push(v6)
  const options: Record<string, string> = {
    [OPTION.defaultBridge]: 'true',
    [OPTION.enableIcc]: String(config.icc ?? true),
    [OPTION.enableMasquerade]: String(config.ipMasq ?? true),
    [OPTION.hostBindingIpv4]: config.ip || '0.0.0.0',
    [OPTION.bridgeName]: bridge,
    [OPTION.mtu]: String(config.mtu || 1500),
  }
  return {
    bridge,
    adopted,
    spec: {
      name: 'bridge',
      driver: 'bridge',
      enableIpv4: true,
      enableIpv6: config.ipv6 ?? false,
      options,
      labels: {},
      ipam: { driver: 'default', config: configs },
    },
  }
}

function ipv4Request(
  config: NetworkingConfig,
  rtnl: Rtnl,
  bridge: string,
  foreign: boolean,
  stored: Network | undefined,
  log: Logger,
): IpamPoolRequest | undefined {
  const fixed = config.fixedCidr ? parseCidr(config.fixedCidr) : undefined
  const range = (subnet: Cidr): { ipRange?: string } => (fixed && fixed !== subnet && contains(subnet, fixed) ? { ipRange: fixed } : {})
  const gateway = (subnet: Cidr, own: Ip | undefined): { gateway?: string; aux?: Record<string, string> } => ({
    ...(own ? { gateway: own } : {}),
    ...(config.defaultGateway && cidrContains(subnet, parseIp(config.defaultGateway)) && config.defaultGateway !== own
      ? { aux: { DefaultGatewayIPv4: config.defaultGateway } }
      : {}),
  })
  if (config.bip) {
    const split = trySplitPrefix(config.bip)
    if (split === undefined) throw new NetError('invalid', `invalid CIDR address: ${config.bip}`)
    const subnet = cidrOf(split.ip, split.length)
    return { subnet, ...range(subnet), ...gateway(subnet, split.ip) }
  }
  const present = (rtnl.link(bridge) === undefined ? [] : rtnl.addresses({ dev: bridge, family: 4 }))
    .map((a) => splitPrefix(a.address))
    .map(({ ip, length }) => ({ ip, subnet: cidrOf(ip, length) }))
  const chosen =
    present.find((p) => fixed && contains(fixed, ipPrefixCidr(p.ip))) ?? present.find((p) => !fixed || contains(p.subnet, fixed))
  if (chosen && (foreign || !fixed)) return { subnet: chosen.subnet, ...range(chosen.subnet), ...gateway(chosen.subnet, chosen.ip) }
  if (present.length > 0 && fixed && foreign)
    log.warn('the existing bridge address lies outside --fixed-cidr', { bridge, fixedCidr: fixed })
  if (fixed) return { subnet: fixed, ...gateway(fixed, undefined) }
  const old = stored?.pools.find((p) => !p.subnet.includes(':'))
  if (old) return { subnet: old.subnet, ...gateway(old.subnet, old.gateway) }
  return undefined
}

function ipv6Request(config: NetworkingConfig): IpamPoolRequest | undefined {
  if (!config.ipv6) return undefined
  if (config.bip6) {
    const split = trySplitPrefix(config.bip6)
    if (split === undefined) throw new NetError('invalid', `invalid CIDR address: ${config.bip6}`)
    return { subnet: cidrOf(split.ip, split.length), gateway: split.ip }
  }
  if (!config.fixedCidrV6) return undefined
  const subnet = parseCidr(config.fixedCidrV6)
  return { subnet, ...(config.defaultGatewayV6 ? { aux: { DefaultGatewayIPv6: config.defaultGatewayV6 } } : {}) }
}

function contains(outer: Cidr, inner: Cidr): boolean {
  return splitPrefix(outer).length <= splitPrefix(inner).length && cidrContains(outer, splitPrefix(inner).ip)
}

const ipPrefixCidr = (ip: Ip) => ipPrefixOf(ip, 32) as unknown as Cidr

export const HOST_SPEC: NetworkSpec = { name: 'host', driver: 'host', enableIpv4: true, enableIpv6: false }
export const NONE_SPEC: NetworkSpec = { name: 'none', driver: 'null', enableIpv4: true, enableIpv6: false }

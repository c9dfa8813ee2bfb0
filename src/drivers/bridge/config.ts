/** The bridge driver's options, parsed and checked. */
import type { Ip } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'
import { advertiseOptions, boolOption, ipOption, mtuOption, OPTION, type Options } from '../options.ts'

export type GatewayMode = 'nat' | 'nat-unprotected' | 'routed' | 'isolated'
const GATEWAY_MODES: readonly string[] = ['nat', 'nat-unprotected', 'routed', 'isolated']

export interface BridgeConfig {
  readonly bridge: string
  /** Card of the host that becomes a port of the bridge; '' = none. */
  readonly parent: string
  readonly isDefault: boolean
  readonly icc: boolean
  readonly masquerade: boolean
  readonly inhibitIpv4: boolean
  readonly mode4: GatewayMode
  readonly mode6: GatewayMode
  /** 0 = kernel default (1500). */
  readonly mtu: number
  readonly hostBindingIpv4: Ip | undefined
  readonly hostBindingIpv6: Ip | undefined
  readonly snat4: Ip | undefined
  readonly snat6: Ip | undefined
  readonly trusted: readonly string[]
  readonly ifacePrefix: string
  readonly sourceGuard: boolean
  readonly advertise: { readonly count: number; readonly intervalMs: number }
}

function gatewayMode(options: Options, label: string, internal: boolean): GatewayMode {
  const value = options[label]
  if (value === undefined || value === '') return 'nat'
  if (!GATEWAY_MODES.includes(value)) throw new NetError('invalid', `unknown gateway mode ${value}`)
  if (value === 'isolated' && !internal) throw new NetError('internal', `gateway mode 'isolated' can only be used for an internal network`)
  return value as GatewayMode
}

type Subject = { readonly id: string; readonly internal: boolean; readonly options: Options }

/** By the options' own identity: a network's never change in place. An attachment asks a dozen times. */
const parsed = new WeakMap<Options, { readonly id: string; readonly internal: boolean; readonly config: BridgeConfig }>()

/** Parses the options of a bridge network. Throws NetError with Docker's texts. */
export function parseBridgeConfig({ id, internal, options }: Subject): BridgeConfig {
  const known = parsed.get(options)
  if (known !== undefined && known.id === id && known.internal === internal) return known.config
  const config = parse({ id, internal, options })
  parsed.set(options, { id, internal, config })
  return config
}

function parse(network: Subject): BridgeConfig {
  const { options, internal } = network
  const mtu = mtuOption(options)
  const bridge = options[OPTION.bridgeName] || `br-${network.id.slice(0, 12)}`
  if (bridge.length > 15 || !/^[^\s/:]+$/.test(bridge) || bridge === '.' || bridge === '..')
    throw new NetError('invalid', `invalid bridge name "${bridge}": it must have 1 to 15 characters without blanks, "/" or ":"`)
  const parent = options['parent'] ?? ''
  if (parent !== '' && internal) throw new NetError('invalid', `a network over ${parent} cannot be internal: it is part of the LAN`)
  if (parent === bridge) throw new NetError('invalid', `parent interface ${parent} cannot be the network's own bridge`)
  return {
    bridge,
    parent,
    isDefault: boolOption(options, OPTION.defaultBridge, false),
    icc: boolOption(options, OPTION.enableIcc, true),
    masquerade: boolOption(options, OPTION.enableMasquerade, true),
    inhibitIpv4: boolOption(options, OPTION.inhibitIpv4, false),
    mode4: gatewayMode(options, OPTION.gatewayModeIpv4, internal),
    mode6: gatewayMode(options, OPTION.gatewayModeIpv6, internal),
    mtu,
    hostBindingIpv4: ipOption(options, OPTION.hostBindingIpv4, 4),
    hostBindingIpv6: ipOption(options, OPTION.hostBindingIpv6, 6),
    snat4: ipOption(options, OPTION.hostIpv4, 4),
    snat6: ipOption(options, OPTION.hostIpv6, 6),
    trusted: (options[OPTION.trustedHostInterfaces] ?? '').split(':').filter((name) => name !== ''),
    ifacePrefix: options[OPTION.ifacePrefix] || 'eth',
    sourceGuard: boolOption(options, OPTION.sourceGuard, true),
    advertise: advertiseOptions(options),
  }
}

/** What is asked of a wire, checked: everything is looked at before anything is made. */
import {
  type Cidr,
  cidrContains,
  cidrOf,
  cidrRange,
  familyOf,
  type Ip,
  type IpPrefix,
  ipPrefixOf,
  ipToBigInt,
  type Mac,
  splitPrefix,
  tryParseIp,
  tryParseMac,
  trySplitPrefix,
} from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'

/** As it comes from the API. Exactly one of `container`, `netns` and `pid` says where the wire ends. */
export interface WireAsk {
  readonly container?: string
  /** Path of a network namespace. */
  readonly netns?: string
  readonly pid?: number
  readonly bridge?: string
  /** Addresses with their prefix lengths; none = the wire carries frames only. */
  readonly addresses?: readonly string[]
  readonly gateways?: readonly string[]
  readonly mac?: string
  readonly vlan?: number
  readonly ifname?: string
}

export interface WireSpec {
  readonly bridge: string
  readonly addresses: readonly IpPrefix[]
  readonly gateways: readonly Ip[]
  readonly mac: Mac | ''
  /** 802.1Q tag on the bridge's side, 0 = none. */
  readonly vlan: number
  /** '' = the first free ethN from eth1 on. */
  readonly ifname: string
}

const NAME = /^[^\s/:]{1,15}$/

/** Throws `invalid` with what was wrong and what would be right. */
export function parseWire(ask: WireAsk): WireSpec {
  const bridge = ask.bridge ?? ''
  if (bridge === '') throw new NetError('invalid', 'a wire needs a bridge of the host: --bridge NAME')
  if (!isName(bridge)) throw wrongName('bridge', bridge)
  const ifname = ask.ifname ?? ''
  if (ifname !== '' && (!isName(ifname) || ifname === 'lo')) throw wrongName('interface', ifname)
  const addresses = (ask.addresses ?? []).map(parseAddress)
  if (new Set(addresses).size < addresses.length) throw new NetError('invalid', `an address is given twice: ${addresses.join(', ')}`)
  const vlan = ask.vlan ?? 0
  if (ask.vlan !== undefined && (!Number.isInteger(vlan) || vlan < 1 || vlan > 4094))
    throw new NetError('invalid', `invalid VLAN ${ask.vlan}: expected a number from 1 to 4094`)
  return { bridge, addresses, gateways: parseGateways(ask.gateways ?? [], addresses), mac: parseUnicast(ask.mac ?? ''), vlan, ifname }
}

function isName(name: string): boolean {
  return NAME.test(name) && name !== '.' && name !== '..'
}

function wrongName(what: string, name: string): NetError {
  return new NetError('invalid', `invalid ${what} name "${name}": it must have 1 to 15 characters without blanks, "/" or ":"`)
}

function parseAddress(text: string): IpPrefix {
  const split = trySplitPrefix(text)
  if (split === undefined)
    throw new NetError('invalid', `invalid address "${text}": expected one with its prefix length, such as 192.168.1.10/24`)
  const { ip, length } = split
  const subnet = cidrOf(ip, length)
  if (familyOf(ip) === 4 && length < 31) {
    const { first, last } = cidrRange(subnet)
    const number = ipToBigInt(ip)
    if (number === first) throw new NetError('invalid', `invalid address "${text}": it is the subnet's own, expected one of its hosts`)
    if (number === last) throw new NetError('invalid', `invalid address "${text}": it is the subnet's broadcast address`)
  }
  return ipPrefixOf(ip, length)
}

function parseGateways(texts: readonly string[], addresses: readonly IpPrefix[]): Ip[] {
  const gateways = texts.map((text) => {
    const ip = tryParseIp(text)
    if (ip === undefined) throw new NetError('invalid', `invalid gateway "${text}": expected an IP address`)
    if (!addresses.some((address) => cidrContains(subnetOf(address), ip)))
      throw new NetError('invalid', `invalid gateway ${ip}: no address of the wire is in its subnet`)
    if (addresses.some((address) => splitPrefix(address).ip === ip))
      throw new NetError('invalid', `invalid gateway ${ip}: it is the wire's own address`)
    return ip
  })
  if (new Set(gateways.map(familyOf)).size < gateways.length) throw new NetError('invalid', 'a wire has one gateway of each family at most')
  return gateways
}

function parseUnicast(text: string): Mac | '' {
  if (text === '') return ''
  const mac = tryParseMac(text)
  if (mac === undefined) throw new NetError('invalid', `${text} is not a valid mac address`)
  if ((Number.parseInt(mac.slice(0, 2), 16) & 1) === 1 || mac === '00:00:00:00:00:00')
    throw new NetError('invalid', `${mac} cannot be the mac address of an interface: it is no single one's`)
  return mac
}

/** The subnet that an address with its prefix length is in. */
export function subnetOf(address: IpPrefix): Cidr {
  const { ip, length } = splitPrefix(address)
  return cidrOf(ip, length)
}

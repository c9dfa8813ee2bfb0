/** A host's lease in a Flannel network: which part of it is this host's, and how packets leave. Read from what flanneld writes. */
import {
  type Cidr,
  cidrContains,
  cidrRange,
  familyOf,
  type Ip,
  ipFromBigInt,
  parseCidr,
  splitPrefix,
  trySplitPrefix,
} from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'

/** One family of a lease. */
export interface LeasedSubnet {
  /** All hosts' subnets. */
  readonly network: Cidr
  readonly subnet: Cidr
  /** This host's address in its subnet. */
  readonly gateway: Ip
}

export interface FlannelLease {
  readonly ipv4?: LeasedSubnet
  readonly ipv6?: LeasedSubnet
  /** Bytes that fit after Flannel's encapsulation; 0 = not said. */
  readonly mtu: number
  /** flanneld masquerades what leaves the Flannel network itself. */
  readonly ipMasq: boolean
}

/**
 * Reads `subnet.env` (flannel's pkg/subnet WriteSubnetFile). `source` names it in errors. Throws `unavailable` for a file without a lease,
 * which is one that flanneld is still writing, or of another program.
 */
export function parseSubnetEnv(text: string, source: string): FlannelLease {
  const values = new Map<string, string>()
  for (const line of text.split('\n')) {
    const found = /^\s*(FLANNEL_[A-Z0-9_]+)=(.*?)\s*$/.exec(line)
    if (found !== null) values.set(found[1] as string, (found[2] as string).replace(/^"(.*)"$/, '$1'))
  }
  const read = (family: 4 | 6): LeasedSubnet | undefined => {
    const infix = family === 6 ? 'IPV6_' : ''
    const [network = '', subnet = ''] = [values.get(`FLANNEL_${infix}NETWORK`), values.get(`FLANNEL_${infix}SUBNET`)]
    // several networks are written with commas between them; the subnet is of one of them
    return subnet === ''
      ? undefined
      : leasedSubnet(
          family,
          network.split(',').map((one) => one.trim()),
          subnet,
          source,
        )
  }
  const ipv4 = read(4)
  const ipv6 = read(6)
  if (ipv4 === undefined && ipv6 === undefined)
    throw new NetError('unavailable', `${source} has no FLANNEL_SUBNET: is flanneld running, and is this its subnet file?`, {
      subject: source,
    })
  const mtu = values.get('FLANNEL_MTU') ?? '0'
  if (!/^\d{1,5}$/.test(mtu) || (Number(mtu) > 0 && Number(mtu) < 68) || Number(mtu) > 65535)
    throw new NetError('unavailable', `FLANNEL_MTU=${mtu} in ${source} is no MTU`, { subject: source })
  return {
    ...(ipv4 ? { ipv4 } : {}),
    ...(ipv6 ? { ipv6 } : {}),
    mtu: Number(mtu),
    ipMasq: values.get('FLANNEL_IPMASQ') === 'true',
  }
}

/** `subnet` is a host's address with its subnet's length (10.1.15.1/24), or the subnet itself: the first address is then the host's. */
export function leasedSubnet(family: 4 | 6, networks: readonly string[], subnet: string, source: string): LeasedSubnet {
  const bad = (what: string) =>
    new NetError('unavailable', `${source} says ${what}: expected an IPv${family} subnet inside Flannel's network`, { subject: source })
  const split = trySplitPrefix(subnet)
  if (split === undefined || familyOf(split.ip) !== family || split.length > (family === 4 ? 30 : 126)) throw bad(`subnet "${subnet}"`)
  const own = parseCidr(subnet)
  const network = networks.find((text) => {
    const outer = trySplitPrefix(text)
    return outer !== undefined && familyOf(outer.ip) === family && outer.length <= split.length && cidrContains(parseCidr(text), split.ip)
  })
  if (network === undefined) throw bad(`subnet "${subnet}" of network "${networks.join(',')}"`)
  const { first } = cidrRange(own)
  const gateway = split.ip === splitPrefix(own).ip ? ipFromBigInt(family, first + 1n) : split.ip
  return { network: parseCidr(network), subnet: own, gateway }
}

/** The addresses are the same: what runs goes on. */
export function isSameLease(a: FlannelLease, b: FlannelLease): boolean {
  const text = (one: FlannelLease) => JSON.stringify([one.ipv4 ?? null, one.ipv6 ?? null])
  return text(a) === text(b)
}

/** A lease for people: subnets and MTU. */
export function leaseText({ ipv4, ipv6 }: FlannelLease): string {
  return [ipv4, ipv6].flatMap((part) => (part ? [`${part.subnet} of ${part.network}`] : [])).join(' and ')
}

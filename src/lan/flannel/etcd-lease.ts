/** This host's lease as flanneld keeps it in etcd (flannel's Documentation/reservations.md, pkg/subnet/etcd). */
import { messageOf, NetError } from '../../base/errors.ts'
import { type FlannelLease, leasedSubnet } from '../../drivers/flannel/lease.ts'
import type { Rtnl } from '../../kernel/types.ts'

/** Values below a folder of etcd, by their keys relative to it. Throws `unavailable`. */
export type ReadStore = (url: string) => Promise<ReadonlyMap<string, string>>

const VXLAN_OVERHEAD = 50

/** The lease whose PublicIP is an address of this host. Throws `unavailable` when there is none, or the store is away. */
export async function readEtcdLease(url: string, read: ReadStore, rtnl: Rtnl): Promise<FlannelLease> {
  const values = await read(url)
  const config = objectFrom(values.get('config'), `${url}/config`)
  const network = config['Network']
  if (typeof network !== 'string')
    throw new NetError('unavailable', `${url}/config names no Network: expected Flannel's configuration, as {"Network": "10.1.0.0/16"}`)
  const own = new Map(rtnl.addresses({ family: 4 }).map(({ address, dev }) => [address.slice(0, address.indexOf('/')), dev]))
  for (const [key, text] of values) {
    const found = /^subnets\/(\d+\.\d+\.\d+\.\d+)-(\d+)(?:&.*)?$/.exec(key)
    if (found === null) continue
    const lease = objectFrom(text, `${url}/${key}`)
    const publicIp = lease['PublicIP']
    const dev = typeof publicIp === 'string' ? own.get(publicIp) : undefined
    if (dev === undefined) continue
    const ipv4 = leasedSubnet(4, [network], `${found[1]}/${found[2]}`, `${url}/${key}`)
    const link = rtnl.link(dev)?.mtu ?? 1500
    // flanneld writes no MTU there; this is how it gets it (pkg/backend/vxlan, pkg/backend/hostgw)
    return { ipv4, mtu: lease['BackendType'] === 'vxlan' ? link - VXLAN_OVERHEAD : link, ipMasq: false }
  }
  throw new NetError('unavailable', `${url}/subnets has no lease of this host: start flanneld here, it claims one`)
}

function objectFrom(text: string | undefined, where: string): Readonly<Record<string, unknown>> {
  if (text === undefined) throw new NetError('unavailable', `there is no ${where}: is this the folder of Flannel's configuration?`)
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null) return value as Readonly<Record<string, unknown>>
  } catch (cause) {
    throw new NetError('unavailable', `${where} is no JSON: ${messageOf(cause)}`, {}, cause)
  }
  throw new NetError('unavailable', `${where} is no JSON object`)
}

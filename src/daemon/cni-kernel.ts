/** The CNI face's view of the kernel (faces/cni/kernel.ts) over rtnetlink. */
import { statSync } from 'node:fs'
import type { Family, Mac } from '../base/address.ts'
import { hasCode } from '../base/errors.ts'
import type { Rate } from '../drivers/endpoint-options.ts'
import type { CniKernel, InsideLink, Limits } from '../faces/cni/kernel.ts'
import { bucketOf, rateOf } from '../kernel/qdisc.ts'
import { openRtnl } from '../kernel/rtnl.ts'
import type { Rtnl } from '../kernel/types.ts'
import type { Link } from '../model/kernel-state.ts'
import { defaultRoutesIn } from '../sys/default-routes.ts'
import { closeNetns, homeNetns, isNetnsMounted, type Netns, openNetns } from '../sys/netns.ts'

export class KernelForCni implements CniKernel {
  readonly #host: Rtnl

  constructor(host: Rtnl) {
    this.#host = host
  }

  namespace(path: string): 'missing' | 'own' | 'there' {
    if (!isNetnsMounted(path)) return 'missing'
    return statSync(path).ino === homeNetns().inode ? 'own' : 'there'
  }

  look(path: string, ifname: string): InsideLink | undefined {
    return inside(path, (rtnl) => {
      const link = rtnl.link(ifname)
      return link && describe(rtnl, link)
    })
  }

  defaultRoutes(path: string, families: readonly Family[]): Family[] {
    return withNetns(path, (ns) => defaultRoutesIn(ns, families))
  }

  retire(path: string, ifname: string, newName: string): void {
    try {
      inside(path, (rtnl) => {
        for (const addr of rtnl.addresses({ dev: ifname })) rtnl.apply([{ op: 'addr.delete', addr }])
        rtnl.apply([
          { op: 'link.set', dev: ifname, set: { up: false } },
          { op: 'link.rename', dev: ifname, name: newName },
        ])
      })
    } catch (error) {
      if (!hasCode(error, 'not-found')) throw error
    }
  }

  missingLimits(path: string, ifname: string, hostIfname: string, limits: Limits): string[] {
    const { ingress, egress } = limits
    const isMissing = (ns: Netns | undefined, dev: string, rate: Rate) => rateOf(ns, dev)?.rate !== bucketOf(rate).rate
    return [
      ...(ingress && isMissing(undefined, hostIfname, ingress) ? [`${hostIfname} is not limited to ${ingress.rate} bit/s`] : []),
      ...(egress && withNetns(path, (ns) => isMissing(ns, ifname, egress)) ? [`${ifname} is not limited to ${egress.rate} bit/s`] : []),
    ]
  }

  hostMac(name: string): Mac | '' {
    return this.#host.link(name)?.mac ?? ''
  }
}

function withNetns<T>(path: string, fn: (ns: Netns) => T): T {
  const ns = openNetns(path)
  try {
    return fn(ns)
  } finally {
    closeNetns(ns)
  }
}

function inside<T>(path: string, fn: (rtnl: Rtnl) => T): T {
  return withNetns(path, (ns) => {
    const rtnl = openRtnl(ns)
    try {
      return fn(rtnl)
    } finally {
      rtnl.close()
    }
  })
}

function describe(rtnl: Rtnl, link: Link): InsideLink {
  return {
    mac: link.mac ?? ('' as const),
    mtu: link.mtu,
    up: link.up,
    addresses: rtnl.addresses({ dev: link.name }).map((a) => String(a.address)),
    routes: rtnl
      .routes({ dev: link.name })
      .map((route) => ({ dst: String(route.dst), ...(route.gateway === undefined ? {} : { gw: String(route.gateway) }) })),
  }
}

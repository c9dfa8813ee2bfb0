/**
 * The kernel side of one sandbox: namespace, interfaces, addresses, default routes, DNS redirect. Every function here is
 * synchronous from entering the namespace to leaving it and opens only short-lived sockets.
 */
import type { Ip } from '../base/address.ts'
import { hasCode, isErrno } from '../base/errors.ts'
import type { EndpointWanted } from '../drivers/types.ts'
import { openRtnl } from '../kernel/rtnl.ts'
import type { Rtnl } from '../kernel/types.ts'
import type { Address, Step } from '../model/kernel-state.ts'
import { closeNetns, inNetns, type Netns, openNetns } from '../sys/netns.ts'
import { setSysctl } from '../sys/sysctl.ts'

/** Which device and address carry a sandbox's default route. */
export interface DefaultRoute {
  readonly family: 4 | 6
  readonly ifname: string
  /** '' = the device alone (`default dev eth0`). */
  readonly gateway: Ip | ''
}

/** An open sandbox namespace with its netlink socket; use within one synchronous stretch and close. */
export class SandboxKernel {
  readonly ns: Netns
  readonly rtnl: Rtnl

  private constructor(ns: Netns) {
    this.ns = ns
    this.rtnl = openRtnl(ns)
  }

  /** Opens the namespace at `key` for the duration of `fn`. */
  static with<T>(key: string, fn: (kernel: SandboxKernel) => T): T {
    const ns = openNetns(key)
    try {
      const kernel = new SandboxKernel(ns)
      try {
        return fn(kernel)
      } finally {
        kernel.rtnl.close()
      }
    } finally {
      closeNetns(ns)
    }
  }

  loopbackUp(): void {
    this.rtnl.apply([{ op: 'link.set', dev: 'lo', set: { up: true } }])
  }

  /** Configures an interface that was born in here: sysctls, addresses, up, own routes. */
  configure(wanted: EndpointWanted['inside'], extra: readonly Step[] = []): void {
    if (wanted.sysctls.length > 0)
      inNetns(this.ns, () => {
        for (const { path, value, optional } of wanted.sysctls) {
          try {
            setSysctl(path, value)
          } catch (error) {
            if (!optional) throw error
          }
        }
      })
    const steps: Step[] = wanted.addresses.map((addr) => ({ op: 'addr.add', addr }))
    steps.push({ op: 'link.set', dev: wanted.ifname, set: { up: true } })
    for (const route of wanted.routes) steps.push({ op: 'route.replace', route })
    this.rtnl.apply([...steps, ...extra])
  }

  /** What {@link configure} would have done, as far as it is missing. False when the interface is not there. */
  complete(wanted: EndpointWanted['inside']): boolean {
    const link = this.rtnl.link(wanted.ifname)
    if (link === undefined) return false
    const present = new Set(this.rtnl.addresses({ dev: wanted.ifname }).map((a) => a.address))
    const addresses = wanted.addresses.filter((a) => !present.has(a.address))
    if (addresses.length > 0 || !link.up) this.configure({ ...wanted, addresses })
    return true
  }

  /** Replaces or removes the default route of a family. */
  setDefaultRoute(family: 4 | 6, route: DefaultRoute | undefined): void {
    if (route === undefined) {
      for (const old of this.rtnl.routes({ family }))
        if (old.dst === 'default') ignoreMissing(() => this.rtnl.apply([{ op: 'route.delete', route: old }]))
      return
    }
    // replace only replaces a route with the same key: an IPv6 default over another device would be added beside the old one
    if (family === 6)
      for (const old of this.rtnl.routes({ family }))
        if (old.dst === 'default' && old.dev !== route.ifname) ignoreMissing(() => this.rtnl.apply([{ op: 'route.delete', route: old }]))
    this.rtnl.apply([defaultRouteStep(route)])
  }

  /**
   * Takes an interface out of use that the kernel will delete a little later: no address, no route, and its name is free at once.
   * A missing one is fine.
   */
  retire(ifname: string, name: string, addresses: readonly Address[]): void {
    for (const addr of addresses) ignoreMissing(() => this.rtnl.apply([{ op: 'addr.delete', addr }]))
    ignoreMissing(() => {
      try {
        this.rtnl.apply([{ op: 'link.rename', dev: ifname, name }])
      } catch (error) {
        if (!isErrno(error, 'EBUSY')) throw error // before 6.2 only a link that is down can be renamed
        this.rtnl.apply([
          { op: 'link.set', dev: ifname, set: { up: false } },
          { op: 'link.rename', dev: ifname, name },
        ])
      }
    })
  }

  /**
   * Deletes links born in here that a crash left behind: not yet renamed, waiting to be deleted, or of an endpoint that has been given up.
   * `wanted` are the names of those that stay; absent in a namespace where others may have put theirs.
   */
  sweep(wanted?: ReadonlySet<string>): void {
    for (const { name, kind, linkNetnsId } of this.rtnl.links()) {
      // with a parent in here it is the container's own
      if ((kind !== 'macvlan' && kind !== 'ipvlan') || linkNetnsId === undefined) continue
      const isLeft = wanted === undefined ? /^(gone[0-9a-f]{7}$|born-)/.test(name) : !wanted.has(name)
      if (isLeft) ignoreMissing(() => this.rtnl.apply([{ op: 'link.delete', dev: name }]))
    }
  }

  /** A link of this name is here, ours or not: for choosing the next ethN. */
  readonly hasLink = (name: string): boolean => this.rtnl.indexOf(name) !== 0
}

/** The step that sets a default route, over a gateway or straight over the device. */
export function defaultRouteStep(route: DefaultRoute): Step {
  return {
    op: 'route.replace',
    route: {
      family: route.family,
      dst: 'default',
      dev: route.ifname,
      ...(route.gateway === '' ? { scope: 'link' as const } : { gateway: route.gateway }),
    },
  }
}

function ignoreMissing(fn: () => void): void {
  try {
    fn()
  } catch (error) {
    if (!hasCode(error, 'not-found')) throw error
  }
}

/**
 * A machine of network namespaces in memory, for tests of many hosts in one process: the host's own namespace and those that overlay
 * networks make.
 *
 *   const kernel = new FakeKernel('10.99.0.1/16')
 *   new Overlay({ rtnl: kernel.host, namespaces: kernel.namespaces, ... })
 */
import type { IpPrefix, Mac } from '../src/base/address.ts'
import type { NamespaceSystem } from '../src/cluster/overlay/namespace.ts'
import type { Netns } from '../src/sys/netns.ts'
import { FakeRtnl } from './fake-rtnl.ts'

interface Space {
  readonly rtnl: FakeRtnl
  /** Its rules, as text. */
  rules: string
}

export class FakeKernel {
  readonly host: FakeRtnl
  readonly namespaces: NamespaceSystem
  /** Namespaces by the path of their file. */
  readonly mounted = new Map<string, Space>()
  readonly #open = new Map<number, Space>()

  /** `address`: of the host's only interface, eth0. */
  constructor(address: IpPrefix) {
    let lastFd = 1000
    let lastMac = 0
    const machine = {
      namespaceOf: (fd: number) => this.#open.get(fd)?.rtnl,
      tunnels: new Map(),
      nextMac: () => `02:fe:${(++lastMac).toString(16).padStart(8, '0').match(/../g)?.join(':')}` as Mac,
    }
    this.host = new FakeRtnl(machine)
    this.host.apply([
      { op: 'link.add', link: { name: 'eth0', kind: 'dummy', mtu: 1500, up: true } },
      { op: 'addr.add', addr: { dev: 'eth0', address } },
    ])
    const spaceOf = (ns: Netns): Space => {
      const space = this.#open.get(ns.fd)
      if (space === undefined) throw new Error(`descriptor ${ns.fd} of ${ns.path} is not open`)
      return space
    }
    this.namespaces = {
      isMounted: (path) => this.mounted.has(path),
      create: (path) => void this.mounted.set(path, { rtnl: new FakeRtnl(machine), rules: '' }),
      open: (path) => {
        const space = this.mounted.get(path)
        if (space === undefined) throw new Error(`no namespace at ${path}`)
        this.#open.set(++lastFd, space)
        return { fd: lastFd, inode: lastFd, path }
      },
      close: (ns) => void this.#open.delete(ns.fd),
      remount: (ns) => void this.mounted.set(ns.path, spaceOf(ns)),
      remove: (path) => {
        this.mounted.get(path)?.rtnl.end()
        this.mounted.delete(path)
      },
      openRtnl: (ns) => spaceOf(ns).rtnl,
      writeSysctl: () => {},
      openNftables: (ns) => ({
        run: (text: string) => {
          spaceOf(ns).rules = text
          return ''
        },
        close: () => {},
      }),
    }
  }

  /** Descriptors of namespaces that are held. */
  get openCount(): number {
    return this.#open.size
  }
}

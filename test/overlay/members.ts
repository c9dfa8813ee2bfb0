/** Overlay members without an engine: the sandboxes of `cluster/overlay` on hosts of a lab network, and containers plugged in by hand. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { type Ip, type Mac, parseCidr, parseIp } from '../../src/base/address.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/ports.ts'
import { OverlaySandboxes } from '../../src/cluster/overlay/sandboxes.ts'
import type { OverlaySegment } from '../../src/drivers/overlay/config.ts'
import { overlayDriver } from '../../src/drivers/overlay/overlay.ts'
import { type OverlayEndpoint, type OverlayFacts, overlayMac, VXLAN_PORT } from '../../src/drivers/overlay/wanted.ts'
import { openRtnl } from '../../src/kernel/rtnl.ts'
import type { Rtnl } from '../../src/kernel/types.ts'
import type { Network } from '../../src/model/network.ts'
import type { Finding } from '../../src/plan/links.ts'
import { closeNetns, createNetns, inNetns, type Netns, openNetns, removeNetns } from '../../src/sys/netns.ts'
import type { Reactor } from '../../src/sys/reactor.ts'
import { writeSysctl } from '../../src/sys/sysctl.ts'
import type { Ran } from '../../testkit/engine-lab.ts'
import { type LabHost, type LabNet, systemEnv } from '../../testkit/lab-net.ts'

export const NETWORK_ID = 'da3d1b5fcb8e'.padEnd(64, '0')

export function exec(argv: readonly string[], timeoutMs = 20_000): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(argv[0] as string, argv.slice(1), { env: systemEnv, timeout: timeoutMs }, (error, out, err) => {
      resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : 255, out, err })
    })
  })
}

export interface Member {
  readonly host: number
  readonly id: string
  readonly ip: string
  readonly netns: string
  sh(command: string): Promise<Ran>
}

export interface MembersOptions {
  readonly mtu?: number
  readonly segments?: readonly OverlaySegment[]
  readonly ipv6Underlay?: boolean
  readonly port?: number
  readonly isRouted?: boolean
  readonly reactor?: Reactor
  readonly networkId?: string
}

/** One overlay network over all hosts of a lab network. */
export class Members {
  readonly dir = mkdtempSync('/tmp/causeway-overlay-')
  readonly #net: LabNet
  readonly #rtnls: Rtnl[] = []
  readonly #netns: Netns[] = []
  readonly sandboxes: OverlaySandboxes[] = []
  readonly repairs: Finding[] = []
  readonly #options: MembersOptions
  readonly #members = new Map<string, Member>()
  endpoints: OverlayEndpoint[] = []
  #count = 0

  constructor(net: LabNet, options: MembersOptions = {}) {
    this.#net = net
    this.#options = options
    net.hosts.forEach((host, i) => {
      const ns = openNetns(host.netns)
      const rtnl = openRtnl(ns)
      this.#netns.push(ns)
      this.#rtnls.push(rtnl)
      this.sandboxes.push(this.open(i))
    })
  }

  get networkId(): string {
    return this.#options.networkId ?? NETWORK_ID
  }

  /** A new owner of a host's sandboxes, as after a crash. */
  open(i: number): OverlaySandboxes {
    const { reactor } = this.#options
    return new OverlaySandboxes({
      netnsDir: `${this.dir}/${i}`,
      rtnl: this.#rtnls[i] as Rtnl,
      hostNetns: this.#netns[i] as Netns,
      clock: systemClock,
      log: process.env['DEBUG'] ? { ...silentLogger, warn: console.error, error: console.error } : silentLogger,
      ...(reactor === undefined ? {} : { reactor }),
      onRepair: (_, findings) => this.repairs.push(...findings),
    })
  }

  host(i: number): LabHost {
    return this.#net.hosts[i] as LabHost
  }

  vteps(i: number): Ip[] {
    return [parseIp(this.host(i).ip), parseIp(this.host(i).ip6)]
  }

  facts(i: number): OverlayFacts {
    return {
      networkId: this.networkId,
      segments: this.#options.segments ?? [{ vni: 256, subnets: [{ subnet: parseCidr('10.0.0.0/24'), gateway: parseIp('10.0.0.1') }] }],
      mtu: this.#options.mtu ?? 1450,
      vtep: this.vteps(i)[this.#options.ipv6Underlay ? 1 : 0] as Ip,
      port: this.#options.port ?? VXLAN_PORT,
      hostId: `h${i}`,
      ...(this.#options.isRouted ? { isRouted: true } : {}),
    }
  }

  place(i: number): string {
    return this.sandboxes[i]?.pathOf(this.networkId) as string
  }

  /** A command in the network's namespace on a host. */
  inside(i: number, command: string): Promise<Ran> {
    return exec(['nsenter', `--net=${this.place(i)}`, 'sh', '-c', command])
  }

  /** Brings every host that has members up to date; hosts without lose theirs. */
  async spread(): Promise<void> {
    for (const i of this.#net.hosts.keys())
      if (this.endpoints.some((e) => e.hostId === `h${i}`)) await this.sandboxes[i]?.ensure(this.facts(i), this.endpoints)
      else await this.sandboxes[i]?.drop(this.networkId)
  }

  /** The network as the engine would have it. */
  network(): Network {
    const pools = this.facts(0).segments.flatMap(({ subnets }) =>
      subnets.map(({ subnet, gateway }) => ({ subnet, aux: {}, ...(gateway === '' ? {} : { gateway }) })),
    )
    const none = { labels: {}, options: {}, ipamOptions: null, configFrom: '', created: '' }
    const flags = {
      enableIpv4: true,
      enableIpv6: true,
      internal: false,
      attachable: true,
      ingress: false,
      configOnly: false,
      predefined: false,
    }
    return { id: this.networkId, name: 'net1', driver: 'overlay', scope: 'global', ipamDriver: 'default', pools, ...flags, ...none }
  }

  /** A container on a host: known to all first, then plugged in as the driver says. */
  async add(i: number, ip: string, ip6 = ''): Promise<Member> {
    const id = (this.#count++).toString(16).padStart(64, 'e')
    const mac = overlayMac(parseIp(ip)) as Mac
    this.endpoints = [
      ...this.endpoints,
      { id, ipv4: parseIp(ip), ipv6: ip6 === '' ? '' : parseIp(ip6), mac, hostId: `h${i}`, vteps: this.vteps(i) },
    ]
    await this.spread()
    const netns = `${this.dir}/c${id.slice(-6)}`
    createNetns(netns)
    this.#plug(i, id, netns, ip, ip6)
    const member: Member = { host: i, id, ip, netns, sh: (command) => exec(['nsenter', `--net=${netns}`, 'sh', '-c', command]) }
    this.#members.set(id, member)
    return member
  }

  #plug(i: number, id: string, netns: string, ip: string, ip6: string): void {
    const sandboxes = this.sandboxes[i] as OverlaySandboxes
    const ns = openNetns(netns)
    const outer = openNetns(this.place(i))
    const there = openRtnl(outer)
    const inner = openRtnl(ns)
    try {
      const link = sandboxes.interfaceName(this.networkId, id)
      const { plug, inside } = overlayDriver.endpointWanted(this.network(), {
        id,
        ifname: 'eth0',
        hostIfname: 'veth1234567',
        mac: overlayMac(parseIp(ip)),
        ipv4: parseIp(ip),
        ipv6: ip6 === '' ? '' : parseIp(ip6),
        linkLocalIps: [],
        sysctls: [],
        netnsFd: ns.fd,
        data: { place: this.place(i), link, mtu: this.facts(i).mtu },
      })
      assert.equal(plug.kind, 'pair')
      if (plug.kind !== 'pair') return
      there.apply([{ op: 'link.add', link: plug.link.spec }])
      inNetns(ns, () => inside.sysctls.forEach(({ path, value }) => void writeSysctl(path, value)))
      inner.apply([
        { op: 'link.set', dev: 'lo', set: { up: true } },
        ...inside.addresses.map((addr) => ({ op: 'addr.add', addr }) as const),
        { op: 'link.set', dev: 'eth0', set: { up: true } },
        ...inside.routes.map((route) => ({ op: 'route.replace', route }) as const),
      ])
    } finally {
      for (const rtnl of [there, inner]) rtnl.close()
      for (const n of [ns, outer]) closeNetns(n)
    }
  }

  /** The container goes: its interface first, then everybody is told. */
  async remove(member: Member): Promise<void> {
    await exec(['nsenter', `--net=${member.netns}`, 'ip', 'link', 'del', 'eth0'])
    removeNetns(member.netns)
    this.#members.delete(member.id)
    this.endpoints = this.endpoints.filter((e) => e.id !== member.id)
    await this.spread()
  }

  async close(): Promise<void> {
    for (const member of [...this.#members.values()]) removeNetns(member.netns)
    this.#members.clear()
    for (const sandboxes of this.sandboxes) {
      for (const id of sandboxes.networkIds()) await sandboxes.drop(id)
      await sandboxes.close()
    }
    for (const rtnl of this.#rtnls) rtnl.close()
    for (const ns of this.#netns) closeNetns(ns)
    rmSync(this.dir, { recursive: true, force: true })
  }
}

/** True when `count` pings in a row are all answered. */
export async function pings(from: Member, to: string, options = ''): Promise<boolean> {
  return (await from.sh(`ping -n -c 2 -i 0.05 -W 2 ${options} ${to}`)).code === 0
}

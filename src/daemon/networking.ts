/** The controller of all networks, and everybody outside it who brings drivers or decides with it. */
import { readFileSync } from 'node:fs'
import { cidrOverlaps, parseCidr } from '../base/address.ts'
import type { ContainerService, EventBus } from '../containers/types.ts'
import { parseResolvConf, readHostResolv } from '../dns/host-resolv.ts'
import { ALIAS_PREFIX } from '../drivers/bridge/bridge.ts'
import { Controller } from '../engine/controller.ts'
import type { NetworkEvent } from '../engine/types.ts'
import { createDockerPlugin, type DockerPlugin } from '../faces/docker-plugin/docker-plugin.ts'
import { AddressSpace } from '../ipam/address-space.ts'
import { type HostSubnets, hostSubnets } from '../ipam/host-subnets.ts'
import { type FirewalldZone, openFirewalld } from '../kernel/firewalld.ts'
import { socketTable } from '../kernel/sockets.ts'
import type { Rtnl } from '../kernel/types.ts'
import { createRemoteDrivers } from '../remote/remote-drivers.ts'
import type { Store } from '../store/types.ts'
import { tryReadSysctl } from '../sys/sysctl.ts'
import { type Cluster, openCluster, withoutCluster } from './cluster.ts'
import { chooseDefaultBridge } from './default-bridge.ts'
import { displacer } from './displaced.ts'
import type { Closers, Foundation } from './foundation.ts'
import { type Lan, openLan } from './lan.ts'
import { combine } from './outside.ts'
import { openSdn } from './sdn.ts'
import { versionFacts } from './system-info.ts'

/** Containers come after networks, which ask of them nevertheless: tied when there are some. */
export interface LateContainers {
  containers?: ContainerService
}

export interface Networking {
  readonly controller: Controller
  readonly dockers: DockerPlugin
  readonly lan: Lan
  readonly cluster: Cluster | undefined
  readonly firewalld: FirewalldZone
}

/** Makes the parts and starts the controller; its networks are taken up by `controller.restore`. Throws when the default bridge cannot be had. */
export function openNetworking(base: Foundation, events: EventBus, late: LateContainers, closers: Closers): Networking {
  const { config, log, clock, rng, store, reactor, dns, rtnl, nft, conntrack, hostId, netnsDir, crashing } = base
  const pools = config.networking.addressPools?.map((p) => ({ base: parseCidr(p.base), size: p.size }))
  const ipam = new AddressSpace({ hostId, ...(pools ? { pools } : {}) })
  const hostUse = () => subnetsInUse(rtnl, controller)
  const device = chooseDefaultBridge(rtnl, log)
  const plugins = createRemoteDrivers({
    log,
    clock,
    rng,
    isUsedByHost: (subnet) => hostUse().reserved.some((used) => cidrOverlaps(used, parseCidr(subnet))),
  })
  closers.push(() => plugins.close())
  const dockers = createDockerPlugin({
    space: ipam,
    records: store,
    clock,
    log,
    rng,
    host: {
      subnetsInUse: hostUse,
      hasLink: (name) => rtnl.link(name) !== undefined,
      linkOnSubnet: (subnet) => rtnl.routes({ table: 'all' }).find(({ dst, gateway }) => dst === subnet && gateway === undefined)?.dev,
    },
    controller: () => controller,
    cluster: () => cluster?.findAuthority?.('overlay', 'default'),
    pools: () => cluster?.service.pools,
    dhcp: () => lan.dockerLeases,
    dockerSocket: config.dockerSocket,
  })
  // networks of plugins that are away now are still what they were
  plugins.adopt(
    store.list<{ driver: string; ipamDriver: string }>('network/').flatMap(([, { driver, ipamDriver }]) => [driver, ipamDriver]),
  )
  const lan = openLan({ store, rtnl, reactor, clock, rng, log, crashing, controller: () => controller, containers: () => late.containers })
  closers.push(() => lan.close())
  const cluster = openCluster({
    flags: config.cluster,
    cache: store,
    rtnl,
    reactor,
    dns,
    clock,
    rng,
    log,
    hostId,
    version: versionFacts({ name: '', version: '' }).version,
    netnsDir,
    hostUse,
    space: ipam,
    onEvent: (event) => publishNetworkEvent(events, event, { host: event.host }),
    onConflict: displacer({ controller: () => controller, containers: () => late.containers, clock, log }),
  })
  const sdn = openSdn({ store, rtnl, clock, rng, log, hostId, env: process.env })
  closers.push(() => sdn.close())
  const controller: Controller = new Controller({
    env: { store, rtnl, nft, conntrack, dns, reactor, clock, rng, log, netnsDir, cards: lan.cards },
    config: { ...config.networking, defaultBridgeName: device },
    ipam,
    sockets: socketTable(),
    ephemeral: ephemeralPorts,
    hostUse,
    hostFile: () => ({ path: '/etc/hosts', text: readHostsFile() }),
    ...combine([dockers, cluster ?? withoutCluster, lan, sdn, plugins]),
  })
  const firewalld = openFirewalld({ clock, log, bridges: () => controller.forwarding.bridgeNames() })
  closers.push(() => firewalld.close())
  closers.push(async () => {
    plugins.close() // none is asked any more
    // what containers that still run stand on stays
    const isIdle = !isInUse(store)
    if (isIdle) await leave(controller, lan, firewalld)
    else log.info('containers go on; `causeway up` takes them up again')
    await controller.close()
    await cluster?.close(isIdle)
  })
  controller.start()
  controller.onEvent((event) => publishNetworkEvent(events, event))
  controller.onEvent(() => void firewalld.settle())
  return { controller, dockers, lan, cluster, firewalld }
}

/** Containers run, or wait for this engine, in namespaces of ours. */
export function isInUse(store: Store): boolean {
  return store.list<{ mode: string }>('sandbox/').some(([, record]) => record.mode !== 'host')
}

/** Nothing of ours is left in the kernel, nor in firewalld. */
async function leave(controller: Controller, lan: Lan, firewalld: FirewalldZone): Promise<void> {
  await controller.removeEverything()
  await lan.wires.unplugAll()
  await firewalld.remove()
}

/** What no network may overlap: the host's routes and nameservers, without what our own devices bring. */
function subnetsInUse(rtnl: Rtnl, controller: Controller): HostSubnets {
  return hostSubnets({
    routes: rtnl.routes({ table: 'all' }),
    nameservers: parseResolvConf(readHostResolv().text).nameservers,
    // bridges of removed networks that the kernel has not let go of yet do not count either: their subnets are free
    ownDevices: new Set([...controller.host.wantedNames(), ...markedLinks(rtnl)].filter((name) => !controller.isOnLan(name))),
  })
}

/** Links that carry our mark, whether they are wanted or about to go. */
function markedLinks(rtnl: Rtnl): string[] {
  return rtnl
    .links()
    .filter((link) => link.alias.startsWith(ALIAS_PREFIX) && !link.alias.startsWith(`${ALIAS_PREFIX}nic:`))
    .map((link) => link.name)
}

/** As `docker events` shows it. */
function publishNetworkEvent(
  events: EventBus,
  event: Pick<NetworkEvent, 'action' | 'network' | 'containerId' | 'attributes'>,
  more: Readonly<Record<string, string>> = {},
): void {
  const { action, network, containerId, attributes } = event
  events.publish({
    Type: 'network',
    Action: action,
    Actor: {
      ID: network.id,
      Attributes: {
        name: network.name,
        type: network.driver,
        ...(containerId ? { container: containerId } : {}),
        ...attributes,
        ...more,
      },
    },
  })
}

function ephemeralPorts(): { first: number; last: number } {
  const [first, last] = (tryReadSysctl('net/ipv4/ip_local_port_range') ?? '49153\t65535').split(/\s+/).map(Number) as [number, number]
  return { first, last }
}

function readHostsFile(): string {
  try {
    return readFileSync('/etc/hosts', 'utf8')
  } catch {
    return '127.0.0.1\tlocalhost\n'
  }
}

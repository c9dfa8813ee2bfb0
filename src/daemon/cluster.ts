/** Hosts that share networks: the store they share, this host's membership, and the overlay in its kernel. Wired here, used by `engine.ts`. */
import { hostname } from 'node:os'
import { parseIp, splitPrefix } from '../base/address.ts'
import type { Clock, Logger, Rng } from '../base/ports.ts'
import type { Conflict } from '../cluster/endpoint-claims.ts'
import type { Advertise } from '../cluster/membership.ts'
import { Overlay } from '../cluster/overlay/overlay.ts'
import { underlayMtu } from '../cluster/overlay/underlay.ts'
import { Paths } from '../cluster/paths/paths.ts'
import { localPools, POOL_IPAM, PoolAuthority } from '../cluster/pools/pool-authority.ts'
import type { RemoteEvent } from '../cluster/remote-names.ts'
import { type ClusterService, startCluster } from '../cluster/service.ts'
import { openClusterStore } from '../cluster/store/open.ts'
import { parseAdvertise, parseStoreOptions, parseStoreUrl, type StoreConfig } from '../cluster/store/url.ts'
import type { DnsService } from '../dns/service.ts'
import type { Authority } from '../drivers/authority.ts'
import { overlayDriver } from '../drivers/overlay/overlay.ts'
import { VXLAN_PORT } from '../drivers/overlay/wanted.ts'
import { builtinDrivers } from '../drivers/registry.ts'
import type { Driver } from '../drivers/types.ts'
import type { Controller } from '../engine/controller.ts'
import type { AddressSpace } from '../ipam/address-space.ts'
import type { HostSubnets } from '../ipam/host-subnets.ts'
import type { Rtnl } from '../kernel/types.ts'
import type { Store } from '../store/types.ts'
import type { Reactor } from '../sys/reactor.ts'
import { type ClusterFlags, checkClusterFlags } from './cluster-flags.ts'
import type { Outside } from './outside.ts'

export interface Cluster extends Outside {
  readonly service: ClusterService
  /** As `docker info` shows them. */
  readonly store: string
  readonly advertise: string
  /** The controller has taken up what it had: global networks come and go from now on. */
  begin(controller: Controller): void
  /** `isIdle`: no container runs, nothing is to be left in the kernel. */
  close(isIdle: boolean): Promise<void>
}

/** Undefined without `--cluster-store`. Throws `invalid` for flags that cannot be followed on this host; a store that is away is no error. */
export function openCluster(parts: {
  readonly flags: ClusterFlags
  readonly cache: Store
  readonly rtnl: Rtnl
  readonly reactor: Reactor
  readonly dns: DnsService
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
  readonly hostId: string
  readonly version: string
  readonly netnsDir: string
  readonly hostUse: () => HostSubnets
  readonly space: AddressSpace
  readonly onEvent: (event: RemoteEvent) => void
  /** See `ClusterOptions.onConflict`. */
  readonly onConflict: (conflict: Conflict) => Promise<string>
}): Cluster | undefined {
  const { flags, rtnl, clock, rng, log } = parts
  checkClusterFlags(flags)
  if (flags.store === '') return undefined
  const config: StoreConfig = parseStoreUrl(flags.store, parseStoreOptions(flags.options))
  const { host, port } = parseAdvertise(flags.advertise, (name) =>
    rtnl.indexOf(name) === 0 ? undefined : rtnl.addresses({ dev: name }).map(({ address }) => splitPrefix(address).ip),
  )
  const advertise: Advertise = { address: parseIp(host), port }
  const store = openClusterStore(config, { clock, rng, logger: log })
  const late: { overlay?: Overlay; paths?: Paths; controller?: Controller } = {}
  const ownMtu = () => underlayMtu(rtnl, advertise.address)
  const service = startCluster({
    store,
    cache: parts.cache,
    clock,
    rng,
    log,
    hostId: parts.hostId,
    hostName: hostname(),
    version: parts.version,
    advertise,
    ...(config.ttlSeconds === undefined ? {} : { leaseSeconds: config.ttlSeconds }),
    mtu: () => late.paths?.smallest() ?? ownMtu(),
    surveyPaths: async (survey) => late.paths?.survey(survey),
    routes: () => [...parts.hostUse().reserved],
    space: parts.space,
    inUse: () => {
      const { reserved, avoid } = parts.hostUse()
      return [...reserved, ...avoid]
    },
    names: parts.dns,
    onEvent: parts.onEvent,
    onConflict: parts.onConflict,
    readKernel: (networkId) => late.overlay?.kernelEntries(networkId) ?? [],
    repairKernel: (networkId) => late.overlay?.repair(networkId),
  })
  const overlay = new Overlay({
    ...parts,
    view: service.view,
    vtep: advertise.address,
    store,
    onRepair: (networkId, findings) => {
      service.kernelRepaired(networkId)
      const name = service.view.network(networkId)?.name ?? networkId.slice(0, 12)
      for (const { subject, wrong } of findings)
        late.controller?.noteRepair({ at: clock.now(), subject: `${subject} of network ${name}`, wrong, repair: 'put right' })
    },
  })
  late.overlay = overlay
  const paths = new Paths({
    view: service.view,
    source: advertise.address,
    port: VXLAN_PORT,
    mtu: ownMtu,
    need: () => overlay.largestPacket(),
    reactor: parts.reactor,
    clock,
    rng,
    log,
    onSmallest: () => service.hostChanged(),
  })
  late.paths = paths
  const authority = overlay.wrap(service.authority)
  const pooled = new Map(pooledDrivers().map((driver): [string, Authority] => [driver.name, new PoolAuthority(service.pools, driver)]))
  return {
    service,
    store: flags.store,
    advertise: `${host.includes(':') ? `[${host}]` : host}:${port}`,
    drivers: [overlayDriver],
    findAuthority: (driver, ipamDriver) => (driver === 'overlay' ? authority : ipamDriver === POOL_IPAM ? pooled.get(driver) : undefined),
    whyUnknown: () => service.whyUnknown(),
    begin(controller) {
      late.controller = controller
      void overlay.begin()
      service.begin({
        networks: () => controller.listNetworks().filter((network) => network.driver === 'overlay'),
        adopt: (network) => controller.adopt(network),
        abandon: (networkId) => controller.abandon(networkId),
      })
    },
    async close(isIdle) {
      paths.close()
      await overlay.close(isIdle)
      await service.close()
      await store.close()
    },
  }
}

/** For an engine that is in no cluster: addresses of the IPAM driver `causeway` are the engine's own. */
export const withoutCluster: Outside = {
  findAuthority: (driver, ipamDriver) =>
    ipamDriver === POOL_IPAM && pooledDrivers().some(({ name }) => name === driver) ? localPools : undefined,
}

/** The engine's own drivers whose networks have addresses. */
function pooledDrivers(): Driver[] {
  return builtinDrivers.filter(({ withoutIpam }) => !withoutIpam)
}

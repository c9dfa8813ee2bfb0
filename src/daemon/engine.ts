/** The wiring: the one place that makes the parts and connects them. */
import { mkdirSync, readFileSync } from 'node:fs'
import { clusterRoutes } from '../api/routes/cluster.ts'
import { wireRoutes } from '../api/routes/wires.ts'
import type { ApiServer } from '../api/server.ts'
import { createApiServer } from '../api/server.ts'
import { cidrOverlaps, parseCidr } from '../base/address.ts'
import { systemClock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import { hex } from '../base/ids.ts'
import type { Logger } from '../base/ports.ts'
import { systemRng } from '../base/rng.ts'
import { createEventBus } from '../containers/events.ts'
import { Images } from '../containers/images.ts'
import { LayerStore } from '../containers/layers.ts'
import { OverlayRootfs } from '../containers/rootfs.ts'
import { Runtimes } from '../containers/runtimes.ts'
import { Containers } from '../containers/service.ts'
import { findInitProgram, userIn } from '../containers/start-facts.ts'
import { Volumes } from '../containers/volumes.ts'
import { parseResolvConf, readHostResolv, watchHostResolv } from '../dns/host-resolv.ts'
import { DnsService } from '../dns/service.ts'
import { ALIAS_PREFIX } from '../drivers/bridge/bridge.ts'
import { Controller } from '../engine/controller.ts'
import { Guardian } from '../engine/guardian.ts'
import type { NetworkEvent } from '../engine/types.ts'
import { Cni } from '../faces/cni/cni.ts'
import { createDockerPlugin } from '../faces/docker-plugin/docker-plugin.ts'
import { type Check, examine } from '../insight/doctor.ts'
import { interfaceCounters } from '../insight/interface-counters.ts'
import { vethRows } from '../insight/veth.ts'
import { AddressSpace } from '../ipam/address-space.ts'
import { type HostSubnets, hostSubnets, subnetConflicts } from '../ipam/host-subnets.ts'
import { Conntrack } from '../kernel/conntrack.ts'
import { openFirewalld } from '../kernel/firewalld.ts'
import { ForeignFirewall } from '../kernel/foreign-firewall.ts'
import { holdNat, type NatAnchor } from '../kernel/nat-anchor.ts'
import { Nft } from '../kernel/nft.ts'
import { openRtnl } from '../kernel/rtnl.ts'
import { socketTable } from '../kernel/sockets.ts'
import type { Rtnl } from '../kernel/types.ts'
import { createRemoteDrivers } from '../remote/remote-drivers.ts'
import { openLmdbStore } from '../store/lmdb-store.ts'
import { dump } from '../store/types.ts'
import { keepFromChildren } from '../sys/descriptors.ts'
import { type Lock, lockFile, lockInNetns } from '../sys/locks.ts'
import { initNetns } from '../sys/netns.ts'
import { bootId } from '../sys/pidfile.ts'
import { run } from '../sys/process.ts'
import { Reactor } from '../sys/reactor.ts'
import { tryReadSysctl } from '../sys/sysctl.ts'
import { openCluster, withoutCluster } from './cluster.ts'
import { KernelForCni } from './cni-kernel.ts'
import type { DaemonConfig } from './config.ts'
import { crashPoint } from './crash-point.ts'
import { chooseDefaultBridge } from './default-bridge.ts'
import { displacer } from './displaced.ts'
import { openLan } from './lan.ts'
import { combine } from './outside.ts'
import { collectWhenQuiet } from './quiet-memory.ts'
import { openSdn } from './sdn.ts'
import { systemInfo, versionFacts } from './system-info.ts'

export interface RunningEngine {
  readonly api: ApiServer
  /** CNI's verbs, for its socket or for a single call. */
  readonly cni: Cni
  /** Stops serving and watching; containers go on. When none runs, everything of ours leaves the kernel. */
  close(): Promise<void>
}

export interface EngineMode {
  /** For a single call: containers that wait for their start go on waiting. */
  readonly once?: boolean
}

/** A CNI network whose last container has gone stays this long, because the next container often comes at once. */
const CNI_LINGER_MS = 5_000

/** Builds the engine and takes up whatever an earlier one left. Throws when the default bridge or the store cannot be had. */
export async function startEngine(
  config: DaemonConfig,
  log: Logger,
  onShutdown: () => void,
  mode: EngineMode = {},
): Promise<RunningEngine> {
  const done: (() => unknown)[] = []
  try {
    return await build(config, log, onShutdown, done, mode)
  } catch (error) {
    for (const undo of done.reverse())
      try {
        await undo()
      } catch (cause) {
        log.warn('cleanup after a failed start is incomplete', { error: messageOf(cause) })
      }
    throw error
  }
}

/** `done` collects how to take back what a start that fails has done. */
async function build(
  config: DaemonConfig,
  log: Logger,
  onShutdown: () => void,
  done: (() => unknown)[],
  mode: EngineMode,
): Promise<RunningEngine> {
  await initNetns()
  mkdirSync(config.dataRoot, { recursive: true, mode: 0o711 })
  const locks = takeLocks(config, done)
  mkdirSync(`${config.execRoot}/netns`, { recursive: true, mode: 0o755 })
  const clock = systemClock
  const rng = systemRng
  const crashing = crashPoint(process.env['CAUSEWAY_CRASH_AT'])
  const store = crashing(openLmdbStore({ dir: `${config.dataRoot}/store`, bootId: bootId(), clock, logger: log }), [
    'put',
    'remove',
    'transaction',
  ])
  keepFromChildren() // lmdb opens its file a second time without close-on-exec
  done.push(() => store.close())
  const runtimes = new Runtimes({ run: config.execRoot, configured: config.runtimes, fallback: config.runtime })
  const [reactor, dns, runtimeVersion] = await Promise.all([
    Reactor.start({ logger: log }),
    DnsService.start({ logger: log }),
    versionOf(runtimes.default.path ?? ''),
  ])
  const rtnl = crashing(openRtnl(), ['apply'])
  const nft = crashing(Nft.open(), ['change', 'ensureTables', 'removeAll'])
  const conntrack = Conntrack.open()
  done.push(async () => {
    await Promise.all([reactor.close(), dns.close()])
    nft.close()
    conntrack.close()
    rtnl.close()
  })

  let hostId = store.get<string>('host')
  if (hostId === undefined) {
    hostId = hex(rng.bytes(16))
    store.put('host', hostId)
  }
  const pools = config.networking.addressPools?.map((p) => ({ base: parseCidr(p.base), size: p.size }))
  const ipam = new AddressSpace({ hostId, ...(pools ? { pools } : {}) })
  const hostUse = (): HostSubnets =>
    hostSubnets({
      routes: rtnl.routes({ table: 'all' }),
      nameservers: parseResolvConf(readHostResolv().text).nameservers,
      // bridges of removed networks that the kernel has not let go of yet do not count either: their subnets are free
      ownDevices: new Set([...controller.host.wantedNames(), ...markedLinks(rtnl)].filter((name) => !controller.isOnLan(name))),
    })
  const events = createEventBus(clock, (error) => log.warn('event listener failed', { error: messageOf(error) }))
  const publishNetworkEvent = (
    event: Pick<NetworkEvent, 'action' | 'network' | 'containerId' | 'attributes'>,
    more: Readonly<Record<string, string>> = {},
  ) =>
    events.publish({
      Type: 'network',
      Action: event.action,
      Actor: {
        ID: event.network.id,
        Attributes: {
          name: event.network.name,
          type: event.network.driver,
          ...(event.containerId ? { container: event.containerId } : {}),
          ...event.attributes,
          ...more,
        },
      },
    })
  const device = chooseDefaultBridge(rtnl, log)
  const plugins = createRemoteDrivers({
    log,
    clock,
    rng,
    isUsedByHost: (subnet) => hostUse().reserved.some((used) => cidrOverlaps(used, parseCidr(subnet))),
  })
  done.push(() => plugins.close())
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
  // images, root file systems, volumes, containers and wires ask each other who uses what; the arrows are tied here
  const late: { containers?: Containers } = {}
  const lan = openLan({ store, rtnl, reactor, clock, rng, log, crashing, controller: () => controller, containers: () => late.containers })
  done.push(() => lan.close())
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
    netnsDir: `${config.execRoot}/netns`,
    hostUse,
    space: ipam,
    onEvent: (event) => publishNetworkEvent(event, { host: event.host }),
    onConflict: displacer({ controller: () => controller, containers: () => late.containers, clock, log }),
  })
  done.push(() => cluster?.close(false))
  const sdn = openSdn({ store, rtnl, clock, rng, log, hostId, env: process.env })
  done.push(() => sdn.close())
  const outside = combine([dockers, cluster ?? withoutCluster, lan, sdn, plugins])
  const controller = new Controller({
    env: { store, rtnl, nft, conntrack, dns, reactor, clock, rng, log, netnsDir: `${config.execRoot}/netns`, cards: lan.cards },
    config: { ...config.networking, defaultBridgeName: device },
    ipam,
    sockets: socketTable(),
    ephemeral: ephemeralPorts,
    hostUse,
    hostFile: () => ({ path: '/etc/hosts', text: readOptional('/etc/hosts') }),
    ...outside,
  })
  done.push(async () => {
    // what containers that still run stand on stays
    if (!store.list<{ mode: string }>('sandbox/').some(([, record]) => record.mode !== 'host')) await controller.removeEverything()
  })
  controller.start()

  controller.onEvent((event) => publishNetworkEvent(event))
  const firewalld = openFirewalld({ clock, log, bridges: () => controller.forwarding.bridgeNames() })
  done.push(() => firewalld.close())
  controller.onEvent(() => void firewalld.settle())
  const layers = new LayerStore(config.dataRoot)
  const allContainers = () => late.containers?.list() ?? []
  const images: Images = new Images({
    store,
    layers,
    clock,
    events,
    usersOf: (imageId) =>
      allContainers()
        .filter((c) => c.imageId === imageId)
        .map((c) => ({ id: c.id, isRunning: c.state.status === 'running' || c.state.status === 'paused' })),
    layersHeld: () => rootfs.layersInUse(),
  })
  const rootfs: OverlayRootfs = new OverlayRootfs({
    root: config.dataRoot,
    store,
    layers,
    image: (imageId) => images.get(imageId),
    liveRoot: (id) => {
      const pid = late.containers?.find(id)?.state.pid ?? 0
      return pid > 0 ? `/proc/${pid}/root` : undefined
    },
    mounts: (id) => late.containers?.find(id)?.mounts ?? [],
    nameOf: (id) => late.containers?.find(id)?.name,
    owner: (id, root) => {
      const user = late.containers?.find(id)?.config.User ?? ''
      return user === '' ? undefined : userIn(root, user, [])
    },
  })
  const volumes = new Volumes({
    root: config.dataRoot,
    store,
    clock,
    rng,
    events,
    usersOf: (name) =>
      allContainers()
        .filter((c) => c.mounts.some((m) => m.Type === 'volume' && m.Name === name))
        .map((c) => c.id),
  })
  const containers = new Containers({
    root: config.dataRoot,
    run: config.execRoot,
    controller,
    images,
    volumes,
    rootfs,
    store,
    clock,
    rng,
    log,
    events,
    reactor,
    runtimes,
    interfaceCounters: (id) => interfaceCounters(controller, id),
    hostReady: () => firewalld.settle(),
  })
  late.containers = containers

  const live = await containers.restore()
  await controller.restore(live)
  cluster?.begin(controller)
  await rootfs.restore(live)
  await volumes.restore((message, fields) => log.warn(message, fields))
  await images.restore()
  await lan.begin(events)

  const repairs: unknown[] = []
  controller.onRepair((event) => {
    repairs.push(event)
    if (repairs.length > 256) repairs.shift()
  })
  const foreign = new ForeignFirewall({ log, firewalld })
  const meetOthers = () => {
    foreign.ensureAccept()
    void firewalld.settle()
  }
  meetOthers()
  const guardian = new Guardian({ controller, clock, log, pid: process.pid, onForeignRules: meetOthers })
  guardian.start(reactor)
  const anchor = tryHoldNat(log)
  const followResolver = () => {
    const resolv = readHostResolv()
    controller.files.hostChanged(resolv)
    dns.setHostUpstreams(parseResolvConf(resolv.text).nameservers.map((ip) => ({ ip })))
    controller.hostRoutes.forget()
  }
  followResolver()
  const stopCollecting = collectWhenQuiet(clock)
  const stopFollowing = watchHostResolv(clock, followResolver)
  if (!mode.once) await containers.startPending()
  if (!mode.once && config.dockerPlugins !== '') await dockers.listen(config.dockerPlugins)

  const api = await createApiServer({
    controller,
    containers,
    images,
    volumes,
    events,
    clock,
    log,
    info: () => ({
      ...systemInfo(hostId, config, runtimes),
      ...(cluster ? { ClusterStore: cluster.store, ClusterAdvertise: cluster.advertise } : {}),
    }),
    version: versionFacts({ name: runtimes.default.name, version: runtimeVersion }),
    shutdown: onShutdown,
    veth: () => vethRows({ controller, containers, rtnl }),
    doctor: () => doctor(config, foreign, conflicts(controller, rtnl)),
    debugState: () => ({ store: dump(store), repairs: repairs.slice() }),
    extensions: [...clusterRoutes(() => cluster?.service), ...wireRoutes(lan.wires)],
  })
  const cni = new Cni({
    controller,
    kernel: new KernelForCni(rtnl),
    clock,
    log,
    lingerMs: mode.once ? 0 : CNI_LINGER_MS,
    resolves: !mode.once,
  })
  return {
    api,
    cni,
    async close() {
      cni.close()
      guardian.close()
      await dockers.close()
      plugins.close()
      stopFollowing()
      stopCollecting()
      await api.close()
      containers.close()
      const idle = controller.registry.all().every((record) => record.mode === 'host')
      if (idle) {
        await controller.removeEverything()
        await lan.wires.unplugAll()
        foreign.removeAccept()
        await firewalld.remove()
      } else log.info('containers go on; `causeway up` takes them up again', { sandboxes: controller.registry.all().length })
      await controller.close()
      await cluster?.close(idle)
      lan.close()
      sdn.close()
      await dns.close()
      await reactor.close()
      firewalld.close()
      anchor?.close()
      nft.close()
      conntrack.close()
      rtnl.close()
      await store.close()
      for (const lock of locks) lock.release()
    },
  }
}

/** One engine for each folder, and one for each network namespace, whose firewall table and bridges it owns. */
function takeLocks(config: DaemonConfig, done: (() => unknown)[]): Lock[] {
  const locks: Lock[] = []
  done.push(() => locks.forEach((lock) => void lock.release()))
  mkdirSync(config.execRoot, { recursive: true, mode: 0o755 })
  for (const root of new Set([config.dataRoot, config.execRoot])) locks.push(lockFile(`${root}/lock`, root))
  locks.push(
    lockInNetns('causeway-engine', 'another engine is running in this network namespace: there can be one, it owns the firewall table'),
  )
  return locks
}

/** Links that carry our mark, whether they are wanted or about to go. */
function markedLinks(rtnl: Rtnl): string[] {
  return rtnl
    .links()
    .filter((link) => link.alias.startsWith(ALIAS_PREFIX) && !link.alias.startsWith(`${ALIAS_PREFIX}nic:`))
    .map((link) => link.name)
}

/** Without it a flush of all rules may cut connections; nothing else is missing. */
function tryHoldNat(log: Logger): NatAnchor | undefined {
  try {
    return holdNat()
  } catch (error) {
    log.info('connections may be cut when another program flushes all firewall rules', { error: messageOf(error) })
    return undefined
  }
}

/** First line's version of an OCI runtime, '' when it does not say. */
async function versionOf(runtime: string): Promise<string> {
  try {
    return /version (\S+)/.exec((await run([runtime, '--version'])).stdout)?.[1] ?? ''
  } catch {
    return '' // missing: the container service says so
  }
}

function ephemeralPorts(): { first: number; last: number } {
  const [first, last] = (tryReadSysctl('net/ipv4/ip_local_port_range') ?? '49153\t65535').split(/\s+/).map(Number) as [number, number]
  return { first, last }
}

function readOptional(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '127.0.0.1\tlocalhost\n'
  }
}

const PROGRAMS = [
  { name: 'runc', need: 'no container can be started: install runc' },
  { name: 'conmon', need: 'no container can be started: install conmon' },
  { name: 'busybox', need: '`causeway image bootstrap` has nothing to make an image of: install busybox-static' },
  { name: 'skopeo', need: 'images cannot be pulled or pushed: install skopeo' },
  { name: 'nft', need: 'nothing; people read the rules with it' },
  { name: 'conntrack', need: 'nothing; people read flows with it' },
]

/** Networks whose subnet the host has come to use otherwise, for example because a VPN was started. */
function conflicts(controller: Controller, rtnl: Rtnl): Check[] {
  const networks = controller.listNetworks()
  const subnets = networks.flatMap((network) => network.pools.map((pool) => pool.subnet))
  const ownDevices = new Set(controller.host.wantedNames())
  return subnetConflicts(subnets, rtnl.routes({ table: 'all' }), ownDevices).map(({ subnet, route }) => ({
    area: 'subnets',
    name: networks.find((network) => network.pools.some((pool) => pool.subnet === subnet))?.name ?? subnet,
    state: 'note',
    found: `${subnet} overlaps the route to ${route.dst}${route.dev === undefined ? '' : ` by ${route.dev}`}`,
    cost: 'one of the two is not reached: make the network anew with another subnet',
  }))
}

function doctor(config: DaemonConfig, foreign: ForeignFirewall, subnets: readonly Check[]): Check[] {
  const firewalls: Check[] = foreign
    .describe()
    .map((f) => ({ area: 'firewall', name: f.name, state: 'note', found: f.found, cost: f.effect }))
  const init = { name: 'catatonit', need: 'containers cannot have an init process (--init): install catatonit', path: findInitProgram() }
  return examine(`${config.execRoot}/netns/doctor`, [...PROGRAMS, init], [...firewalls, ...subnets])
}

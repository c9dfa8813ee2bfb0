/** The wiring: makes the parts of an engine in their order, takes up what an earlier one left, and takes all back in reverse. */
import { clusterRoutes } from '../api/routes/cluster.ts'
import { wireRoutes } from '../api/routes/wires.ts'
import { type ApiServer, createApiServer } from '../api/server.ts'
import { messageOf } from '../base/errors.ts'
import type { Logger } from '../base/ports.ts'
import { createEventBus } from '../containers/events.ts'
import { Cni } from '../faces/cni/cni.ts'
import { vethRows } from '../insight/veth.ts'
import { dump } from '../store/types.ts'
import { KernelForCni } from './cni-kernel.ts'
import type { DaemonConfig } from './config.ts'
import { type ContainerParts, openContainers } from './container-parts.ts'
import { type Closers, type Foundation, openFoundation } from './foundation.ts'
import { doctor } from './health.ts'
import { type LateContainers, type Networking, openNetworking } from './networking.ts'
import { systemInfo, versionFacts } from './system-info.ts'
import { beginUpkeep } from './upkeep.ts'

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
  const closers: Closers = []
  try {
    return { ...(await build(config, log, onShutdown, closers, mode)), close: () => closeAll(closers) }
  } catch (error) {
    await closeAll(closers, (cause) => log.warn('cleanup after a failed start is incomplete', { error: messageOf(cause) }))
    throw error
  }
}

async function build(
  config: DaemonConfig,
  log: Logger,
  onShutdown: () => void,
  closers: Closers,
  mode: EngineMode,
): Promise<Omit<RunningEngine, 'close'>> {
  const base = await openFoundation(config, log, closers)
  const { store, clock, rtnl, hostId, runtimes } = base
  const events = createEventBus(clock, (error) => log.warn('event listener failed', { error: messageOf(error) }))
  const late: LateContainers = {}
  const networking = openNetworking(base, events, late, closers)
  const { controller, dockers, lan, cluster } = networking
  const parts = openContainers(base, networking, events, late, closers)
  await restore(base, networking, parts)
  await lan.begin(events)
  const { foreign, repairs } = beginUpkeep(base, networking, closers)
  // who is told that the engine runs may use the cluster's networks at once
  if (!mode.once) await cluster?.service.firstLook()
  if (!mode.once) await parts.containers.startPending()

  const { images, volumes, containers } = parts
  const api = await createApiServer({
    controller,
    containers,
    images,
    volumes,
    events,
    clock,
    log,
    info: () => {
      const facts = systemInfo(hostId, config, runtimes)
      if (cluster === undefined) return facts
      const gap = cluster.service.whyUnknown()
      const Warnings = [...(facts.Warnings ?? []), ...(gap === undefined ? [] : [`WARNING: ${gap}`])]
      return { ...facts, Warnings, ClusterStore: cluster.store, ClusterAdvertise: cluster.advertise }
    },
    version: versionFacts({ name: runtimes.default.name, version: base.runtimeVersion }),
    shutdown: onShutdown,
    veth: () => vethRows({ controller, containers, rtnl }),
    doctor: () => doctor(config, foreign, controller, rtnl),
    debugState: () => ({ store: dump(store), repairs: repairs() }),
    extensions: [...clusterRoutes(() => cluster?.service), ...wireRoutes(lan.wires)],
  })
  closers.push(() => api.close())
  closers.push(() => dockers.close())
  if (!mode.once && config.dockerPlugins !== '') await dockers.listen(config.dockerPlugins)
  const lingerMs = mode.once ? 0 : CNI_LINGER_MS
  const cni = new Cni({ controller, kernel: new KernelForCni(rtnl), clock, log, lingerMs, resolves: !mode.once })
  closers.push(() => cni.close())
  return { api, cni }
}

/** Takes up what an earlier engine left: who lives, then their networks, then what they stand on. */
async function restore({ log }: Foundation, { controller, cluster }: Networking, parts: ContainerParts): Promise<void> {
  const { containers, rootfs, volumes, images } = parts
  const live = await containers.restore()
  await controller.restore(live)
  cluster?.begin(controller)
  await rootfs.restore(live)
  await volumes.restore((message, fields) => log.warn(message, fields))
  await images.restore()
}

/** In reverse order. Without `onError` the first error ends it. */
async function closeAll(closers: Closers, onError?: (cause: unknown) => void): Promise<void> {
  for (const close of closers.splice(0).reverse())
    try {
      await close()
    } catch (cause) {
      if (onError === undefined) throw cause
      onError(cause)
    }
}

/** Images, root file systems, volumes and containers, which ask each other who uses what: the arrows are tied here. */
import { Images } from '../containers/images.ts'
import { LayerStore } from '../containers/layers.ts'
import { OverlayRootfs } from '../containers/rootfs.ts'
import { Containers } from '../containers/service.ts'
import { userIn } from '../containers/start-facts.ts'
import type { EventBus } from '../containers/types.ts'
import { Volumes } from '../containers/volumes.ts'
import { interfaceCounters } from '../insight/interface-counters.ts'
import type { Closers, Foundation } from './foundation.ts'
import type { LateContainers, Networking } from './networking.ts'

export interface ContainerParts {
  readonly images: Images
  readonly rootfs: OverlayRootfs
  readonly volumes: Volumes
  readonly containers: Containers
}

/** Makes the parts; `late` gets the containers. What an earlier engine left is taken up by each one's `restore`. */
export function openContainers(
  base: Foundation,
  { controller, firewalld }: Networking,
  events: EventBus,
  late: LateContainers,
  closers: Closers,
): ContainerParts {
  const { config, store, clock, rng, log, reactor, runtimes } = base
  const root = config.dataRoot
  const layers = new LayerStore(root)
  const all = () => late.containers?.list() ?? []
  const images: Images = new Images({
    store,
    layers,
    clock,
    events,
    usersOf: (imageId) =>
      all()
        .filter((c) => c.imageId === imageId)
        .map((c) => ({ id: c.id, isRunning: c.state.status === 'running' || c.state.status === 'paused' })),
    layersHeld: () => rootfs.layersInUse(),
  })
  const rootfs: OverlayRootfs = new OverlayRootfs({
    root,
    store,
    layers,
    image: (imageId) => images.get(imageId),
    liveRoot: (id) => {
      const pid = late.containers?.find(id)?.state.pid ?? 0
      return pid > 0 ? `/proc/${pid}/root` : undefined
    },
    mounts: (id) => late.containers?.find(id)?.mounts ?? [],
    nameOf: (id) => late.containers?.find(id)?.name,
    owner: (id, tree) => {
      const user = late.containers?.find(id)?.config.User ?? ''
      return user === '' ? undefined : userIn(tree, user, [])
    },
  })
  const volumes = new Volumes({
    root,
    store,
    clock,
    rng,
    events,
    usersOf: (name) =>
      all()
        .filter((c) => c.mounts.some((m) => m.Type === 'volume' && m.Name === name))
        .map((c) => c.id),
  })
  const containers = new Containers({
    root,
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
  closers.push(() => containers.close())
  late.containers = containers
  return { images, rootfs, volumes, containers }
}

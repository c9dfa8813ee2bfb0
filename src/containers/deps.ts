/** What the container service stands on; the daemon gives the real ones, tests may give smaller ones. */
import type { Clock, Logger, Rng } from '../base/ports.ts'
import type { NetworkController } from '../engine/types.ts'
import type { Store } from '../store/types.ts'
import type { RootfsService } from './rootfs-types.ts'
import type { Runtimes } from './runtimes.ts'
import type { EventBus, ImageService, VolumeService } from './types.ts'

export interface Subscription {
  pause(): void
  resume(): void
  close(): void
}

/** The part of `sys/reactor.ts` that containers need: descriptors that Node's own loop cannot watch. */
export interface PacketReactor {
  /** `onEnd` comes once, after the last packet. */
  onPackets(fd: number, onPackets: (packets: Uint8Array[]) => void, onEnd: () => void): Subscription
  onReadable(fd: number, onReadable: () => void): Subscription
  onWritableOnce(fd: number, onWritable: () => void): unknown
}

/** Interface counters of a container, Docker's spelling, by interface name. */
export type InterfaceCounters = (containerId: string) => Readonly<Record<string, Readonly<Record<string, number>>>>

export interface ContainerDeps {
  /** Durable state, for example /var/lib/causeway. */
  readonly root: string
  /** State of this boot, for example /run/causeway. */
  readonly run: string
  readonly controller: NetworkController
  readonly images: ImageService
  readonly volumes: VolumeService
  readonly rootfs: RootfsService
  readonly store: Store
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
  readonly events: EventBus
  readonly reactor: PacketReactor
  /** The OCI runtimes; what is installed when not given. */
  readonly runtimes?: Runtimes
  readonly interfaceCounters?: InterfaceCounters
  /** Resolves when the host lets the networks' traffic through; asked between a container's network and its process. Bounded. */
  readonly hostReady?: () => Promise<void>
}

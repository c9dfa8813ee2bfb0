/** A container as it is stored, and the snapshot of it that the service hands out. */
import type { Container, ContainerConfig, ContainerState, EndpointSettingsJson, HostConfig } from './types.ts'

export interface MountPoint {
  readonly Type: string
  readonly Name?: string
  readonly Source: string
  readonly Destination: string
  readonly Driver?: string
  readonly Mode: string
  readonly RW: boolean
  readonly Propagation: string
  /** Mount options of a tmpfs, or extra ones of a bind. */
  readonly options?: readonly string[]
  /** The volume was made for this container only and goes with it when asked. */
  readonly anonymous?: boolean
  /** Fill an empty volume with what the image has at this place, at the first start. */
  readonly copyUp?: boolean
}

/** A legacy link: this container knows `target` as `alias`. */
export interface Link {
  readonly target: string
  readonly alias: string
}

/** The processes of a running container. A pid alone is not enough: it may be somebody else's after a reboot. */
export interface LiveProcess {
  readonly pid: number
  readonly startTime: number
  readonly monitorPid: number
  readonly monitorStartTime: number
}

export interface ContainerRecord {
  readonly id: string
  readonly name: string
  readonly created: string
  readonly config: ContainerConfig
  /** Without Links, which are kept apart as ids so that renames do not matter. */
  readonly hostConfig: HostConfig
  readonly endpoints: Readonly<Record<string, EndpointSettingsJson>>
  readonly imageId: string
  readonly path: string
  readonly args: readonly string[]
  readonly links: readonly Link[]
  readonly mounts: readonly MountPoint[]
  readonly graph: Readonly<Record<string, string>>
  readonly state: ContainerState
  readonly restartCount: number
  /** Ended by stop or kill: restart policies leave it alone. */
  readonly manuallyStopped: boolean
  readonly copiedUp: boolean
  readonly live?: LiveProcess
}

export interface SnapshotContext {
  /** Root of the state directory, see {@link containerDir}. */
  readonly root: string
  readonly nameOf: (id: string) => string | undefined
  readonly execIds: readonly string[]
  readonly files: { readonly hosts: string; readonly resolvConf: string; readonly hostname: string }
}

/** Folder of a container's durable files: log, hosts, resolv.conf, hostname. */
export function containerDir(root: string, id: string): string {
  return `${root}/containers/${id}`
}

/** Newest file of a container's log. */
export function logPathOf(root: string, id: string): string {
  return `${containerDir(root, id)}/container.log`
}

/** The container as the API shows it: the record, with what follows from where its parts are. */
export function snapshot(record: ContainerRecord, context: SnapshotContext): Container {
  const links = record.links.flatMap((link) => {
    const target = context.nameOf(link.target)
    return target === undefined ? [] : [`/${target}:/${record.name}/${link.alias}`]
  })
  return {
    id: record.id,
    name: record.name,
    created: record.created,
    config: record.config,
    hostConfig: { ...record.hostConfig, Links: links.length === 0 ? null : links },
    endpoints: record.endpoints,
    imageId: record.imageId,
    path: record.path,
    args: record.args,
    state: record.state,
    restartCount: record.restartCount,
    mounts: record.mounts.map(({ options: _o, anonymous: _a, copyUp: _c, ...mount }) => mount),
    logPath: logPathOf(context.root, record.id),
    execIds: context.execIds,
    files: context.files,
    graph: record.graph,
  }
}

/** Running for Docker: also while it is paused, and while it waits for its next start. */
export function isRunning(state: ContainerState): boolean {
  return state.status === 'running' || state.status === 'paused' || state.status === 'restarting'
}

/**
 * The container, image, volume and event services as the API sees them. Configuration keeps Docker's spelling
 * (PascalCase), because it is stored, echoed and compared field by field with what Docker's clients send.
 * Unknown fields of a request are kept and echoed.
 */
import type { Readable, Writable } from 'node:stream'
import type { PortChange } from './live-ports.ts'

export interface PortBindingJson {
  HostIp?: string
  HostPort?: string
}

export interface EndpointSettingsJson {
  IPAMConfig?: { IPv4Address?: string; IPv6Address?: string; LinkLocalIPs?: string[] } | null
  Links?: string[] | null
  Aliases?: string[] | null
  DriverOpts?: Record<string, string> | null
  GwPriority?: number
  MacAddress?: string
  NetworkID?: string
  [key: string]: unknown
}

/** POST /containers/create's top level, without HostConfig and NetworkingConfig. */
export interface ContainerConfig {
  Hostname?: string
  Domainname?: string
  User?: string
  AttachStdin?: boolean
  AttachStdout?: boolean
  AttachStderr?: boolean
  ExposedPorts?: Record<string, object> | null
  Tty?: boolean
  OpenStdin?: boolean
  StdinOnce?: boolean
  Env?: string[] | null
  Cmd?: string[] | null
  Entrypoint?: string[] | string | null
  Image?: string
  Volumes?: Record<string, object> | null
  WorkingDir?: string
  MacAddress?: string
  NetworkDisabled?: boolean
  Labels?: Record<string, string> | null
  StopSignal?: string
  StopTimeout?: number | null
  Healthcheck?: { Test?: string[]; Interval?: number; Timeout?: number; Retries?: number; StartPeriod?: number; StartInterval?: number }
  [key: string]: unknown
}

export interface HostConfig {
  Binds?: string[] | null
  Mounts?: Record<string, unknown>[] | null
  NetworkMode?: string
  PortBindings?: Record<string, PortBindingJson[] | null> | null
  PublishAllPorts?: boolean
  RestartPolicy?: { Name?: string; MaximumRetryCount?: number }
  AutoRemove?: boolean
  CapAdd?: string[] | null
  CapDrop?: string[] | null
  Dns?: string[] | null
  DnsOptions?: string[] | null
  DnsSearch?: string[] | null
  ExtraHosts?: string[] | null
  Links?: string[] | null
  Privileged?: boolean
  ReadonlyRootfs?: boolean
  Tmpfs?: Record<string, string> | null
  Sysctls?: Record<string, string> | null
  Init?: boolean | null
  Memory?: number
  NanoCpus?: number
  CpuShares?: number
  CpuQuota?: number
  CpuPeriod?: number
  PidsLimit?: number | null
  UTSMode?: string
  IpcMode?: string
  PidMode?: string
  ShmSize?: number
  LogConfig?: { Type?: string; Config?: Record<string, string> }
  [key: string]: unknown
}

export interface CreateRequest {
  readonly name?: string
  readonly config: ContainerConfig
  readonly hostConfig: HostConfig
  readonly endpoints: Readonly<Record<string, EndpointSettingsJson>>
}

export type ContainerStatus = 'created' | 'running' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead'

export interface ContainerState {
  readonly status: ContainerStatus
  readonly pid: number
  readonly exitCode: number
  readonly oomKilled: boolean
  readonly error: string
  /** RFC3339 nano; Docker's zero time `0001-01-01T00:00:00Z` when never. */
  readonly startedAt: string
  readonly finishedAt: string
  readonly health?: { readonly status: string; readonly failingStreak: number; readonly log: readonly object[] }
}

/** A container as the service hands it out: an immutable snapshot. */
export interface Container {
  readonly id: string
  /** Without the leading slash. */
  readonly name: string
  readonly created: string
  readonly config: ContainerConfig
  readonly hostConfig: HostConfig
  /** Configured endpoints by network name (what start will attach, or what is attached now). */
  readonly endpoints: Readonly<Record<string, EndpointSettingsJson>>
  readonly imageId: string
  readonly path: string
  readonly args: readonly string[]
  readonly state: ContainerState
  readonly restartCount: number
  readonly mounts: readonly {
    Type: string
    Name?: string
    Source: string
    Destination: string
    Driver?: string
    Mode: string
    RW: boolean
    Propagation: string
  }[]
  readonly logPath: string
  readonly execIds: readonly string[]
  readonly files: { readonly hosts: string; readonly resolvConf: string; readonly hostname: string }
  /** Overlay directories. */
  readonly graph: Readonly<Record<string, string>>
}

export interface AttachOptions {
  readonly stdin: boolean
  readonly stdout: boolean
  readonly stderr: boolean
  readonly stream: boolean
  /** Replay the log first. */
  readonly logs: boolean
  readonly detachKeys?: string
}

/** One attached client: write stdin, read chunks tagged with their stream. `tty` streams are untagged (always stdout). */
export interface AttachSession {
  readonly tty: boolean
  readonly stdin: Writable
  /** Object mode: `{ stream: 'stdout' | 'stderr', data: Buffer }`. Ends when the process ends or the client detached. */
  readonly output: Readable
  close(): void
}

export interface LogOptions {
  readonly stdout: boolean
  readonly stderr: boolean
  readonly follow: boolean
  /** Seconds.nanoseconds since the epoch, or undefined. */
  readonly since?: number
  readonly until?: number
  readonly timestamps: boolean
  /** Text before every line, for example labels of the container. */
  readonly details?: string
  /** Number of lines, or undefined for all. */
  readonly tail?: number
}

export interface ExecConfig {
  AttachStdin?: boolean
  AttachStdout?: boolean
  AttachStderr?: boolean
  DetachKeys?: string
  Tty?: boolean
  Env?: string[] | null
  Cmd?: string[] | null
  Privileged?: boolean
  User?: string
  WorkingDir?: string
  ConsoleSize?: [number, number] | null
}

export interface ExecInfo {
  readonly id: string
  readonly containerId: string
  readonly config: ExecConfig
  readonly running: boolean
  readonly exitCode: number | null
  readonly pid: number
}

export type WaitCondition = 'not-running' | 'next-exit' | 'removed'

/** Errors are NetError with Docker's text: `No such container: x` (not-found), and so on. `ref` = name, id or unique id prefix. */
export interface ContainerService {
  create(request: CreateRequest): Promise<{ id: string; warnings: string[] }>
  /** Throws `not-modified` when it runs already. */
  start(ref: string, options?: { detachKeys?: string }): Promise<void>
  stop(ref: string, options?: { timeoutSeconds?: number; signal?: string }): Promise<void>
  restart(ref: string, options?: { timeoutSeconds?: number; signal?: string }): Promise<void>
  kill(ref: string, signal?: string): Promise<void>
  pause(ref: string): Promise<void>
  unpause(ref: string): Promise<void>
  wait(ref: string, condition: WaitCondition, signal: AbortSignal): Promise<{ exitCode: number; error?: string }>
  /** Ports were published or taken back while it runs: the next start does the same. */
  notePorts(ref: string, change: PortChange): void
  rename(ref: string, name: string): Promise<void>
  update(ref: string, change: Partial<HostConfig>): Promise<{ warnings: string[] }>
  remove(ref: string, options: { force: boolean; volumes: boolean; link: boolean }): Promise<void>
  /** All containers, newest first; the API filters. */
  list(): readonly Container[]
  get(ref: string): Container
  find(ref: string): Container | undefined
  sizeOf(ref: string): Promise<{ rw: number; rootFs: number }>
  top(ref: string, psArgs: string): Promise<{ titles: string[]; processes: string[][] }>
  /** One sample in Docker's stats JSON (the API computes precpu and streams). */
  stats(ref: string): Promise<Record<string, unknown>>
  logs(ref: string, options: LogOptions, signal: AbortSignal): AsyncIterable<{ stream: 'stdout' | 'stderr'; data: Buffer }>
  attach(ref: string, options: AttachOptions): Promise<AttachSession>
  resize(ref: string, rows: number, columns: number): Promise<void>
  changes(ref: string): Promise<{ Path: string; Kind: 0 | 1 | 2 }[]>
  export(ref: string): Promise<Readable>
  /** `docker commit`: an image of the container's image and what was written over it. A running container is paused meanwhile unless `pause` is false. */
  commit(ref: string, options: CommitOptions): Promise<{ id: string }>
  archiveStat(ref: string, path: string): Promise<{ name: string; size: number; mode: number; mtime: string; linkTarget: string }>
  archiveGet(ref: string, path: string): Promise<Readable>
  archivePut(ref: string, path: string, tar: Readable, options: { noOverwriteDirNonDir: boolean; copyUidGid: boolean }): Promise<void>
  execCreate(ref: string, config: ExecConfig): Promise<string>
  /** Undefined session when detached. */
  execStart(execId: string, options: ExecStartOptions): Promise<AttachSession | undefined>
  execInspect(execId: string): ExecInfo
  execResize(execId: string, rows: number, columns: number): Promise<void>
  /** Live connect when running, config only when not (Docker's rules and texts). */
  connectNetwork(ref: string, network: string, settings: EndpointSettingsJson): Promise<void>
  disconnectNetwork(ref: string, network: string, force: boolean): Promise<void>
}

export interface CommitOptions {
  readonly repo: string
  readonly tag: string
  readonly comment: string
  readonly author: string
  readonly pause: boolean
  /** Dockerfile instructions, as `docker import --change` takes. */
  readonly changes: readonly string[]
  /** Instead of the container's own configuration. */
  readonly config?: ContainerConfig
}

export interface ExecStartOptions {
  readonly detach: boolean
  readonly tty?: boolean
  readonly consoleSize?: [number, number]
  /** Called once when everything is checked and before the process is made: what fails later is an end of the process, not a refusal. */
  readonly onLaunch?: () => void
}

export interface ImageSummary {
  readonly id: string
  readonly parentId: string
  readonly repoTags: readonly string[]
  readonly repoDigests: readonly string[]
  readonly created: string
  readonly size: number
  readonly architecture: string
  readonly os: string
  readonly author: string
  /** The image configuration's `config` object, Docker's spelling. */
  readonly config: ContainerConfig
  readonly layers: readonly string[]
  /** Bytes of each layer; absent where nobody knows. */
  readonly layerSizes?: readonly number[]
  readonly comment: string
  readonly history: readonly { created?: string; created_by?: string; comment?: string; empty_layer?: boolean; author?: string }[]
  /** The container that the image was committed from, and its configuration then. */
  readonly container?: string
  readonly containerConfig?: ContainerConfig
}

export interface LoginRequest {
  readonly username: string
  readonly password: string
  /** Host, `host:port` or URL; empty = Docker Hub. */
  readonly registry: string
}

export interface LoginAnswer {
  readonly granted: boolean
  /** For people. */
  readonly status: string
}

export interface CommittedImage {
  readonly parent: string
  readonly containerId: string
  readonly containerConfig: ContainerConfig
  readonly config: ContainerConfig
  readonly author: string
  readonly comment: string
  /** Empty = no name. */
  readonly repo: string
  readonly tag: string
}

/** One line of Docker's JSON progress stream. */
export type Progress = (line: Record<string, unknown>) => void

export interface ImportOptions {
  readonly repo?: string
  readonly tag?: string
  /** Dockerfile instructions. */
  readonly changes?: readonly string[]
  /** The image's comment. */
  readonly message?: string
}

export interface ImageService {
  list(): readonly ImageSummary[]
  /** By name[:tag], name@digest, id or id prefix. Throws `No such image: x`. */
  get(ref: string): ImageSummary
  find(ref: string): ImageSummary | undefined
  pull(
    ref: string,
    tag: string,
    auth: { username?: string; password?: string } | undefined,
    progress: Progress,
    signal: AbortSignal,
    platform?: string,
  ): Promise<void>
  push(
    ref: string,
    tag: string,
    auth: { username?: string; password?: string } | undefined,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<void>
  /** Whether a registry takes these credentials. */
  login(request: LoginRequest, signal: AbortSignal): Promise<LoginAnswer>
  load(tar: Readable, progress: Progress): Promise<void>
  save(refs: readonly string[]): Promise<Readable>
  /** `docker import`: a flat root file system. Returns the image id. */
  import(tar: Readable, options: ImportOptions): Promise<string>
  /** The same with an archive that is fetched over HTTP or HTTPS. */
  importUrl(url: string, options: ImportOptions, progress: Progress, signal: AbortSignal): Promise<string>
  /** An image of `parent` and one more layer (a tar without its end mark), which is left out when it is empty. Returns the image id. */
  commit(layer: AsyncIterable<Buffer>, image: CommittedImage): Promise<{ id: string; ref: string }>
  /** `busybox:latest` from the host's static busybox. Idempotent; returns the image id. */
  bootstrap(): Promise<string>
  tag(ref: string, repo: string, tag: string): Promise<void>
  remove(ref: string, options: { force: boolean; noPrune: boolean }): Promise<({ Untagged: string } | { Deleted: string })[]>
  prune(options: {
    dangling: boolean
    until?: number
    /** Whether an image with these labels may go. */
    matches?: (labels: Readonly<Record<string, string>>) => boolean
  }): Promise<{ deleted: ({ Untagged: string } | { Deleted: string })[]; reclaimed: number }>
}

export interface Volume {
  readonly name: string
  readonly driver: string
  readonly mountpoint: string
  readonly createdAt: string
  readonly labels: Readonly<Record<string, string>>
  readonly options: Readonly<Record<string, string>>
  readonly scope: 'local'
  readonly anonymous: boolean
}

export interface VolumeService {
  /** Without a name, or with `anonymous`, it is one of a container's own. */
  create(options: {
    name?: string
    anonymous?: boolean
    driver?: string
    labels?: Record<string, string>
    options?: Record<string, string>
  }): Promise<Volume>
  list(): readonly Volume[]
  get(name: string): Volume
  /** Containers that use it. */
  usersOf(name: string): readonly string[]
  remove(name: string, force: boolean): Promise<void>
  sizeOf(name: string): Promise<number>
}

export interface EngineEvent {
  readonly Type: 'container' | 'image' | 'volume' | 'network' | 'daemon' | 'causeway'
  readonly Action: string
  readonly Actor: { readonly ID: string; readonly Attributes: Readonly<Record<string, string>> }
  readonly scope: 'local' | 'swarm'
  readonly time: number
  readonly timeNano: number
}

export interface EventBus {
  publish(event: Omit<EngineEvent, 'time' | 'timeNano' | 'scope'>): void
  /** The last 256 events, oldest first (as Docker keeps). */
  history(): readonly EngineEvent[]
  subscribe(listener: (event: EngineEvent) => void): () => void
}

/** Answers of the Docker Engine API, as far as this project's clients read them. Docker's spelling; absent means absent on the wire. */

export interface PortSummary {
  IP?: string
  PrivatePort: number
  PublicPort?: number
  Type: string
}

export interface ContainerSummary {
  Id: string
  Names: string[]
  Image: string
  ImageID: string
  Command: string
  Created: number
  Ports: PortSummary[] | null
  Labels: Record<string, string> | null
  State: string
  Status: string
  SizeRw?: number
  SizeRootFs?: number
  Mounts?: { Type?: string; Name?: string; Source?: string; Destination?: string }[] | null
  NetworkSettings?: { Networks?: Record<string, EndpointInspect> | null } | null
  ImageManifestDescriptor?: { platform?: { os?: string; architecture?: string } } | null
}

export interface EndpointInspect {
  NetworkID?: string
  EndpointID?: string
  Gateway?: string
  IPAddress?: string
  IPPrefixLen?: number
  IPv6Gateway?: string
  GlobalIPv6Address?: string
  GlobalIPv6PrefixLen?: number
  MacAddress?: string
  Aliases?: string[] | null
  DNSNames?: string[] | null
  GwPriority?: number
}

export interface ContainerInspect {
  Id: string
  Name: string
  Created: string
  Image: string
  RestartCount: number
  State: {
    Status: string
    Running: boolean
    Paused: boolean
    Restarting: boolean
    Pid: number
    ExitCode: number
    Error: string
    StartedAt: string
    FinishedAt: string
    Health?: { Status: string }
  }
  Config: { Tty: boolean; OpenStdin: boolean; AttachStdin: boolean; Image: string; Labels: Record<string, string> | null }
  HostConfig: { AutoRemove: boolean; NetworkMode: string; [key: string]: unknown }
  NetworkSettings: {
    SandboxID?: string
    SandboxKey?: string
    Ports?: Record<string, { HostIp: string; HostPort: string }[] | null> | null
    Networks?: Record<string, EndpointInspect> | null
  }
  SizeRw?: number
  SizeRootFs?: number
}

export interface NetworkInspect {
  Name: string
  Id: string
  Created: string
  Scope: string
  Driver: string
  EnableIPv4?: boolean
  EnableIPv6: boolean
  Internal: boolean
  Attachable: boolean
  Ingress: boolean
  Labels: Record<string, string> | null
  Options: Record<string, string> | null
  IPAM: { Driver: string; Options: Record<string, string> | null; Config: Record<string, unknown>[] | null }
  Containers?: Record<string, { Name: string; EndpointID: string; MacAddress: string; IPv4Address: string; IPv6Address: string }> | null
}

export interface NetworkCreateRequest {
  Name: string
  Driver: string
  Scope?: string
  EnableIPv4?: boolean
  EnableIPv6?: boolean
  IPAM: {
    Driver: string
    Options: Record<string, string>
    Config: { Subnet?: string; IPRange?: string; Gateway?: string; AuxiliaryAddresses?: Record<string, string> }[]
  }
  Internal: boolean
  Attachable: boolean
  Ingress: boolean
  ConfigOnly: boolean
  ConfigFrom?: { Network: string }
  Options: Record<string, string>
  Labels: Record<string, string>
}

export interface ImageSummaryJson {
  Id: string
  ParentId?: string
  RepoTags: string[] | null
  RepoDigests: string[] | null
  Created: number
  Size: number
  SharedSize?: number
  VirtualSize?: number
  Labels: Record<string, string> | null
  Containers: number
}

export interface ImageHistoryEntry {
  Id: string
  Created: number
  CreatedBy: string
  Size: number
  Comment: string
  Tags: string[] | null
}

export interface VolumeInspect {
  Name: string
  Driver: string
  Mountpoint: string
  CreatedAt?: string
  Labels: Record<string, string> | null
  Options: Record<string, string> | null
  Scope: string
  UsageData?: { Size: number; RefCount: number }
}

export interface ContainerCreateBody {
  [key: string]: unknown
  HostConfig: Record<string, unknown>
  NetworkingConfig: { EndpointsConfig: Record<string, Record<string, unknown>> }
}

export interface ContainerStats {
  id?: string
  name?: string
  read: string
  pids_stats?: { current?: number }
  cpu_stats?: CpuStats
  precpu_stats?: CpuStats
  memory_stats?: { usage?: number; limit?: number; stats?: Record<string, number> }
  networks?: Record<string, { rx_bytes: number; tx_bytes: number }>
  blkio_stats?: { io_service_bytes_recursive?: { op: string; value: number }[] | null }
}

export interface CpuStats {
  cpu_usage?: { total_usage?: number; percpu_usage?: number[] | null }
  system_cpu_usage?: number
  online_cpus?: number
}

export interface EventMessage {
  Type?: string
  Action?: string
  Actor?: { ID: string; Attributes: Record<string, string> | null }
  scope?: string
  time: number
  timeNano: number
  status?: string
  id?: string
  from?: string
}

/** One line of a pull, push, load or import. */
export interface ProgressLine {
  status?: string
  id?: string
  progress?: string
  progressDetail?: { current?: number; total?: number }
  stream?: string
  error?: string
  errorDetail?: { message?: string; code?: number }
  aux?: unknown
}

export interface VersionJson {
  Platform?: { Name: string }
  Components?: { Name: string; Version: string; Details?: Record<string, string> | null }[]
  Version: string
  ApiVersion: string
  MinAPIVersion?: string
  GitCommit?: string
  GoVersion?: string
  Os: string
  Arch: string
  KernelVersion?: string
  Experimental?: boolean
  BuildTime?: string
}

export interface DiskUsage {
  LayersSize?: number
  Images: ImageSummaryJson[] | null
  Containers: ContainerSummary[] | null
  Volumes: VolumeInspect[] | null
  BuildCache?: { Size: number; InUse: boolean; Shared: boolean }[] | null
}

export type Filters = Readonly<Record<string, readonly string[]>>

/** The `filters` query: `{"name":{"x":true}}`, or undefined when there is none. */
export function encodeFilters(filters: Filters | undefined): string | undefined {
  const entries = Object.entries(filters ?? {})
  if (entries.length === 0) return undefined
  return JSON.stringify(Object.fromEntries(entries.map(([key, values]) => [key, Object.fromEntries(values.map((v) => [v, true]))])))
}

/**
 * What the API server needs from the outside, and the few types its parts share. Handlers translate between Docker's wire
 * format and the services; nothing here decides anything about networks, containers or images.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Clock, Logger } from '../base/ports.ts'
import type { ContainerService, EventBus, ImageService, VolumeService } from '../containers/types.ts'
import type { NetworkController } from '../engine/types.ts'
import type { Context } from './context.ts'

/** Facts about this build, for `/version`, `/_ping` and the headers of every reply. */
export interface VersionFacts {
  /** The Docker version whose behaviour is offered, for clients that compare it: `28.3.0`. */
  readonly dockerVersion: string
  /** Causeway's own version. */
  readonly version: string
  /** Newest API version offered, `1.51` when absent. */
  readonly apiVersion?: string
  readonly minApiVersion?: string
  readonly gitCommit: string
  readonly buildTime: string
  readonly os: string
  /** Go's spelling: `amd64`, `arm64`. */
  readonly arch: string
  readonly kernelVersion: string
  readonly experimental?: boolean
  /** Further parts listed under `Components`, for example the OCI runtime. */
  readonly components?: readonly { Name: string; Version: string; Details?: Record<string, string> }[]
}

/** The daemon's share of `GET /info`, in Docker's spelling. Everything given here wins over the server's own defaults. */
export interface SystemInfo {
  readonly ID: string
  readonly Name: string
  readonly KernelVersion: string
  readonly OperatingSystem: string
  readonly OSVersion?: string
  readonly Architecture: string
  readonly NCPU: number
  /** Bytes. */
  readonly MemTotal: number
  readonly DockerRootDir: string
  /** As given on the command line; only in a cluster. */
  readonly ClusterStore?: string
  readonly ClusterAdvertise?: string
  readonly Driver?: string
  readonly DriverStatus?: readonly (readonly [string, string])[]
  readonly CgroupVersion?: string
  readonly CgroupDriver?: string
  readonly Runtimes?: Readonly<Record<string, { path: string; runtimeArgs?: readonly string[] }>>
  readonly DefaultRuntime?: string
  readonly DefaultAddressPools?: readonly { Base: string; Size: number }[]
  readonly FirewallBackend?: { Driver: string; Info: readonly (readonly [string, string])[] }
  readonly IPv4Forwarding?: boolean
  readonly Warnings?: readonly string[]
  readonly Labels?: readonly string[]
  readonly LiveRestoreEnabled?: boolean
  /** Names of network drivers, sorted. */
  readonly NetworkPlugins?: readonly string[]
  readonly [dockerKey: string]: unknown
}

/** A route that another part of the daemon adds: JSON in, JSON out. */
export interface Extension {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** Below the root, for example `/causeway/v1/topology` or `/causeway/v1/why/:from/:to`. */
  readonly path: string
  /** Throw NetError to answer an error. Undefined answers 204. */
  handler(params: Readonly<Record<string, string>>, query: URLSearchParams, body: unknown, signal: AbortSignal): unknown
}

export interface ApiOptions {
  readonly controller: NetworkController
  readonly containers: ContainerService
  readonly images: ImageService
  readonly volumes: VolumeService
  readonly events: EventBus
  readonly info: () => SystemInfo
  readonly version: VersionFacts
  readonly clock: Clock
  readonly log: Logger
  /** Answers `POST /causeway/v1/shutdown`; without it the route says so. */
  readonly shutdown?: () => void
  /** Data for `GET /causeway/v1/veth`, `/debug/state` and `/doctor`. */
  readonly veth?: () => unknown
  readonly debugState?: () => unknown
  readonly doctor?: () => unknown
  readonly extensions?: readonly Extension[]
}

/** A complete answer. `body` undefined = empty body; a string is sent as it is, anything else as JSON. */
export interface Answer {
  readonly status: number
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

/** Says that the handler has written to the client itself. */
export const STREAMED = { streamed: true } as const
export type Streamed = typeof STREAMED

export function isStreamed(outcome: Answer | Streamed): outcome is Streamed {
  return outcome === STREAMED
}

export interface Route {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'DELETE'
  readonly path: string
  /** First API version that has it; older clients get `page not found`. */
  readonly since?: string
  readonly handler: (ctx: Context) => Answer | Streamed | Promise<Answer | Streamed>
}

/** One request on its way from a listener to its handler. */
export interface Exchange {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  /** Minor number of the API version: 51 for `1.51`. */
  readonly version: number
  readonly query: string
  /** Set when the client asked for `Upgrade`: the parser has let go of the socket. */
  readonly upgrade?: { readonly protocol: string; readonly body: Buffer; readonly rest: Buffer }
}

/** Causeway's own routes below `/causeway/v1`: what Docker's API has no word for. */
import type { Transport } from './transport.ts'
import type { ProgressLine } from './types.ts'

/** One published port as `/containers/{id}/ports` takes it. `hostPort` 0 = any free port. */
export interface PortChange {
  readonly proto: 'tcp' | 'udp' | 'sctp'
  readonly containerPort: number
  readonly hostIp?: string
  readonly hostPort?: number
  readonly hostPortEnd?: number
}

/** One probe of `causeway doctor`. */
export interface Finding {
  readonly name: string
  readonly status: 'ok' | 'warning' | 'missing' | 'failed' | string
  readonly detail?: string
  readonly cost?: string
  readonly remedy?: string
}

/** Where one endpoint of a container is, inside and outside. */
export interface VethRow {
  readonly container: string
  readonly containerId?: string
  readonly network: string
  readonly interface: string
  readonly hostInterface?: string
  readonly bridge?: string
  readonly mac?: string
  readonly addresses?: readonly string[]
}

export class OwnApi {
  readonly #http: Transport
  constructor(transport: Transport) {
    this.#http = transport
  }

  /** Any own route, as JSON. */
  get<T>(path: string, query: Readonly<Record<string, string | undefined>> = {}): Promise<T> {
    return this.#http.json('GET', `/causeway/v1${path}`, { query, unversioned: true })
  }
  post<T>(path: string, query: Readonly<Record<string, string | undefined>> = {}): Promise<T> {
    return this.#http.json('POST', `/causeway/v1${path}`, { query, unversioned: true })
  }
  /** A change of anything of our own, with a JSON body. */
  change<T>(method: 'POST' | 'DELETE', path: string, body?: object): Promise<T> {
    return this.#http.json(method, `/causeway/v1${path}`, { ...(body === undefined ? {} : { body }), unversioned: true })
  }
  addPorts(ref: string, ports: readonly PortChange[]): Promise<unknown> {
    return this.#http.json('POST', portsPath(ref), { body: { ports }, unversioned: true })
  }
  removePorts(ref: string, ports: readonly PortChange[]): Promise<unknown> {
    return this.#http.json('DELETE', portsPath(ref), { body: { ports }, unversioned: true })
  }
  bootstrapImage(): AsyncGenerator<ProgressLine & { Id?: string; id?: string; message?: string }> {
    return this.#http.lines('POST', '/causeway/v1/images/bootstrap', { unversioned: true })
  }
}

function portsPath(ref: string): string {
  return `/causeway/v1/containers/${encodeURIComponent(ref)}/ports`
}

/** Causeway's own routes below `/causeway/v1`: what Docker's API has no word for. */
import type { Check, RepairEvent, VethRow, Wire } from '../model/own-answers.ts'
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

/** Calls of the own routes; a client has one (`client.own`). They throw NetError with the engine's text. */
export class OwnApi {
  readonly #http: Transport
  constructor(transport: Transport) {
    this.#http = transport
  }

  /** Where every endpoint of every running container is. */
  veth(): Promise<readonly VethRow[]> {
    return this.get('/veth')
  }
  /** What the host can do, and what each missing thing costs. */
  doctor(): Promise<readonly Check[]> {
    return this.get('/doctor')
  }
  /** The newest repairs since the engine started. */
  async repairs(): Promise<readonly RepairEvent[]> {
    return (await this.get<{ repairs: readonly RepairEvent[] }>('/repairs')).repairs
  }
  /** Every wire of this host. */
  async wires(): Promise<readonly Wire[]> {
    return (await this.get<{ wires: readonly Wire[] }>('/wires')).wires
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

/** `/networks`. */
import type { Transport } from './transport.ts'
import type { Filters, NetworkCreateRequest, NetworkInspect } from './types.ts'
import { encodeFilters } from './types.ts'

export class NetworksApi {
  readonly #http: Transport
  constructor(transport: Transport) {
    this.#http = transport
  }

  list(filters?: Filters): Promise<NetworkInspect[]> {
    return this.#http.json('GET', '/networks', { query: { filters: encodeFilters(filters) } })
  }
  inspect(ref: string, options: { verbose?: boolean; scope?: string } = {}): Promise<NetworkInspect> {
    return this.#http.json('GET', at(ref), { query: { ...options } })
  }
  inspectText(ref: string, options: { verbose?: boolean; scope?: string } = {}): Promise<string> {
    return this.#http.text('GET', at(ref), { query: { verbose: options.verbose === true ? 'true' : undefined, scope: options.scope } })
  }
  create(body: NetworkCreateRequest): Promise<{ Id: string; Warning: string }> {
    return this.#http.json('POST', '/networks/create', { body })
  }
  /** `force`: even when the plugin that made it is away. */
  async remove(ref: string, force = false): Promise<void> {
    await this.#http.text('DELETE', at(ref), { query: { force: force ? 'true' : undefined } })
  }
  async connect(ref: string, container: string, endpointConfig: object): Promise<void> {
    await this.#http.text('POST', `${at(ref)}/connect`, { body: { Container: container, EndpointConfig: endpointConfig } })
  }
  async disconnect(ref: string, container: string, force: boolean): Promise<void> {
    await this.#http.text('POST', `${at(ref)}/disconnect`, { body: { Container: container, Force: force } })
  }
  prune(filters?: Filters): Promise<{ NetworksDeleted: string[] | null }> {
    return this.#http.json('POST', '/networks/prune', { query: { filters: encodeFilters(filters) } })
  }
}

function at(ref: string): string {
  return `/networks/${encodeURIComponent(ref)}`
}

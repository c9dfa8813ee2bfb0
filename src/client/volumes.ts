/** `/volumes`. */
import type { Transport } from './transport.ts'
import type { Filters, VolumeInspect } from './types.ts'
import { encodeFilters } from './types.ts'

export class VolumesApi {
  readonly #http: Transport
  constructor(transport: Transport) {
    this.#http = transport
  }

  list(filters?: Filters): Promise<{ Volumes: VolumeInspect[] | null; Warnings: string[] | null }> {
    return this.#http.json('GET', '/volumes', { query: { filters: encodeFilters(filters) } })
  }
  inspectText(name: string): Promise<string> {
    return this.#http.text('GET', `/volumes/${encodeURIComponent(name)}`)
  }
  create(body: {
    Name?: string
    Driver?: string
    DriverOpts?: Record<string, string>
    Labels?: Record<string, string>
  }): Promise<VolumeInspect> {
    return this.#http.json('POST', '/volumes/create', { body })
  }
  async remove(name: string, force: boolean): Promise<void> {
    await this.#http.text('DELETE', `/volumes/${encodeURIComponent(name)}`, { query: { force } })
  }
  prune(filters?: Filters): Promise<{ VolumesDeleted: string[] | null; SpaceReclaimed: number }> {
    return this.#http.json('POST', '/volumes/prune', { query: { filters: encodeFilters(filters) } })
  }
}

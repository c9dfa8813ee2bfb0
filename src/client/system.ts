/** `/info`, `/version`, `/events`, `/system/df`, `/auth`. */
import type { Transport } from './transport.ts'
import type { DiskUsage, EventMessage, Filters, VersionJson } from './types.ts'
import { encodeFilters } from './types.ts'

export class SystemApi {
  readonly #http: Transport
  constructor(transport: Transport) {
    this.#http = transport
  }

  async ping(signal?: AbortSignal): Promise<void> {
    await this.#http.text('GET', '/_ping', { unversioned: true, signal })
  }
  info(): Promise<Record<string, unknown>> {
    return this.#http.json('GET', '/info')
  }
  version(): Promise<VersionJson> {
    return this.#http.json('GET', '/version')
  }
  /** `text` is the event as sent: its `timeNano` is beyond what a JavaScript number holds. */
  async *events(options: {
    since?: string | undefined
    until?: string | undefined
    filters?: Filters
    signal?: AbortSignal
  }): AsyncGenerator<{ readonly event: EventMessage; readonly text: string }> {
    const { since, until, filters, signal } = options
    const query = { since, until, filters: encodeFilters(filters) }
    for await (const text of this.#http.texts('GET', '/events', { query, signal })) yield { event: JSON.parse(text) as EventMessage, text }
  }
  diskUsage(): Promise<DiskUsage> {
    return this.#http.json('GET', '/system/df')
  }
  login(body: { username: string; password: string; serveraddress: string }): Promise<{ Status: string; IdentityToken?: string }> {
    return this.#http.json('POST', '/auth', { body })
  }
}

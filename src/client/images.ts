/** `/images`. Pull, push, load and import are streams of progress lines; a line with `error` is the failure. */
import type { Readable } from 'node:stream'
import type { Transport } from './transport.ts'
import type { Filters, ImageHistoryEntry, ImageSummaryJson, ProgressLine } from './types.ts'
import { encodeFilters } from './types.ts'

export type ImageDeletion = { Untagged?: string; Deleted?: string }

export class ImagesApi {
  readonly #http: Transport
  constructor(transport: Transport) {
    this.#http = transport
  }

  list(options: { all?: boolean; filters?: Filters; sharedSize?: boolean } = {}): Promise<ImageSummaryJson[]> {
    const query = { all: options.all, filters: encodeFilters(options.filters), 'shared-size': options.sharedSize }
    return this.#http.json('GET', '/images/json', { query })
  }
  inspect<T = Record<string, unknown>>(ref: string): Promise<T> {
    return this.#http.json('GET', at(ref, '/json'))
  }
  inspectText(ref: string): Promise<string> {
    return this.#http.text('GET', at(ref, '/json'))
  }
  history(ref: string): Promise<ImageHistoryEntry[]> {
    return this.#http.json('GET', at(ref, '/history'))
  }
  pull(
    name: string,
    tag: string,
    options: { auth?: string | undefined; platform?: string | undefined; signal?: AbortSignal } = {},
  ): AsyncGenerator<ProgressLine> {
    const query = { fromImage: name, tag, platform: options.platform }
    return this.#http.lines('POST', '/images/create', { query, headers: authHeader(options.auth), signal: options.signal })
  }
  push(name: string, tag: string, options: { auth?: string | undefined; signal?: AbortSignal } = {}): AsyncGenerator<ProgressLine> {
    // The header must be there, even empty: Docker refuses a push without it.
    const headers = { 'X-Registry-Auth': options.auth ?? 'e30=' }
    return this.#http.lines('POST', at(name, '/push'), { query: { tag: tag === '' ? undefined : tag }, headers, signal: options.signal })
  }
  import(
    tar: Readable,
    options: { repo?: string; tag?: string; message?: string; changes?: readonly string[]; source: string; platform?: string | undefined },
  ): AsyncGenerator<ProgressLine> {
    const { repo, tag, message, changes, source, platform } = options
    return this.#http.lines('POST', '/images/create', { query: { fromSrc: source, repo, tag, message, changes, platform }, body: tar })
  }
  load(tar: Readable, quiet: boolean): AsyncGenerator<ProgressLine> {
    return this.#http.lines('POST', '/images/load', { query: { quiet: quiet ? '1' : '0' }, body: tar })
  }
  save(names: readonly string[]): Promise<Readable> {
    return this.#http.request('GET', '/images/get', { query: { names } })
  }
  async tag(ref: string, repo: string, tag: string): Promise<void> {
    await this.#http.text('POST', at(ref, '/tag'), { query: { repo, tag } })
  }
  remove(ref: string, options: { force?: boolean; noPrune?: boolean } = {}): Promise<ImageDeletion[]> {
    return this.#http.json('DELETE', at(ref, ''), { query: { force: options.force, noprune: options.noPrune } })
  }
  prune(filters?: Filters): Promise<{ ImagesDeleted: ImageDeletion[] | null; SpaceReclaimed: number }> {
    return this.#http.json('POST', '/images/prune', { query: { filters: encodeFilters(filters) } })
  }
}

/** Slashes and colons of a name stay as they are: the route's pattern spans them. */
function at(ref: string, tail: string): string {
  return `/images/${encodeURIComponent(ref).replace(/%(2F|3A|40)/g, decodeURIComponent)}${tail}`
}

function authHeader(auth: string | undefined): Record<string, string> {
  return auth === undefined ? {} : { 'X-Registry-Auth': auth }
}

/** `/containers` and `/exec`. */
import type { Readable } from 'node:stream'
import { NetError } from '../base/errors.ts'
import type { Hijacked, Query, Transport } from './transport.ts'
import type { ContainerCreateBody, ContainerInspect, ContainerStats, ContainerSummary, Filters } from './types.ts'
import { encodeFilters } from './types.ts'

export interface AttachQuery {
  readonly stream?: boolean
  readonly logs?: boolean
  readonly stdin?: boolean
  readonly stdout?: boolean
  readonly stderr?: boolean
  readonly detachKeys?: string | undefined
}

export interface ArchiveStat {
  readonly name: string
  readonly size: number
  /** Go's os.FileMode: bit 31 directory, bit 27 symbolic link, low nine bits permissions. */
  readonly mode: number
  readonly mtime: string
  readonly linkTarget: string
}

export class ContainersApi {
  readonly #http: Transport
  constructor(transport: Transport) {
    this.#http = transport
  }

  list(options: { all?: boolean; limit?: number; size?: boolean; filters?: Filters } = {}): Promise<ContainerSummary[]> {
    const { all, limit, size, filters } = options
    return this.#http.json('GET', '/containers/json', { query: { all, limit, size, filters: encodeFilters(filters) } })
  }

  create(
    body: ContainerCreateBody,
    options: { name?: string | undefined; platform?: string | undefined } = {},
  ): Promise<{ Id: string; Warnings: string[] | null }> {
    return this.#http.json('POST', '/containers/create', { query: { name: options.name, platform: options.platform }, body })
  }

  inspect(ref: string, options: { size?: boolean } = {}): Promise<ContainerInspect> {
    return this.#http.json('GET', at(ref, 'json'), { query: { size: options.size } })
  }

  /** The answer of inspect as sent, for printing. */
  inspectText(ref: string, options: { size?: boolean } = {}): Promise<string> {
    return this.#http.text('GET', at(ref, 'json'), { query: { size: options.size } })
  }

  start(ref: string, options: { detachKeys?: string | undefined } = {}): Promise<void> {
    return this.#post(ref, 'start', { detachKeys: options.detachKeys })
  }
  stop(ref: string, options: { seconds?: number | undefined; signal?: string | undefined } = {}): Promise<void> {
    return this.#post(ref, 'stop', { t: options.seconds, signal: options.signal })
  }
  restart(ref: string, options: { seconds?: number | undefined; signal?: string | undefined } = {}): Promise<void> {
    return this.#post(ref, 'restart', { t: options.seconds, signal: options.signal })
  }
  kill(ref: string, signal?: string): Promise<void> {
    return this.#post(ref, 'kill', { signal })
  }
  pause(ref: string): Promise<void> {
    return this.#post(ref, 'pause', {})
  }
  unpause(ref: string): Promise<void> {
    return this.#post(ref, 'unpause', {})
  }
  rename(ref: string, name: string): Promise<void> {
    return this.#post(ref, 'rename', { name })
  }
  resize(ref: string, rows: number, columns: number): Promise<void> {
    return this.#post(ref, 'resize', { h: rows, w: columns })
  }

  /** Resolves when the container has ended; the request is open once `opened` was called. */
  async wait(
    ref: string,
    condition: 'not-running' | 'next-exit' | 'removed',
    options: { signal?: AbortSignal; opened?: () => void } = {},
  ): Promise<{ exitCode: number; error?: string }> {
    const reply = await this.#http.request('POST', at(ref, 'wait'), {
      query: { condition: condition === 'not-running' ? undefined : condition },
      signal: options.signal,
    })
    options.opened?.() // the engine sends the head at once and the body at the end
    let text = ''
    for await (const chunk of reply.setEncoding('utf8')) text += chunk as string
    const body = JSON.parse(text) as { StatusCode: number; Error?: { Message: string } | null }
    return { exitCode: body.StatusCode, ...(body.Error == null ? {} : { error: body.Error.Message }) }
  }

  async remove(ref: string, options: { force?: boolean; volumes?: boolean; link?: boolean } = {}): Promise<void> {
    const query = { force: options.force, v: options.volumes, link: options.link }
    await this.#http.text('DELETE', `/containers/${encodeURIComponent(ref)}`, { query })
  }

  prune(filters?: Filters): Promise<{ ContainersDeleted: string[] | null; SpaceReclaimed: number }> {
    return this.#http.json('POST', '/containers/prune', { query: { filters: encodeFilters(filters) } })
  }

  update(ref: string, change: object): Promise<{ Warnings: string[] | null }> {
    return this.#http.json('POST', at(ref, 'update'), { body: change })
  }

  top(ref: string, psArgs: string): Promise<{ Titles: string[]; Processes: string[][] }> {
    return this.#http.json('GET', at(ref, 'top'), { query: { ps_args: psArgs === '' ? undefined : psArgs } })
  }

  /** Statistics; one value unless `stream`. */
  stats(ref: string, options: { stream: boolean; signal?: AbortSignal }): AsyncGenerator<ContainerStats> {
    return this.#http.lines('GET', at(ref, 'stats'), { query: { stream: options.stream ? '1' : '0' }, signal: options.signal })
  }

  changes(ref: string): Promise<{ Path: string; Kind: 0 | 1 | 2 }[] | null> {
    return this.#http.json('GET', at(ref, 'changes'))
  }

  /** Raw when the container has a terminal, else multiplexed frames. */
  logs(ref: string, query: Query, signal?: AbortSignal): Promise<Readable> {
    return this.#http.request('GET', at(ref, 'logs'), { query, signal })
  }

  attach(ref: string, query: AttachQuery): Promise<Hijacked> {
    return this.#http.hijack('POST', at(ref, 'attach'), { query: { ...query } })
  }

  export(ref: string): Promise<Readable> {
    return this.#http.request('GET', at(ref, 'export'))
  }

  async archiveStat(ref: string, path: string): Promise<ArchiveStat> {
    const reply = await this.#http.request('HEAD', at(ref, 'archive'), { query: { path } })
    reply.resume()
    return statFromHeader(reply.headers['x-docker-container-path-stat'])
  }

  async archiveGet(ref: string, path: string): Promise<{ tar: Readable; stat: ArchiveStat }> {
    const tar = await this.#http.request('GET', at(ref, 'archive'), { query: { path } })
    return { tar, stat: statFromHeader(tar.headers['x-docker-container-path-stat']) }
  }

  async archivePut(ref: string, path: string, tar: Readable, options: { copyUidGid?: boolean } = {}): Promise<void> {
    const query = { path, noOverwriteDirNonDir: 'true', copyUIDGID: options.copyUidGid === true ? 'true' : undefined }
    await this.#http.text('PUT', at(ref, 'archive'), { query, body: tar })
  }

  async execCreate(ref: string, config: object): Promise<string> {
    return (await this.#http.json<{ Id: string }>('POST', at(ref, 'exec'), { body: config })).Id
  }
  async execStartDetached(execId: string): Promise<void> {
    await this.#http.text('POST', `/exec/${execId}/start`, { body: { Detach: true, Tty: false } })
  }
  execAttach(execId: string, options: { tty: boolean; consoleSize?: readonly [number, number] | undefined }): Promise<Hijacked> {
    const body = { Detach: false, Tty: options.tty, ...(options.consoleSize === undefined ? {} : { ConsoleSize: options.consoleSize }) }
    return this.#http.hijack('POST', `/exec/${execId}/start`, { body })
  }
  execInspect(execId: string): Promise<{ ID: string; Running: boolean; ExitCode: number | null; Pid: number }> {
    return this.#http.json('GET', `/exec/${execId}/json`)
  }
  async execResize(execId: string, rows: number, columns: number): Promise<void> {
    await this.#http.text('POST', `/exec/${execId}/resize`, { query: { h: rows, w: columns } })
  }

  async #post(ref: string, verb: string, query: Query): Promise<void> {
    await this.#http.text('POST', at(ref, verb), { query })
  }
}

function at(ref: string, verb: string): string {
  if (ref === '') throw new NetError('invalid', 'invalid container name or ID: value is empty')
  return `/containers/${encodeURIComponent(ref)}/${verb}`
}

function statFromHeader(header: string | string[] | undefined): ArchiveStat {
  if (typeof header !== 'string') throw new NetError('internal', 'the engine sent no description of the path')
  return JSON.parse(Buffer.from(header, 'base64').toString('utf8')) as ArchiveStat
}

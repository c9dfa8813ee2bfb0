/** One question to one Consul agent's HTTP API, with the ACL token; a refusal is sorted into what may help. */
import { type HttpAnswer, type HttpStream, StoreFault, type StoreHttp } from '../http.ts'
import { relativeKey, valueText } from '../keys.ts'
import type { StoreEntry, Version } from '../types.ts'
import type { StoreMember } from '../url.ts'

export interface ConsulAnswer {
  /** 200, 404 and 409 are answers of the API; everything else is thrown. */
  readonly status: 200 | 404 | 409
  /** X-Consul-Index, '0' when there is none. */
  readonly index: string
  readonly text: string
}

/** An entry of /v1/kv and of a transaction's results. */
export interface KvEntry {
  readonly Key?: string
  readonly Value?: string | null
  readonly ModifyIndex?: number
}

/** Said before anything was done: the same question may be asked elsewhere. */
const NOT_DONE = /no cluster leader|raft leader not found|not the leader|no known consul servers/i

export class ConsulAgent {
  readonly #http: StoreHttp
  readonly #headers: Readonly<Record<string, string>>

  constructor(http: StoreHttp, token: string) {
    this.#http = http
    this.#headers = token === '' ? {} : { 'x-consul-token': token }
  }

  /** Throws {@link StoreFault}. */
  async ask(member: StoreMember, method: 'GET' | 'PUT', path: string, timeoutMs: number, body?: object): Promise<ConsulAnswer> {
    const text = body === undefined ? {} : { body: JSON.stringify(body) }
    return this.#sort(await this.#http.request(member, { method, path, headers: this.#headers, timeoutMs, ...text }))
  }

  /** A GET that `signal` ends early; then it returns undefined. */
  wait(member: StoreMember, path: string, timeoutMs: number, signal: AbortSignal): Promise<ConsulAnswer | undefined> {
    return new Promise((resolve, reject) => {
      let stream: HttpStream | undefined
      const onAbort = () => {
        stream?.close()
        resolve(undefined)
      }
      if (signal.aborted) return resolve(undefined)
      stream = this.#http.ask(member, { method: 'GET', path, headers: this.#headers, timeoutMs, isWatch: true }, (result) => {
        signal.removeEventListener('abort', onAbort)
        try {
          if (result instanceof StoreFault) reject(result)
          else resolve(this.#sort(result))
        } catch (error) {
          reject(error)
        }
      })
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }

  denied(said: string): StoreFault {
    const has = this.#headers['x-consul-token'] !== undefined
    return new StoreFault(`${has ? 'its token (kv.token) does not permit this' : 'it wants a token (kv.token)'}: ${said}`, { final: true })
  }

  #sort(answer: HttpAnswer): ConsulAnswer {
    const { status, text } = answer
    if (status === 200 || status === 404 || status === 409) {
      const index = String(answer.headers['x-consul-index'] ?? '0')
      return { status, index: /^\d+$/.test(index) ? index : '0', text }
    }
    const said = text.trim().slice(0, 300) || `status ${status}`
    if (status === 403) throw this.denied(said)
    // 4xx: the same request would be refused again; an HTTPS port says so in words
    if (status < 500) throw new StoreFault(`it refuses the request: ${said}`, { final: true })
    throw new StoreFault(said, { sent: !NOT_DONE.test(said) })
  }
}

/** An object or a list, of which nothing else is known. Throws {@link StoreFault} for anything else. */
export function parseAnswer<T extends object>(text: string): T {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new StoreFault('it does not answer as Consul does: not JSON', { sent: true })
  }
  if (typeof value !== 'object' || value === null) throw new StoreFault('it does not answer as Consul does: no object', { sent: true })
  return value as T
}

/** The entries of a listing that are ours, relative to `root`. */
export function entriesOf(text: string, root: string, versionOf: (index: string) => Version): StoreEntry[] {
  const found = parseAnswer<object>(text)
  if (!Array.isArray(found)) throw new StoreFault('it does not answer as Consul does: not a list', { sent: true })
  return found.flatMap((kv: KvEntry | null) => {
    const key = relativeKey(Buffer.from(String(kv?.Key ?? '')), root)
    // Consul has replaced what is not text already
    if (key === undefined || key === '' || key.includes('\ufffd')) return []
    return [{ key, value: valueText(Buffer.from(String(kv?.Value ?? ''), 'base64')), version: versionOf(String(kv?.ModifyIndex ?? 0)) }]
  })
}

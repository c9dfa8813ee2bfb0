/** One question to one etcd member over its JSON gateway, with the user's token; a refusal is sorted into what may help. */
import { StoreFault, type StoreHttp } from '../http.ts'
import type { StoreMember } from '../url.ts'
import type { GatewayError } from './messages.ts'

export interface User {
  readonly name: string
  readonly password: string
}

/** The data asked for is not there any more: compacted, or of a cluster that was longer ago. */
export class RevisionGone extends Error {}

/** gRPC codes (google.golang.org/grpc/codes). */
const OUT_OF_RANGE = 11
const RESOURCE_EXHAUSTED = 8
const NOT_FOUND = 5
const PERMISSION_DENIED = 7

const STALE_TOKEN = /invalid auth token|revision of auth store is old|user name is empty/
const BAD_LOGIN = /authentication failed|user name not found|user name is empty/
const NO_AUTH = /authentication is not enabled/
const GONE = /required revision has been compacted|required revision is a future revision/
/** Said before anything was done: the same question may be asked elsewhere. */
const NOT_DONE = /not leader|no leader|etcdserver: server stopped|etcdserver: too many requests|leader changed/
/** A member that says so lives and has too much to do, or waits for the others. */
const BUSY = /etcdserver: request timed out|etcdserver: too many requests|no leader|leader changed/

export class EtcdGateway {
  readonly #http: StoreHttp
  readonly #user: User | undefined
  readonly #onAuthenticate: () => void
  #token: Promise<string> | undefined

  constructor(http: StoreHttp, user: User | undefined, onAuthenticate: () => void) {
    this.#http = http
    this.#user = user
    this.#onAuthenticate = onAuthenticate
  }

  /**
   * The answer's object, or `not-found` when etcd says that (a lease that has ended). Throws {@link StoreFault} and
   * {@link RevisionGone}.
   */
  async ask<T extends object>(member: StoreMember, path: string, body: object, timeoutMs: number): Promise<T | 'not-found'> {
    for (let attempt = 1; ; attempt++) {
      const headers = await this.headers(member, timeoutMs)
      const answer = await this.#http.request(member, { method: 'POST', path, headers, body: JSON.stringify(body), timeoutMs })
      if (answer.status === 200) return parse<T>(answer.text)
      const refusal = refusalOf(answer.text, answer.status)
      if (refusal.code === NOT_FOUND) return 'not-found'
      if (attempt === 1 && this.#user !== undefined && STALE_TOKEN.test(refusal.message)) {
        this.#token = undefined
        continue
      }
      throw this.faultOf(refusal)
    }
  }

  /** Headers of a request: the user's token, asked for when there is none yet. */
  async headers(member: StoreMember, timeoutMs: number): Promise<Record<string, string>> {
    const common = { 'content-type': 'application/json' }
    if (this.#user === undefined) return common
    this.#token ??= this.#authenticate(member, timeoutMs, this.#user)
    try {
      const token = await this.#token
      return token === '' ? common : { ...common, authorization: token }
    } catch (error) {
      this.#token = undefined
      throw error
    }
  }

  /** The token is asked for again at the next request. */
  forgetToken(): void {
    this.#token = undefined
  }

  faultOf(refusal: { readonly code: number; readonly message: string }): StoreFault | RevisionGone {
    const { code, message } = refusal
    if (code === OUT_OF_RANGE || GONE.test(message)) return new RevisionGone(message)
    if (code === RESOURCE_EXHAUSTED && /message larger than max/.test(message))
      return new StoreFault(message, { tooLarge: true, sent: true })
    if (/mvcc: database space exceeded/.test(message))
      return new StoreFault('its database is full (NOSPACE alarm): compact, defragment and disarm it, or raise --quota-backend-bytes', {
        final: true,
      })
    const user = this.#user
    if (user === undefined && (code === PERMISSION_DENIED || BAD_LOGIN.test(message)))
      return new StoreFault(`it wants a user (kv.username, kv.password): ${message}`, { final: true })
    if (code === PERMISSION_DENIED) return new StoreFault(`user "${user?.name}" may not use these keys: ${message}`, { final: true })
    if (BAD_LOGIN.test(message)) return new StoreFault(`it refuses user "${user?.name}": ${message}`, { final: true })
    return new StoreFault(message, { sent: !NOT_DONE.test(message), silent: BUSY.test(message) })
  }

  async #authenticate(member: StoreMember, timeoutMs: number, user: User): Promise<string> {
    this.#onAuthenticate()
    const answer = await this.#http.request(member, {
      method: 'POST',
      path: '/v3/auth/authenticate',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ name: user.name, password: user.password }),
      timeoutMs,
    })
    if (answer.status === 200) return parse<{ token?: string }>(answer.text).token ?? ''
    const refusal = refusalOf(answer.text, answer.status)
    // users were named before authentication was turned on: go on without, and try again when etcd wants one
    if (NO_AUTH.test(refusal.message)) return ''
    throw this.faultOf(refusal)
  }
}

function parse<T extends object>(text: string): T {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new StoreFault('it does not answer as etcd does: not JSON', { sent: true })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new StoreFault('it does not answer as etcd does: not an object', { sent: true })
  return value as T
}

/** Code and sentence of a refusal, whatever shape it has. */
export function refusalOf(text: string, status: number): { readonly code: number; readonly message: string } {
  try {
    const { error, message, code } = JSON.parse(text) as GatewayError
    if (typeof error === 'object' && error !== null)
      return { code: error.grpc_code ?? 0, message: String(error.message ?? `status ${status}`) }
    return { code: code ?? 0, message: String(message ?? error ?? `status ${status}`) }
  } catch {
    return { code: 0, message: `status ${status}: ${text.slice(0, 200)}` }
  }
}

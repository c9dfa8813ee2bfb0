/**
 * A plugin by name: found, activated, called. Pauses between attempts are Docker's: 1, 2, 4, 8 s, and no further one that would end
 * after 30 s. A call that was taken and not answered is not sent again; it fails after a minute, so that nobody waits for ever.
 */
import { messageOf, NetError } from '../base/errors.ts'
import type { Clock, Logger } from '../base/ports.ts'
import type { Activation } from '../drivers/remote/protocol.ts'
import { readAnswer } from './answers.ts'
import { findPlugin, hasPluginDir, type PluginAddress, type PluginDirs } from './discovery.ts'
import { AnswerTimedOut, ConnectionFailed, type HttpAnswer, post } from './transport.ts'

/** Docker gives up when the next pause would end later than this. */
const RETRY_BUDGET_MS = 30_000
export const DEFAULT_CALL_TIMEOUT_MS = 60_000

export interface PluginOptions {
  readonly clock: Clock
  readonly log: Logger
  readonly dirs: PluginDirs
  /** Longest wait for one answer. */
  readonly callTimeoutMs?: number
}

/** How patiently: `retry` as Docker does, `once` for what will be repeated by the caller anyway. */
export type Patience = 'retry' | 'once'

/** What a plugin answered with an error status. `status` 404 = it has no such method. */
export class PluginRefused extends NetError {
  readonly status: number
  constructor(method: string, status: number, text: string) {
    super('internal', `${method}: ${text}`, { op: 'call plugin', subject: method })
    this.status = status
  }
}

export class Plugin {
  readonly name: string
  readonly #options: PluginOptions
  #address: PluginAddress | undefined
  #implements: readonly string[] | undefined
  #activating: Promise<readonly string[]> | undefined

  constructor(name: string, options: PluginOptions) {
    this.name = name
    this.#options = options
  }

  /**
   * Interfaces that the plugin implements; asks it when that is not known.
   * @throws NetError `not-found` (`plugin "x" not found`), `unavailable`, `internal` when it answers nonsense.
   */
  activate(patience: Patience = 'retry'): Promise<readonly string[]> {
    if (this.#implements !== undefined) return Promise.resolve(this.#implements)
    this.#activating ??= this.#handshake(patience).finally(() => {
      this.#activating = undefined
    })
    return this.#activating
  }

  async #handshake(patience: Patience): Promise<readonly string[]> {
    const answer = await this.#attempts('Plugin.Activate', undefined, patience)
    const { Implements } = this.#read<Activation>('Plugin.Activate', answer)
    if (!Array.isArray(Implements))
      throw new NetError('internal', `Plugin.Activate: plugin "${this.name}" does not say what it implements: ${shown(answer.text)}`)
    this.#implements = Implements
    return Implements
  }

  /**
   * Calls `<Interface>.<Method>` and returns the answer; `null` and an empty body count as `{}`.
   * @throws PluginRefused for a status other than 200, NetError `internal` (`remote: …`) for an error in the answer,
   *   `unavailable` when the plugin cannot be reached or keeps silent.
   */
  async call<T extends object>(method: string, body: unknown, patience: Patience = 'retry'): Promise<Partial<T>> {
    await this.activate(patience)
    const answer = await this.#attempts(method, body, patience)
    const parsed = this.#read<T & { Err?: unknown; Error?: unknown }>(method, answer)
    for (const text of [parsed.Err, parsed.Error])
      if (typeof text === 'string' && text !== '') throw new NetError('internal', `remote: ${text}`)
    return parsed
  }

  /** Like {@link call}; undefined when the plugin does not have the method. */
  async callOptional<T extends object>(method: string, body: unknown, patience: Patience = 'retry'): Promise<Partial<T> | undefined> {
    try {
      return await this.call<T>(method, body, patience)
    } catch (error) {
      if (error instanceof PluginRefused && error.status === 404) return undefined
      throw error
    }
  }

  #read<T>(method: string, answer: HttpAnswer): Partial<T> {
    if (answer.status !== 200) throw new PluginRefused(method, answer.status, errorText(answer.text) || `status ${answer.status}`)
    if (answer.text.trim() === '') return {}
    let value: unknown
    try {
      value = JSON.parse(answer.text)
    } catch {
      throw new NetError('internal', `${method}: plugin "${this.name}" answered what is no JSON: ${shown(answer.text)}`)
    }
    if (value === null) return {}
    if (typeof value !== 'object' || Array.isArray(value))
      throw new NetError('internal', `${method}: plugin "${this.name}" answered ${shown(answer.text)}, expected an object`)
    return readAnswer(this.name, method, value) as Partial<T>
  }

  async #attempts(method: string, body: unknown, patience: Patience): Promise<HttpAnswer> {
    const { clock, log, dirs } = this.#options
    const start = clock.now()
    for (let n = 0; ; n++) {
      let failure: NetError
      try {
        this.#address ??= findPlugin(this.name, dirs)
        if (this.#address !== undefined)
          return await post(this.#address, method, body, clock, this.#options.callTimeoutMs ?? DEFAULT_CALL_TIMEOUT_MS)
        failure = new NetError('not-found', `plugin "${this.name}" not found`, { op: 'find plugin', subject: this.name })
        // on a host without any folder of plugins none is about to come up
        if (!hasPluginDir(dirs)) throw failure
      } catch (error) {
        if (error instanceof AnswerTimedOut) throw this.#unavailable(method, error)
        if (!(error instanceof ConnectionFailed)) throw error
        failure = this.#unavailable(method, error)
        this.#forget()
      }
      const pauseMs = 1000 * 2 ** n
      if (patience === 'once' || clock.now() - start + pauseMs >= RETRY_BUDGET_MS) throw failure
      log.warn('cannot reach plugin; trying again', { plugin: this.name, method, pauseMs, error: messageOf(failure) })
      await clock.sleep(pauseMs)
    }
  }

  /** After a lost connection the plugin is looked up and asked anew: it may be another process, elsewhere. */
  #forget(): void {
    this.#address = undefined
    this.#implements = undefined
  }

  #unavailable(method: string, cause: Error): NetError {
    const where = this.#address === undefined ? '' : ` at ${this.#address.text}`
    return new NetError(
      'unavailable',
      `${method}: plugin "${this.name}"${where} does not answer: ${cause.message}`,
      { subject: this.name },
      cause,
    )
  }
}

/** `{"Err":"…"}`, or the text itself as very old plugins send it. */
function errorText(text: string): string {
  try {
    const value = JSON.parse(text) as { Err?: unknown; Error?: unknown } | null
    const err = value?.Err || value?.Error
    if (typeof err === 'string') return err
  } catch {
    // plain text
  }
  return text.trim()
}

function shown(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}…` : text
}

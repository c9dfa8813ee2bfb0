/** What a command gets: streams, environment, time, and the client of the engine that the global options name. */
import { readFileSync } from 'node:fs'
import type { Readable, Writable } from 'node:stream'
import type { Clock } from '../base/ports.ts'
import { DEFAULT_HOST } from '../client/address.ts'
import { Client } from '../client/client.ts'
import type { TlsMaterial } from '../client/transport.ts'
import { fail } from './fail.ts'

export interface GlobalOptions {
  readonly host?: string
  readonly tls: boolean
  readonly tlsVerify: boolean
  readonly tlsCa?: string
  readonly tlsCert?: string
  readonly tlsKey?: string
  readonly debug: boolean
}

export type Input = Readable & { readonly isTTY?: boolean; setRawMode?: (on: boolean) => unknown }
export type Output = Writable & { readonly isTTY?: boolean; readonly columns?: number; readonly rows?: number }

export interface StartedProgram {
  readonly pid: number | undefined
  /** Never rejects; `error` says why it could not be started. */
  readonly ended: Promise<{ readonly code: number | null; readonly signal: string | null; readonly error?: string }>
  /** Lets our process end before it. */
  release(): void
}

/** Starts a program of this machine: with our own streams, or in the background with its output on a descriptor. */
export type StartProgram = (
  program: string,
  args: readonly string[],
  output: 'inherit' | { readonly background: number },
) => Promise<StartedProgram>

export interface ContextParts {
  readonly stdin: Input
  readonly stdout: Output
  readonly stderr: Output
  readonly env: Readonly<Record<string, string | undefined>>
  readonly clock: Clock
  /** Calls `handle` for every signal of the list; returns the function that stops it. */
  readonly onSignals: (names: readonly string[], handle: (name: string) => void) => () => void
  /** Absolute path of the `causeway` launcher, to start the engine with. */
  readonly launcher: string
  readonly startProgram: StartProgram
}

export class Context {
  readonly stdin: Input
  readonly stdout: Output
  readonly stderr: Output
  readonly env: Readonly<Record<string, string | undefined>>
  readonly clock: Clock
  readonly onSignals: ContextParts['onSignals']
  readonly launcher: string
  readonly startProgram: StartProgram
  readonly global: GlobalOptions
  #client: Client | undefined

  constructor(parts: ContextParts, global: GlobalOptions) {
    this.stdin = parts.stdin
    this.stdout = parts.stdout
    this.stderr = parts.stderr
    this.env = parts.env
    this.clock = parts.clock
    this.onSignals = parts.onSignals
    this.launcher = parts.launcher
    this.startProgram = parts.startProgram
    this.global = global
  }

  get host(): string {
    return this.global.host ?? this.env['CAUSEWAY_HOST'] ?? DEFAULT_HOST
  }

  get client(): Client {
    const apiVersion = this.env['CAUSEWAY_API_VERSION']
    this.#client ??= new Client({ host: this.host, ...this.#tls(), ...(apiVersion === undefined ? {} : { apiVersion }) })
    return this.#client
  }

  close(): void {
    this.#client?.close()
  }

  print(text: string): void {
    this.stdout.write(`${text}\n`)
  }
  warn(text: string): void {
    this.stderr.write(`${text}\n`)
  }

  #tls(): { tls?: TlsMaterial } {
    const { global, env } = this
    const verify = global.tlsVerify || (env['CAUSEWAY_TLS_VERIFY'] ?? '') !== ''
    const given = global.tlsCa !== undefined || global.tlsCert !== undefined || global.tlsKey !== undefined
    if (!verify && !global.tls && !given) return {}
    const folder = env['CAUSEWAY_CERT_PATH']
    const read = (path: string | undefined, name: string, option: string): string | undefined => {
      const from = path ?? (folder === undefined ? undefined : `${folder}/${name}`)
      if (from === undefined) return undefined
      try {
        return readFileSync(from, 'utf8')
      } catch (cause) {
        if (path === undefined) return undefined // a default that is not there
        throw fail(`could not read the file given with --${option}: ${(cause as Error).message}`)
      }
    }
    const ca = read(global.tlsCa, 'ca.pem', 'tlscacert')
    const cert = read(global.tlsCert, 'cert.pem', 'tlscert')
    const key = read(global.tlsKey, 'key.pem', 'tlskey')
    return { tls: { verify, ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) } }
  }
}

/** Colours only for a terminal, and not when NO_COLOR is set. */
export function colours(output: Output, env: Readonly<Record<string, string | undefined>>): (code: number, text: string) => string {
  const on = output.isTTY === true && (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb'
  return (code, text) => (on ? `\u001b[${code}m${text}\u001b[0m` : text)
}

/** Ports to the outside that everything takes as parameters, so that time, chance and logs can be given by a test. */

export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number
  /** Resolves after `ms`; rejects with the signal's reason when aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
  /** Calls `fn` once after `ms`; the timer does not keep the process alive. Returns the cancel function. */
  after(ms: number, fn: () => void): () => void
}

export interface Rng {
  /** `n` random bytes fit for identifiers. */
  bytes(n: number): Uint8Array
}

export interface Logger {
  debug(message: string, fields?: object): void
  info(message: string, fields?: object): void
  warn(message: string, fields?: object): void
  error(message: string, fields?: object): void
}

/** A logger that drops everything. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} }

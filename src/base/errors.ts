/**
 * The one error class of the project. Decide on `code`, never on the text; the text is for people and,
 * where Docker's clients match on it, is Docker's own wording.
 */

/** Closed list of error kinds. `api/errors.ts` maps each of them to one HTTP status. */
export type ErrorCode =
  | 'invalid' // 400: the request is wrong and will stay wrong
  | 'denied' // 403: well-formed, but not allowed here (in use, predefined, overlapping)
  | 'not-found' // 404
  | 'not-modified' // 304: already in the wanted state
  | 'conflict' // 409: something else holds the name, or the state does not permit it now
  | 'not-implemented' // 501: Causeway does not do this; the text says what to use instead
  | 'unavailable' // 503: a part we depend on is away; may heal by itself
  | 'busy' // 409: somebody else is changing the same thing; try again
  | 'internal' // 500: a failure below us (kernel, runtime), or Docker answers 500 here

/** What the error is about, for logs and for programs. */
export interface ErrorDetail {
  /** What was attempted, as a verb phrase: `add link`. */
  readonly op?: string
  /** The thing it was attempted on. */
  readonly subject?: string
  /** Symbolic errno, for example `EEXIST`. */
  readonly errno?: string
  /** The kernel's own extended-ack sentence. */
  readonly kernel?: string
}

export class NetError extends Error {
  override readonly name = 'NetError'
  readonly code: ErrorCode
  readonly detail: ErrorDetail

  constructor(code: ErrorCode, message: string, detail: ErrorDetail = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.detail = detail
  }
}

/** True when `error` is a NetError with this code (structural, so that two copies of the module agree). */
export function hasCode(error: unknown, code: ErrorCode): boolean {
  return error instanceof Error && error.name === 'NetError' && (error as NetError).code === code
}

/** True when the kernel answered with this errno, for example `isErrno(e, 'ENODEV')`. */
export function isErrno(error: unknown, errno: string): boolean {
  return error instanceof Error && error.name === 'NetError' && (error as NetError).detail.errno === errno
}

/** The sentence a person should read, whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** The one place that turns an error into an HTTP answer. */
import type { ErrorCode } from '../base/errors.ts'
import { NetError } from '../base/errors.ts'

/** The one table from error codes to HTTP statuses; docs/errors.md shows it. */
export const STATUS_OF_CODE: Readonly<Record<ErrorCode, number>> = {
  invalid: 400,
  denied: 403,
  'not-found': 404,
  'not-modified': 304,
  conflict: 409,
  busy: 409,
  'not-implemented': 501,
  unavailable: 503,
  internal: 500,
}

export interface HttpError {
  readonly status: number
  readonly message: string
  /** True when the error is not one of ours: a bug that belongs in the log with its stack. */
  readonly unexpected: boolean
}

/**
 * Status and sentence for whatever was thrown. The innermost classified error decides the status when the outer one is
 * unclassified, as Docker's error classes do; several errors of a teardown are joined into one sentence.
 */
export function toHttpError(error: unknown): HttpError {
  const classified = classify(error)
  if (classified !== undefined) return { status: STATUS_OF_CODE[classified.code], message: describe(error), unexpected: false }
  return { status: 500, message: describe(error), unexpected: true }
}

function classify(error: unknown, depth = 0): NetError | undefined {
  if (depth > 8 || !(error instanceof Error)) return undefined
  if (error.name === 'NetError' && (error as NetError).code in STATUS_OF_CODE) return error as NetError
  if (error instanceof AggregateError) {
    for (const inner of error.errors) {
      const found = classify(inner, depth + 1)
      if (found !== undefined) return found
    }
  }
  return classify(error.cause, depth + 1)
}

function describe(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(describe).join('\n')
  if (error instanceof Error) return error.message === '' ? error.name : error.message
  return String(error)
}

/** 400 with this text. */
export const badRequest = (message: string): NetError => new NetError('invalid', message)
/** 404 with this text. */
export const notFound = (message: string): NetError => new NetError('not-found', message)
/** What Causeway leaves to other tools; `message` says which. */
export const notImplemented = (message: string): NetError => new NetError('not-implemented', message)
/** 404 for a path that no route has. */
export const pageNotFound = (): NetError => new NetError('not-found', 'page not found')

/** Reads a request's JSON body: bounded, checked for its content type, with the error texts that Docker's clients know. */
import type { Readable } from 'node:stream'
import type { NetError } from '../base/errors.ts'
import { badRequest } from './errors.ts'

/** Most bytes of a JSON body; a longer one is refused. */
export const MAX_JSON_BYTES = 4 * 1024 * 1024

export interface BodyHeaders {
  readonly contentType: string | undefined
  readonly contentLength: string | undefined
  readonly transferEncoding: string | undefined
}

/** True when the headers announce a body. */
export function announcesBody(headers: BodyHeaders): boolean {
  return headers.transferEncoding !== undefined || (headers.contentLength !== undefined && headers.contentLength !== '0')
}

/** The parsed body, or undefined when there is none. Throws `invalid` for a wrong type, bad JSON or too many bytes. */
export async function readJson(stream: Readable, headers: BodyHeaders): Promise<unknown> {
  if (!announcesBody(headers)) return undefined
  checkContentType(headers.contentType)
  if (Number(headers.contentLength ?? 0) > MAX_JSON_BYTES) throw tooLarge()
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of stream) {
    size += (chunk as Buffer).length
    if (size > MAX_JSON_BYTES) throw tooLarge()
    chunks.push(chunk as Buffer)
  }
  const text = Buffer.concat(chunks).toString('utf8')
  return text.trim() === '' ? undefined : parseJson(text)
}

function tooLarge(): NetError {
  return badRequest(`request body too large: at most ${MAX_JSON_BYTES} bytes of JSON are read`)
}

function checkContentType(contentType: string | undefined): void {
  const type = (contentType ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? ''
  if (type === '') throw badRequest(`malformed Content-Type header (${contentType ?? ''}): no media type, must be 'application/json'`)
  if (type !== 'application/json') throw badRequest(`unsupported Content-Type header (${contentType}): must be 'application/json'`)
}

/** JSON.parse with Docker's three sentences for what can be wrong. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch (error) {
    throw badRequest(jsonProblem(text, error instanceof Error ? error.message : ''))
  }
}

function jsonProblem(text: string, message: string): string {
  if (/after JSON/.test(message)) return 'unexpected content after JSON'
  const position = /position (\d+)/.exec(message)
  const endsEarly = position !== null && Number(position[1]) >= text.length
  if (endsEarly || /end of JSON|Unterminated/.test(message)) return 'invalid JSON: unexpected EOF'
  const token = /Unexpected token '?(.)/su.exec(message)
  const at = position === null ? '' : ` at offset ${position[1]}`
  const character = token?.[1] ?? (position === null ? text.trimStart().slice(0, 1) : (text[Number(position[1])] ?? ''))
  return `invalid JSON: invalid character '${character}'${at}`
}

/** Errors that a client provokes by going away in the middle of its body. */
export function isAbortedBody(error: unknown): boolean {
  return (
    error instanceof Error &&
    ['ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE', 'ABORT_ERR'].includes((error as NodeJS.ErrnoException).code ?? '')
  )
}

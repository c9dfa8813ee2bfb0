/**
 * Fetches an archive over HTTP for `docker import <URL>`. Follows redirects as Go's client does. Does no proxies, caches or resumption:
 * whoever needs them pipes curl into `docker import -`.
 */
import { type ClientRequest, get as httpGet, type IncomingMessage, STATUS_CODES } from 'node:http'
import { get as httpsGet } from 'node:https'
import { Transform } from 'node:stream'
import { type ErrorCode, NetError } from '../base/errors.ts'
import type { Progress } from './types.ts'

const MAX_REDIRECTS = 10
/** A server that is silent for this long has failed. */
const SILENCE_MS = 60_000
/** Of an error page, for the message. */
const MAX_ERROR_BYTES = 1024
/** A progress line at most for every so many bytes, and for every hundredth of the whole. */
const REPORT_BYTES = 512 * 1024
const CODE_OF_STATUS: Readonly<Record<number, ErrorCode>> = { 400: 'invalid', 401: 'denied', 403: 'denied', 404: 'not-found' }

/** The URL that `docker import` was given; without a scheme it is plain HTTP. Throws `invalid`. */
export function importUrl(text: string): URL {
  const shown = JSON.stringify(text.slice(0, 200))
  let url: URL
  try {
    url = new URL(text.includes('://') ? text : `http://${text}`)
  } catch {
    throw new NetError('invalid', `parse ${shown}: not a URL, expected http://host/path, https://host/path or "-"`)
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw new NetError('invalid', `Get ${shown}: unsupported protocol scheme "${url.protocol.slice(0, -1)}"`)
  return url
}

/**
 * The body of what the URL names, once the server has begun to send it. Reports what flows through. Throws Docker's texts: `not-found`
 * for an unknown host and 404, `denied`, `invalid`, else `internal`. Aborted by the signal, also in the middle of the body.
 */
export async function fetchArchive(url: URL, progress: Progress, signal: AbortSignal): Promise<Transform> {
  const answer = await follow(url, signal)
  progress({ status: `Downloading from ${withoutPassword(url)}` })
  const meter = reporter(Number(answer.headers['content-length'] ?? 0), progress)
  // pipe() alone forgets errors: an archive that is cut off must not look complete
  answer.on('error', (error) => meter.destroy(failure(url, error)))
  answer.on('close', () => {
    if (!answer.complete) meter.destroy(failure(url, new Error('unexpected EOF')))
  })
  meter.on('close', () => answer.destroy())
  return answer.pipe(meter)
}

async function follow(first: URL, signal: AbortSignal): Promise<IncomingMessage> {
  let url = first
  for (let n = 0; n <= MAX_REDIRECTS; n++) {
    const answer = await ask(url, signal).catch((error) => {
      throw failure(url, error)
    })
    const { statusCode = 0, headers } = answer
    if ([301, 302, 303, 307, 308].includes(statusCode) && headers.location !== undefined) {
      answer.destroy()
      url = importUrl(new URL(headers.location, url).href)
      continue
    }
    if (statusCode < 400) return answer
    const said = await beginningOf(answer)
    const status = `${statusCode} ${answer.statusMessage || STATUS_CODES[statusCode] || ''}`.trim()
    throw new NetError(CODE_OF_STATUS[statusCode] ?? 'internal', `failed to GET ${withoutPassword(first)} with status ${status}: ${said}`)
  }
  throw new NetError('internal', `Get "${withoutPassword(first)}": stopped after ${MAX_REDIRECTS} redirects`)
}

function ask(url: URL, signal: AbortSignal): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const get = url.protocol === 'https:' ? httpsGet : httpGet
    // a connection of its own, as the bytes may take long, and its end is the end of the archive
    const request: ClientRequest = get(url, { signal, agent: false, headers: { 'accept-encoding': 'identity' } }, resolve)
    request.setTimeout(SILENCE_MS, () => request.destroy(new Error(`the server sends nothing for ${SILENCE_MS / 1000} s`)))
    request.on('error', reject)
  })
}

async function beginningOf(answer: IncomingMessage): Promise<string> {
  let text = ''
  try {
    for await (const chunk of answer) {
      text += (chunk as Buffer).toString()
      if (text.length > MAX_ERROR_BYTES) break
    }
  } catch {
    // what has come will do
  }
  answer.destroy()
  return text.slice(0, MAX_ERROR_BYTES).trim()
}

/** Passes bytes on and says how many they were. */
function reporter(total: number, progress: Progress): Transform {
  const step = Math.min(REPORT_BYTES, total > 0 ? Math.max(1, total / 100) : REPORT_BYTES)
  let current = 0
  let reported = 0
  const report = (): void => {
    reported = current
    progress({ status: 'Importing', progressDetail: { current, ...(total > 0 ? { total } : {}) } })
  }
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      current += chunk.length
      if (current - reported >= step) report()
      done(null, chunk)
    },
    flush(done) {
      if (reported < current) report()
      done()
    },
  })
}

function failure(url: URL, error: unknown): NetError {
  if (error instanceof NetError) return error
  const { code, message } = error as NodeJS.ErrnoException
  const shown = withoutPassword(url)
  if (code === 'ENOTFOUND') return new NetError('not-found', `Get "${shown}": dial tcp: lookup ${url.hostname}: no such host`)
  if (code === 'ECONNREFUSED') return new NetError('internal', `Get "${shown}": dial tcp ${url.host}: connect: connection refused`)
  return new NetError('internal', `Get "${shown}": ${message}`, {}, error)
}

function withoutPassword(url: URL): string {
  if (url.password === '') return url.href
  const shown = new URL(url)
  shown.password = 'xxxxx'
  return shown.href
}

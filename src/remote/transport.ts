/** One call to a plugin: a POST with a JSON body over a unix socket, TCP or TLS, bounded in time and size. */
import { readFileSync } from 'node:fs'
import { type ClientRequest, type IncomingMessage, type RequestOptions, request as requestPlain } from 'node:http'
import { request as requestTls } from 'node:https'
import type { Clock } from '../base/ports.ts'
import { ACCEPT } from '../drivers/remote/protocol.ts'
import type { PluginAddress, PluginTls } from './discovery.ts'

/** No answer of the protocol is anywhere near this long. */
const MAX_ANSWER_BYTES = 4 << 20
/** How long the connection of an unanswered call is kept to see its end. */
const LATE_ANSWER_MS = 600_000

export interface HttpAnswer {
  readonly status: number
  readonly text: string
}

/** The plugin was not reached, or the connection broke before the answer was whole: the call may be sent again. */
export class ConnectionFailed extends Error {}
/** The plugin took the call and kept silent: it may still do what it was asked. */
export class AnswerTimedOut extends Error {
  /** Resolves when the plugin has answered after all or let go of the connection, so that what it made can be taken back in the right order. */
  readonly settled: Promise<void>
  constructor(message: string, settled: Promise<void>) {
    super(message)
    this.settled = settled
  }
}

/** Sends one call and reads the whole answer. @throws ConnectionFailed, AnswerTimedOut */
export function post(address: PluginAddress, method: string, body: unknown, clock: Clock, timeoutMs: number): Promise<HttpAnswer> {
  const payload = body === undefined ? '' : JSON.stringify(body)
  return new Promise((resolve, reject) => {
    let req: ClientRequest
    let cancel = clock.after(timeoutMs, () => {
      cancel = clock.after(LATE_ANSWER_MS, () => req.destroy())
      const settled = new Promise<void>((done) => req.once('close', done))
      reject(new AnswerTimedOut(`no answer within ${timeoutMs / 1000} s`, settled))
    })
    const fail = (error: Error) => {
      cancel()
      reject(new ConnectionFailed(error.message))
    }
    const answer = (res: IncomingMessage) => {
      const chunks: Buffer[] = []
      let size = 0
      res.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size > MAX_ANSWER_BYTES) req.destroy(new Error(`the answer is longer than ${MAX_ANSWER_BYTES} bytes`))
        else chunks.push(chunk)
      })
      res.on('error', fail)
      res.on('end', () => {
        cancel()
        resolve({ status: res.statusCode ?? 0, text: Buffer.concat(chunks).toString() })
      })
    }
    const options: RequestOptions = {
      method: 'POST',
      path: `/${method}`,
      // a connection of its own: a plugin that restarts leaves no half-dead one behind
      agent: false,
      headers: { accept: ACCEPT, 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) },
    }
    try {
      if (address.kind === 'unix')
        req = requestPlain({ ...options, socketPath: address.path, headers: { ...options.headers, host: 'plugin' } }, answer)
      else if (address.tls === undefined) req = requestPlain({ ...options, host: address.host, port: address.port }, answer)
      else req = requestTls({ ...options, host: address.host, port: address.port, ...certificates(address.tls) }, answer)
    } catch (error) {
      return fail(error as Error)
    }
    req.on('error', fail)
    req.end(payload)
  })
}

function certificates(tls: PluginTls) {
  return {
    rejectUnauthorized: !tls.insecureSkipVerify,
    ...(tls.caFile ? { ca: readFileSync(tls.caFile) } : {}),
    ...(tls.certFile ? { cert: readFileSync(tls.certFile) } : {}),
    ...(tls.keyFile ? { key: readFileSync(tls.keyFile) } : {}),
  }
}

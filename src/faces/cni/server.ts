/** The engine's CNI socket: one request for each connection, in the frames of `frames.ts`. */
import { chmodSync, mkdirSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { messageOf } from '../../base/errors.ts'
import type { Logger } from '../../base/ports.ts'
import type { Cni } from './cni.ts'
import { CNI, CniError, errorJson } from './errors.ts'
import { decodeRequest, encodeAnswer, isWholeRequest } from './frames.ts'

/** Configurations are a few kilobytes. */
const MOST_BYTES = 16 * 1024 * 1024
/** A stub sends at once; who has not finished after this is none. */
const SEND_TIMEOUT_MS = 30_000

export interface CniServer {
  /** Stops accepting and waits for requests under way. */
  close(): Promise<void>
}

/** Listens at `path`, for root alone. A socket file that is there belongs to an engine that has ended: the caller holds the lock. */
export function listenCni(path: string, cni: Cni, log: Logger): Promise<CniServer> {
  mkdirSync(dirname(path), { recursive: true })
  rmSync(path, { force: true })
  const busy = new Set<Promise<void>>()
  const open = new Set<Socket>()
  const server: Server = createServer({ allowHalfOpen: true }, (connection) => {
    open.add(connection)
    connection.on('close', () => open.delete(connection))
    connection.on('error', () => connection.destroy())
    connection.setTimeout(SEND_TIMEOUT_MS, () => connection.destroy())
    const chunks: Buffer[] = []
    let bytes = 0
    let isServed = false
    const begin = (request: Buffer) => {
      isServed = true
      connection.setTimeout(0)
      const done = serve(connection, request).finally(() => busy.delete(done))
      busy.add(done)
    }
    connection.on('data', (chunk) => {
      bytes += chunk.length
      if (isServed) return
      if (bytes > MOST_BYTES) connection.destroy()
      else chunks.push(chunk)
      if (chunk.at(-1) !== 0) return
      const request = chunks.length === 1 ? chunk : Buffer.concat(chunks)
      if (isWholeRequest(request)) begin(request)
    })
    connection.on('end', () => {
      if (!isServed) begin(Buffer.concat(chunks)) // cut short: said by what cannot be read
    })
  })

  async function serve(connection: Socket, request: Buffer): Promise<void> {
    try {
      connection.end(encodeAnswer(await cni.answer(decodeRequest(request))))
    } catch (error) {
      log.warn('CNI request cannot be read', { error: messageOf(error) })
      connection.end(encodeAnswer({ status: 1, output: errorJson(new CniError(CNI.io, messageOf(error)), undefined) }))
    }
  }

  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, () => {
      chmodSync(path, 0o600)
      resolve({
        async close() {
          const closed = new Promise<void>((done) => server.close(() => done()))
          await Promise.all(busy)
          cni.close()
          for (const connection of open) if (!connection.writableEnded) connection.destroy()
          await closed
        },
      })
    })
  })
}

/**
 * Connections that stop being HTTP: attach and exec. A client may ask for it with `Upgrade: tcp` (Docker's CLI and docker-py)
 * or simply go on talking after the request (dockerode). Both end here as one `Wire`.
 *
 * Traps, measured on Node 20: with an `upgrade` listener Node leaves the request's body unread in the socket; without the
 * header the HTTP parser stays on the socket and takes the client's input for a broken request, and a half-close ends it.
 */
import type { IncomingMessage, Server } from 'node:http'
import { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex, Readable } from 'node:stream'
import { MAX_JSON_BYTES } from './body.ts'
import { badRequest } from './errors.ts'
import type { Exchange } from './types.ts'

/** A raw connection to a client. */
export interface Wire {
  readonly socket: Socket
  /** What the client sends, without HTTP around it. Ends with its half-close. */
  readonly input: Readable
  readonly upgraded: boolean
  /** Sends the head of the answer: 101 to who asked for an upgrade, else 200. */
  accept(contentType: string): void
  /** Answers an ordinary error instead, and closes. */
  refuse(status: number, message: string, headers: Readonly<Record<string, string>>): void
}

const REASONS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  403: 'Forbidden',
  404: 'Not Found',
  409: 'Conflict',
  501: 'Not Implemented',
}

/**
 * Takes the connection away from Node's HTTP server. The caller ends the socket. Throws `invalid` when an earlier request of
 * the same connection is still being answered.
 */
export function takeSocket(exchange: Exchange): Wire {
  const { req, res, upgrade } = exchange
  const { socket } = res
  if (socket === null) throw badRequest('a request that takes over its connection cannot be pipelined behind another')
  const isChunked = upgrade === undefined && req.headers['transfer-encoding'] !== undefined && !req.complete
  res.removeAllListeners('finish')
  res.detachSocket(socket)
  socket.setTimeout(0)
  socket.setNoDelay?.(true)
  socket.on('error', () => {}) // a client that vanishes is an end, not a failure; 'close' follows
  if (upgrade !== undefined) {
    if (upgrade.rest.length > 0) socket.unshift(upgrade.rest)
  } else if (!isChunked) {
    // A chunked request body is the client's input; then the parser must stay to take it apart.
    for (const event of ['data', 'end', 'timeout', 'drain']) socket.removeAllListeners(event)
    // The parser reads past the stream until somebody listens for data; what comes before a process takes it waits in the socket.
    const nobody = (): void => {}
    socket.on('data', nobody)
    socket.pause()
    socket.removeListener('data', nobody)
  }
  return {
    socket,
    input: isChunked ? req : socket,
    upgraded: upgrade !== undefined,
    accept(contentType) {
      const head =
        upgrade === undefined
          ? `HTTP/1.1 200 OK\r\nContent-Type: ${contentType}\r\n\r\n`
          : `HTTP/1.1 101 UPGRADED\r\nContent-Type: ${contentType}\r\nConnection: Upgrade\r\nUpgrade: ${upgrade.protocol}\r\n\r\n`
      socket.write(head)
    },
    refuse(status, message, headers) {
      const body = Buffer.from(`${JSON.stringify({ message })}\n`)
      const lines = Object.entries({ ...headers, 'Content-Type': 'application/json', 'Content-Length': body.length, Connection: 'close' })
      const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')
      socket.end(Buffer.concat([Buffer.from(`HTTP/1.1 ${status} ${REASONS[status] ?? 'Error'}\r\n${head}\r\n`), body]))
      socket.resume()
    },
  }
}

/** Without a length nobody can tell where the body ends and the new protocol begins. */
const LENGTH_NEEDED = `${JSON.stringify({ message: 'a request that changes protocols must state its Content-Length, and not send more than 4 MiB' })}\n`

export interface UpgradeFacts {
  readonly protocol: string
  readonly body: Buffer
  readonly rest: Buffer
}

/**
 * Serves requests with an `Upgrade` header through the same handler as all others: reads the body that Node left in the
 * socket, then hands over a response of our own. A request that does not hijack is answered as usual and the connection closed.
 */
export function serveUpgrades(server: Server, serve: (req: IncomingMessage, res: ServerResponse, upgrade: UpgradeFacts) => void): void {
  server.on('upgrade', (req: IncomingMessage, duplex: Duplex, head: Buffer) => {
    const socket = duplex as Socket
    socket.on('error', () => socket.destroy())
    // A TLS socket flows on although the parser has let go of it: input, and its end, would be lost before anybody takes them.
    socket.pause()
    const protocol = String(req.headers.upgrade ?? 'tcp')
      .replace(/[^\w./-]/g, '')
      .slice(0, 40)
    const length = Number(req.headers['content-length'] ?? 0)
    if (req.headers['transfer-encoding'] !== undefined || !(length <= MAX_JSON_BYTES)) {
      socket.end(
        `HTTP/1.1 411 Length Required\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${LENGTH_NEEDED.length}\r\n\r\n${LENGTH_NEEDED}`,
      )
      return
    }
    readExactly(socket, head, length, (body, rest) => {
      const res = new ServerResponse(req)
      res.shouldKeepAlive = false
      try {
        res.assignSocket(socket)
      } catch {
        socket.destroy() // pipelined behind a request that is still being answered
        return
      }
      res.once('finish', () => {
        res.detachSocket(socket)
        socket.end()
        socket.resume()
      })
      serve(req, res, { protocol, body, rest })
    })
  })
}

function readExactly(socket: Socket, head: Buffer, length: number, done: (body: Buffer, rest: Buffer) => void): void {
  const chunks = [head]
  let size = head.length
  const finish = (): void => {
    const all = chunks.length === 1 ? head : Buffer.concat(chunks)
    done(all.subarray(0, length), all.subarray(length))
  }
  if (size >= length) {
    finish()
    return
  }
  const onData = (chunk: Buffer): void => {
    chunks.push(chunk)
    size += chunk.length
    if (size < length) return
    socket.pause()
    socket.removeListener('data', onData)
    socket.removeListener('end', onEnd)
    finish()
  }
  const onEnd = (): void => void socket.destroy() // the body will never be complete
  socket.on('data', onData)
  socket.on('end', onEnd)
  socket.resume()
}

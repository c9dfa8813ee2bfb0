/** An API server on a unix socket in a temporary folder, over in-memory services, and a plain client for it. */
import { mkdtempSync, rmSync } from 'node:fs'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { Agent, request } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ApiOptions, ApiServer } from '../src/api/server.ts'
import { createApiServer } from '../src/api/server.ts'
import { systemClock } from '../src/base/clock.ts'
import type { Logger } from '../src/base/ports.ts'
import { MemoryContainers } from './memory-engine/containers.ts'
import { MemoryController } from './memory-engine/controller.ts'
import { MemoryEvents } from './memory-engine/events.ts'
import { MemoryImages } from './memory-engine/images.ts'
import { MemoryVolumes } from './memory-engine/volumes.ts'

export interface Reply {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  /** Parsed body; undefined when it is not JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: tests reach into answers of every shape
  readonly json: any
}

export interface Lab {
  readonly path: string
  readonly api: ApiServer
  readonly controller: MemoryController
  readonly containers: MemoryContainers
  readonly images: MemoryImages
  readonly volumes: MemoryVolumes
  readonly events: MemoryEvents
  readonly logged: { level: string; message: string; fields?: object }[]
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Reply>
  /** The open response, for streams. */
  open(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<IncomingMessage>
  /** Sends bytes, half-closes when asked, and returns all that comes back until the server closes. */
  raw(bytes: string | Buffer, options?: { halfClose?: boolean; timeoutMs?: number }): Promise<Buffer>
  close(): Promise<void>
}

export async function apiLab(change: Partial<ApiOptions> = {}): Promise<Lab> {
  const events = new MemoryEvents()
  const controller = new MemoryController(events)
  const containers = new MemoryContainers(controller, events)
  const images = new MemoryImages()
  const volumes = new MemoryVolumes()
  const logged: Lab['logged'] = []
  const record =
    (level: string) =>
    (message: string, fields?: object): void =>
      void logged.push({ level, message, ...(fields === undefined ? {} : { fields }) })
  const log: Logger = { debug: () => {}, info: record('info'), warn: record('warn'), error: record('error') }
  const api = await createApiServer({
    controller,
    containers,
    images,
    volumes,
    events,
    info: () => ({
      ID: 'LAB',
      Name: 'lab',
      KernelVersion: '6.1',
      OperatingSystem: 'Debian',
      Architecture: 'x86_64',
      NCPU: 2,
      MemTotal: 1,
      DockerRootDir: '/x',
    }),
    version: {
      dockerVersion: '28.3.0',
      version: '0.1.0',
      gitCommit: 'abc',
      buildTime: '2026-01-01',
      os: 'linux',
      arch: 'amd64',
      kernelVersion: '6.1',
    },
    clock: systemClock,
    log,
    ...change,
  })
  const folder = mkdtempSync(join(tmpdir(), 'causeway-api-'))
  const path = join(folder, 'api.sock')
  await api.listenUnix(path)
  const agent = new Agent({ keepAlive: true, maxSockets: 8 })

  const open: Lab['open'] = (method, url, body, headers = {}) =>
    new Promise((resolve, reject) => {
      const text = body === undefined || typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body)
      const all = {
        ...(text === undefined ? {} : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(text)) }),
        ...headers,
      }
      const req = request({ socketPath: path, method, path: url, headers: all, agent }, resolve)
      req.on('error', reject)
      req.end(text)
    })

  return {
    path,
    api,
    controller,
    containers,
    images,
    volumes,
    events,
    logged,
    open,
    async call(method, url, body, headers) {
      const res = await open(method, url, body, headers)
      const text = (await readAll(res)).toString('utf8')
      return { status: res.statusCode ?? 0, headers: res.headers, text, json: tryJson(text) }
    },
    raw: (bytes, { halfClose = false, timeoutMs = 5000 } = {}) =>
      new Promise((resolve, reject) => {
        const socket = connect({ path, allowHalfOpen: true })
        const chunks: Buffer[] = []
        socket.setTimeout(timeoutMs, () =>
          socket.destroy(new Error(`no end within ${timeoutMs} ms, got ${Buffer.concat(chunks).toString('latin1').slice(0, 300)}`)),
        )
        socket.on('data', (chunk) => chunks.push(chunk))
        socket.on('end', () => {
          socket.end()
          resolve(Buffer.concat(chunks))
        })
        socket.on('error', reject)
        socket.write(bytes)
        if (halfClose) socket.end()
      }),
    async close() {
      agent.destroy()
      await api.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

export async function readAll(stream: AsyncIterable<unknown>): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

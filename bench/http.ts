/** The HTTP client that both engines are measured with: Docker's API over a unix socket, kept alive, nothing clever. */
import { Agent, request } from 'node:http'

export interface Reply {
  readonly status: number
  readonly body: string
}

export class Api {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 4 })
  readonly #socketPath: string

  constructor(socketPath: string) {
    this.#socketPath = socketPath
  }

  /** One request. Rejects on transport errors only. */
  send(method: string, path: string, body?: unknown): Promise<Reply> {
    const raw = Buffer.isBuffer(body)
    const payload = body === undefined ? undefined : raw ? body : Buffer.from(JSON.stringify(body))
    return new Promise((resolve, reject) => {
      const headers: Record<string, string | number> =
        payload === undefined ? {} : { 'content-type': raw ? 'application/x-tar' : 'application/json', 'content-length': payload.length }
      const req = request({ socketPath: this.#socketPath, agent: this.#agent, method, path, headers, timeout: 120_000 }, (res) => {
        const chunks: Buffer[] = []
        res.on('data', (chunk: Buffer) => chunks.push(chunk))
        res.on('end', () => resolve({ status: res.statusCode ?? 0, body: Buffer.concat(chunks).toString() }))
        res.on('error', reject)
      })
      req.on('error', reject)
      req.on('timeout', () => req.destroy(new Error(`${method} ${path}: no answer in 120 s`)))
      req.end(payload)
    })
  }

  /** Like send, but anything that is not a success is an error with the engine's words. */
  async call<T = unknown>(method: string, path: string, body?: unknown): Promise<T> {
    const reply = await this.send(method, path, body)
    if (reply.status >= 400) throw new Error(`${method} ${path}: ${reply.status} ${reply.body.trim()}`)
    if (reply.body === '') return undefined as T
    try {
      return JSON.parse(reply.body) as T
    } catch {
      return reply.body as T // progress streams are several JSON texts
    }
  }

  close(): void {
    this.#agent.destroy()
  }
}

/** Clients of real stores for the conformance suite, and writing to those stores beside the port. */
import { request } from 'node:http'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/ports.ts'
import { systemRng } from '../../src/base/rng.ts'
import { openClusterStore } from '../../src/cluster/store/open.ts'
import type { ClusterStore } from '../../src/cluster/store/types.ts'
import { parseStoreUrl } from '../../src/cluster/store/url.ts'

interface Lab {
  storeUrl(path?: string): string
  readonly storeOpts: Readonly<Record<string, string>>
}

export const ports = { clock: systemClock, rng: systemRng, logger: silentLogger }

/** `open` gives a client that `closeAll` closes. Tests do not wait long for a store that is away: `kv.patience` is 2 s. */
export function opener(lab: () => Lab) {
  const opened: ClusterStore[] = []
  return {
    /** `endpoints`: asked instead of the lab's members. */
    open(path = '', options: Readonly<Record<string, string>> = {}, endpoints?: readonly string[]): ClusterStore {
      const own = lab().storeUrl(path === '' ? '' : `/${path}`)
      const url = endpoints === undefined ? own : own.replace(/:\/\/[^/]*/, `://${endpoints.join(',')}`)
      const config = parseStoreUrl(url, { 'kv.patience': '2', ...lab().storeOpts, ...options })
      const store = openClusterStore(config, ports)
      opened.push(store)
      return store
    },
    async closeAll(): Promise<void> {
      await Promise.all(opened.map((store) => store.close()))
    },
  }
}

/** A request as any tool could make it; throws when it is refused. */
function plainRequest(endpoint: string, path: string, body: string, headers: Record<string, string> = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const req = request(`http://${endpoint}${path}`, { method: 'POST', agent: false, headers }, (res) => {
      const chunks: Buffer[] = []
      res.on('data', (chunk: Buffer) => chunks.push(chunk))
      res.on('end', () => {
        const text = Buffer.concat(chunks).toString()
        if ((res.statusCode ?? 0) < 300) resolve(text)
        else reject(new Error(`${path}: ${res.statusCode} ${text}`))
      })
    })
    req.on('error', reject)
    req.end(body)
  })
}

interface EtcdToWrite extends Lab {
  readonly members: readonly { readonly endpoint: string; pid(): number }[]
}

/** Puts any bytes into an etcd without TLS. Its keys begin with a slash. */
export function rawPutThrough(lab: () => EtcdToWrite) {
  return async (key: string, value: Uint8Array): Promise<void> => {
    const endpoint = lab().members.find((member) => member.pid() !== 0)?.endpoint ?? ''
    const { 'kv.username': name, 'kv.password': password } = lab().storeOpts
    const login = name === undefined ? '{}' : await plainRequest(endpoint, '/v3/auth/authenticate', JSON.stringify({ name, password }))
    const { token } = JSON.parse(login) as { token?: string }
    const body = { key: Buffer.from(`/${key}`).toString('base64'), value: Buffer.from(value).toString('base64') }
    await plainRequest(endpoint, '/v3/kv/put', JSON.stringify(body), token === undefined ? {} : { authorization: token })
  }
}

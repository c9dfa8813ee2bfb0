/** One plugin's socket: the calls of the protocol, one after the other for each network, answered as Docker expects them. */
import { chmodSync, mkdirSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { dirname } from 'node:path'
import { messageOf } from '../../base/errors.ts'
import type { Logger } from '../../base/ports.ts'
import { IPAM_DRIVER, LABEL, NETWORK_DRIVER } from '../../drivers/remote/protocol.ts'
import type { DhcpIpam } from './dhcp-ipam.ts'
import { badCall, errorAnswer } from './errors.ts'
import type { PluginIpam } from './ipam.ts'
import type { PluginNetworkDriver } from './network-driver.ts'
import { OverlayAddresses } from './overlay-addresses.ts'
import { SharedIpam } from './shared-ipam.ts'

const MOST_BYTES = 1 << 20
const CONTENT_TYPE = 'application/vnd.docker.plugins.v1.2+json'

// biome-ignore lint/suspicious/noExplicitAny: the body is what the caller sent; methods check what they read
type Method = (body: any) => unknown

export interface PluginFace {
  readonly network?: PluginNetworkDriver
  readonly ipam?: PluginIpam | DhcpIpam
  /** Pools of overlay networks: asked first. */
  readonly overlay?: OverlayAddresses
  /** Pools of a cluster: asked next. */
  readonly shared?: SharedIpam
}

function methodsOf({ network, ipam, overlay, shared }: PluginFace): Map<string, Method> {
  const implemented = [...(network ? [NETWORK_DRIVER] : []), ...(ipam ? [IPAM_DRIVER] : [])]
  const methods: [string, Method][] = [['Plugin.Activate', () => ({ Implements: implemented })]]
  const add = (face: string, table: Readonly<Record<string, Method>>) => {
    for (const [name, method] of Object.entries(table)) methods.push([`${face}.${name}`, method])
  }
  if (network)
    add(NETWORK_DRIVER, {
      GetCapabilities: () => network.capabilities(),
      CreateNetwork: (body) => network.createNetwork(body),
      DeleteNetwork: (body) => network.deleteNetwork(String(body.NetworkID ?? '')),
      CreateEndpoint: (body) => network.createEndpoint(body),
      DeleteEndpoint: (body) => network.deleteEndpoint(body),
      EndpointOperInfo: (body) => network.operInfo(body),
      Join: (body) => network.join(body),
      Leave: () => network.leave(),
      ProgramExternalConnectivity: (body) => network.programExternal(body),
      RevokeExternalConnectivity: (body) => network.revokeExternal(body),
      AllocateNetwork: () => ({ Options: {} }),
      FreeNetwork: () => ({}),
      DiscoverNew: () => ({}),
      DiscoverDelete: () => ({}),
    })
  if (ipam)
    add(IPAM_DRIVER, {
      GetCapabilities: () => ipam.capabilities(),
      GetDefaultAddressSpaces: () => ipam.addressSpaces(),
      RequestPool: async (body) => (await overlay?.requestPool(body)) ?? (await shared?.requestPool(body)) ?? ipam.requestPool(body),
      ReleasePool: (body) =>
        SharedIpam.isPool(body.PoolID) ? shared?.releasePool(body.PoolID) : ipam.releasePool(String(body.PoolID ?? '')),
      RequestAddress: (body) => {
        if (OverlayAddresses.isPool(body.PoolID)) return overlay?.requestAddress(body)
        return SharedIpam.isPool(body.PoolID) ? shared?.requestAddress(body) : ipam.requestAddress(body)
      },
      ReleaseAddress: (body) => {
        const address = String(body.Address ?? '')
        if (OverlayAddresses.isPool(body.PoolID)) return overlay?.releaseAddress(body.PoolID, address)
        if (SharedIpam.isPool(body.PoolID)) return shared?.releaseAddress(body.PoolID, address)
        return ipam.releaseAddress(String(body.PoolID ?? ''), address)
      },
    })
  return new Map(methods)
}

/**
 * What becomes of an answer. Given to a caller, a pool or an address of the cluster is Docker's; a caller that has gone will ask anew, and
 * what he got is given back.
 */
function settleAnswer({ shared }: PluginFace, method: string, body: Record<string, unknown>, answer: unknown, isGone: boolean): unknown {
  if (shared === undefined || typeof answer !== 'object' || answer === null) return undefined
  const { PoolID, Address } = answer as { PoolID?: unknown; Address?: unknown }
  if (method === `${IPAM_DRIVER}.RequestPool` && SharedIpam.isPool(PoolID))
    return isGone ? shared.releasePool(PoolID) : shared.answered({ PoolID })
  if (method === `${IPAM_DRIVER}.RequestAddress` && SharedIpam.isPool(body['PoolID']) && typeof Address === 'string')
    return isGone ? shared.releaseAddress(body['PoolID'], Address.replace(/\/.*/, '')) : shared.answeredAddress(body['PoolID'], { Address })
  return undefined
}

/** Listens at `path`, for root alone. A socket file that is there belongs to a process that has ended: the caller holds the engine's lock. */
export function listenPlugin(path: string, face: PluginFace, log: Logger): Promise<Server> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
  rmSync(path, { force: true })
  const methods = methodsOf(face)
  const turns = new Map<string, Promise<unknown>>()

  /** Calls about one network wait for each other: Docker repeats a call whose answer was lost while the first is still at work. */
  const inTurn = async (key: string | undefined, fn: () => unknown): Promise<unknown> => {
    if (key === undefined) return fn()
    const mine = (turns.get(key) ?? Promise.resolve()).then(fn)
    const done = mine
      .catch(() => {})
      .then(() => {
        if (turns.get(key) === done) turns.delete(key)
      })
    turns.set(key, done)
    return mine
  }

  async function answer(req: IncomingMessage, res: ServerResponse): Promise<[number, unknown]> {
    const method = (req.url ?? '').slice(1)
    const fn = methods.get(method)
    if (fn === undefined) return [404, { Err: `${method}: there is no such method` }]
    try {
      const body = await read(req, method)
      const said = (await inTurn(turnOf(body), () => fn(body))) ?? {}
      await settleAnswer(face, method, body, said, res.destroyed)
      return [200, said]
    } catch (error) {
      log.warn('call of a Docker Engine fails', { method, error: messageOf(error) })
      return [200, errorAnswer(method, error)]
    }
  }

  const server = createServer((req: IncomingMessage, res: ServerResponse) => {
    answer(req, res)
      .then(([status, body]) => {
        const text = JSON.stringify(body)
        res.writeHead(status, { 'content-type': CONTENT_TYPE, 'content-length': Buffer.byteLength(text) })
        res.end(text)
      })
      .catch((error) => {
        log.error('call of a Docker Engine cannot be answered', { error: messageOf(error) })
        res.destroy()
      })
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, () => {
      chmodSync(path, 0o600)
      resolve(server)
    })
  })
}

/**
 * What waits for what: calls about one network; requests for one MAC, which may last; calls about one address of a cluster's pool; and all
 * else about addresses. Undefined: it waits for nothing, as any number of addresses of a cluster's pool may be asked for at once.
 */
function turnOf({ NetworkID, Options, PoolID, Address }: Record<string, unknown>): string | undefined {
  if (typeof NetworkID === 'string') return NetworkID
  if (SharedIpam.isPool(PoolID)) return typeof Address === 'string' && Address !== '' ? `${PoolID} ${Address}` : undefined
  const mac = (Options as Record<string, unknown> | null | undefined)?.[LABEL.endpointMac]
  return typeof mac === 'string' ? mac : 'ipam'
}

async function read(req: IncomingMessage, method: string): Promise<Record<string, unknown>> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of req) {
    size += (chunk as Buffer).length
    if (size > MOST_BYTES) throw badCall(method, `the body is longer than ${MOST_BYTES} bytes`)
    chunks.push(chunk as Buffer)
  }
  const text = Buffer.concat(chunks).toString()
  if (text.trim() === '') return {}
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw badCall(method, 'the body is no JSON')
  }
  if (value === null) return {}
  if (typeof value !== 'object' || Array.isArray(value)) throw badCall(method, 'the body is no object')
  return value as Record<string, unknown>
}

/** The little that is asked of the Docker Engine itself, at its socket: plugins are not told the names of networks. */
import { request } from 'node:http'
import { tryParseCidr } from '../../base/address.ts'
import { NetError } from '../../base/errors.ts'

/** A network as `GET /networks/ID` shows it; only what is used. */
export interface DockerNetwork {
  readonly Id: string
  readonly Name: string
  readonly Driver: string
  readonly Internal?: boolean
  readonly Attachable?: boolean
  readonly EnableIPv6?: boolean
  readonly Options?: Readonly<Record<string, string>> | null
  readonly Labels?: Readonly<Record<string, string>> | null
  readonly IPAM?: { readonly Config?: readonly { readonly Subnet?: string; readonly IPRange?: string }[] | null }
}

export interface DockerApi {
  /** False when nobody listens there. */
  isThere(): Promise<boolean>
  /** Undefined while it knows no such network, which is so until its creation has ended. Throws `unavailable`. */
  network(id: string): Promise<DockerNetwork | undefined>
  /** One that is not there is removed already. Throws `denied` when containers are on it, else `unavailable`. */
  removeNetwork(id: string): Promise<void>
  /** One of this name that is there already is good as well. Throws `unavailable`. */
  createNetwork(body: object): Promise<void>
}

/** What the engine has in use, whichever driver gave it. */
export interface DockerView {
  /** Subnets of all networks; addresses of all containers that run, and those that networks keep. Throws `unavailable`. */
  inUse(): Promise<{ readonly subnets: ReadonlySet<string>; readonly addresses: ReadonlySet<string> }>
}

const ANSWER_WITHIN_MS = 30_000
const LONGEST_ANSWER = 64 << 20

export function openDockerApi(socketPath: string): DockerApi & DockerView {
  const call = (method: string, path: string, body?: object): Promise<{ status: number; text: string }> =>
    new Promise((resolve, reject) => {
      const payload = body === undefined ? '' : JSON.stringify(body)
      const headers = { host: 'docker', 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }
      const fail = (error: Error) =>
        reject(new NetError('unavailable', `the Docker Engine does not answer at ${socketPath}: ${error.message}`, {}, error))
      const req = request({ socketPath, agent: false, method, path, headers, timeout: ANSWER_WITHIN_MS }, (res) => {
        let text = ''
        res.setEncoding('utf8')
        res.on('data', (chunk: string) => {
          text += chunk
          if (text.length > LONGEST_ANSWER) res.destroy(new Error('its answer is too long'))
        })
        res.on('error', fail)
        res.on('end', () => resolve({ status: res.statusCode ?? 0, text }))
      })
      req.on('timeout', () => req.destroy(new Error(`no answer within ${ANSWER_WITHIN_MS / 1000} s`)))
      req.on('error', fail)
      req.end(payload)
    })
  const unexpected = (what: string, { status, text }: { status: number; text: string }) =>
    new NetError(status === 403 ? 'denied' : 'unavailable', `the Docker Engine cannot ${what}: ${text.trim()} (${status})`)

  return {
    async isThere() {
      try {
        return (await call('GET', '/_ping')).status === 200
      } catch {
        return false
      }
    },
    async network(id) {
      const answer = await call('GET', `/networks/${id}`)
      if (answer.status === 404) return undefined
      if (answer.status !== 200) throw unexpected(`show network ${id.slice(0, 12)}`, answer)
      return JSON.parse(answer.text) as DockerNetwork
    },
    async removeNetwork(id) {
      const answer = await call('DELETE', `/networks/${id}`)
      if (answer.status !== 204 && answer.status !== 404) throw unexpected(`remove network ${id.slice(0, 12)}`, answer)
    },
    async createNetwork(body) {
      const answer = await call('POST', '/networks/create', body)
      if (answer.status !== 201 && answer.status !== 409) throw unexpected('make the network', answer)
    },
    async inUse() {
      const networks = await call('GET', '/networks')
      if (networks.status !== 200) throw unexpected('list its networks', networks)
      const containers = await call('GET', '/containers/json')
      if (containers.status !== 200) throw unexpected('list its containers', containers)
      const configs = (JSON.parse(networks.text) as readonly ListedNetwork[]).flatMap(({ IPAM }) => IPAM?.Config ?? [])
      const places = (JSON.parse(containers.text) as readonly ListedContainer[]).flatMap(({ NetworkSettings }) =>
        Object.values(NetworkSettings?.Networks ?? {}),
      )
      return {
        subnets: new Set(configs.flatMap(({ Subnet }) => tryParseCidr(Subnet ?? '') ?? [])),
        addresses: new Set([
          ...configs.flatMap(({ AuxiliaryAddresses, Gateway }) => [...Object.values(AuxiliaryAddresses ?? {}), Gateway ?? '']),
          ...places.flatMap(({ IPAddress, GlobalIPv6Address }) => [IPAddress ?? '', GlobalIPv6Address ?? '']),
        ]),
      }
    },
  }
}

/** Of `GET /networks` and `GET /containers/json`, only what is used. */
interface ListedNetwork {
  readonly IPAM?: {
    readonly Config?:
      | readonly {
          readonly Subnet?: string
          readonly Gateway?: string
          readonly AuxiliaryAddresses?: Readonly<Record<string, string>> | null
        }[]
      | null
  }
}

interface ListedContainer {
  readonly NetworkSettings?: {
    readonly Networks?: Readonly<Record<string, { readonly IPAddress?: string; readonly GlobalIPv6Address?: string }>> | null
  }
}

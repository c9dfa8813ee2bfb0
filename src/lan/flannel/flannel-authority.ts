/**
 * Flannel as the authority over networks of driver flannel: this host's lease is their subnet. A lease can change while flanneld is
 * restarted; the containers that run then have addresses that other hosts no longer send here. That is said, and nobody joins them.
 */
import { readFile } from 'node:fs/promises'
import { messageOf, NetError } from '../../base/errors.ts'
import type { Clock, Logger } from '../../base/ports.ts'
import type { Authority, EndpointFinal, EndpointGrant, NetworkGrant } from '../../drivers/authority.ts'
import { leaseOf, leaseSource } from '../../drivers/flannel/flannel.ts'
import { type FlannelLease, isSameLease, leaseText, parseSubnetEnv } from '../../drivers/flannel/lease.ts'
import type { Options } from '../../drivers/options.ts'
import type { NetworkDraft } from '../../drivers/types.ts'
import type { Rtnl } from '../../kernel/types.ts'
import type { IpamPoolRequest, Network } from '../../model/network.ts'
import { type ReadStore, readEtcdLease } from './etcd-lease.ts'

/** How often leases are looked at without anybody asking. */
const LOOK_MS = 10_000

export interface FlannelParts {
  readonly rtnl: Rtnl
  readonly clock: Clock
  readonly log: Logger
  readonly readStore: ReadStore
}

export class FlannelAuthority implements Authority {
  readonly name = 'flannel'
  readonly #parts: FlannelParts
  /** Networks, and what was last said about the lease of each. */
  readonly #networks = new Map<string, { readonly network: Network; said: string }>()
  #cancel: (() => void) | undefined
  #closed = false

  constructor(parts: FlannelParts) {
    this.#parts = parts
  }

  async grantNetwork(draft: NetworkDraft): Promise<NetworkGrant> {
    const lease = await this.#read(draft.options)
    const requests: IpamPoolRequest[] = []
    for (const [family, part] of [
      [4, lease.ipv4],
      [6, lease.ipv6],
    ] as const) {
      if (family === 4 ? !draft.enableIpv4 : !draft.enableIpv6) continue
      if (part === undefined)
        throw new NetError('invalid', `Flannel's lease of this host has no IPv${family} subnet, only ${leaseText(lease)}`)
      requests.push({ subnet: part.subnet, gateway: part.gateway })
    }
    return { requests, data: { lease } }
  }

  async createNetwork(network: Network): Promise<undefined> {
    this.#follow(network)
    return undefined
  }

  async removeNetwork(network: Network): Promise<void> {
    this.#networks.delete(network.id)
  }

  async grantEndpoint(network: Network): Promise<EndpointGrant> {
    const trouble = changeOf(network, await this.#read(network.options))
    if (trouble !== '') throw new NetError('conflict', trouble, { subject: network.name })
    return {}
  }

  async restore(networks: readonly Network[], _endpoints: readonly { readonly endpoint: EndpointFinal }[]): Promise<void> {
    for (const network of networks) this.#follow(network)
    void this.#look()
  }

  close(): void {
    this.#closed = true
    this.#cancel?.()
  }

  #follow(network: Network): void {
    this.#networks.set(network.id, { network, said: '' })
    this.#lookLater()
  }

  #lookLater(): void {
    if (this.#closed || this.#cancel !== undefined || this.#networks.size === 0) return
    this.#cancel = this.#parts.clock.after(LOOK_MS, () => {
      this.#cancel = undefined
      void this.#look().finally(() => this.#lookLater())
    })
  }

  /** Says once what is wrong with a lease, and once that it is right again. */
  async #look(): Promise<void> {
    for (const entry of [...this.#networks.values()]) {
      const { network } = entry
      let trouble: string
      try {
        trouble = changeOf(network, await this.#read(network.options))
      } catch (error) {
        trouble = messageOf(error)
      }
      if (trouble === entry.said) continue
      if (trouble !== '') this.#parts.log.error(trouble, { network: network.name })
      else this.#parts.log.info(`Flannel's lease is again that of network ${network.name}`)
      entry.said = trouble
    }
  }

  async #read(options: Options): Promise<FlannelLease> {
    const source = leaseSource(options)
    if (source.kind === 'etcd') return readEtcdLease(source.url, this.#parts.readStore, this.#parts.rtnl)
    let text: string
    try {
      text = await readFile(source.path, 'utf8')
    } catch (cause) {
      throw new NetError(
        'unavailable',
        `there is no lease of Flannel's in ${source.path} (${messageOf(cause)}): start flanneld, or name its file with -o flannel.subnet_env=FILE`,
        { subject: source.path },
        cause,
      )
    }
    return parseSubnetEnv(text, source.path)
  }
}

/** What keeps new endpoints out of a network, '' when nothing does. */
function changeOf(network: Network, now: FlannelLease): string {
  const before = leaseOf(network)
  if (isSameLease(before, now)) return ''
  return (
    `network ${network.name} was made for Flannel's lease ${leaseText(before)}, and this host's lease is now ${leaseText(now)}: ` +
    `other hosts no longer send to its containers; remove the network and create it again`
  )
}

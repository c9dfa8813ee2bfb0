/** Everything the controller's parts need from below, made once by the daemon. */
import type { Clock, Logger, Rng } from '../base/ports.ts'
import type { DnsService } from '../dns/service.ts'
import type { Conntrack } from '../kernel/conntrack.ts'
import type { Nft } from '../kernel/nft.ts'
import type { Rtnl } from '../kernel/types.ts'
import type { Network, NetworkSpec } from '../model/network.ts'
import type { Store } from '../store/types.ts'
import type { Reactor } from '../sys/reactor.ts'

/** Makes cards of the host ports of networks' bridges, and gives them back (`lan/nic-move`). */
export interface CardMover {
  concerns(network: Network): boolean
  /** A request with what the card says of its LAN. */
  complete(spec: NetworkSpec): NetworkSpec
  take(network: Network): void
  giveBack(network: Pick<Network, 'id' | 'name'>): void
  /** Undoes what a crash left of networks that are not there. */
  recover(isNetwork: (id: string) => boolean): void
  giveBackAll(): void
}

export interface Environment {
  readonly store: Store
  readonly rtnl: Rtnl
  readonly nft: Nft
  readonly conntrack: Conntrack
  readonly dns: DnsService
  readonly reactor: Reactor
  readonly clock: Clock
  readonly rng: Rng
  readonly cards?: CardMover
  readonly log: Logger
  /** `<run>/netns/<id12>` holds the sandboxes' namespaces. */
  readonly netnsDir: string
}

/** The daemon's networking configuration: dockerd's flags and daemon.json keys. */
export interface NetworkingConfig {
  readonly bip?: string
  readonly bip6?: string
  readonly bridge?: string
  readonly fixedCidr?: string
  readonly fixedCidrV6?: string
  readonly defaultGateway?: string
  readonly defaultGatewayV6?: string
  readonly addressPools?: readonly { readonly base: string; readonly size: number }[]
  /** `bridge` -> options merged into user-defined networks of that driver. */
  readonly defaultNetworkOpts?: Readonly<Record<string, Readonly<Record<string, string>>>>
  readonly mtu?: number
  readonly icc?: boolean
  readonly ip?: string
  readonly ipForward?: boolean
  readonly ipMasq?: boolean
  readonly ipv6?: boolean
  readonly dns?: readonly string[]
  readonly dnsOpts?: readonly string[]
  readonly dnsSearch?: readonly string[]
  readonly hostGatewayIp?: readonly string[]
  /** Base name of the default bridge when nothing else owns it. */
  readonly defaultBridgeName?: string
}

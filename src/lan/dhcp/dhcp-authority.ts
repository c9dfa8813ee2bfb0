/**
 * The LAN's DHCP server as the authority over a network's addresses (`--ipam-driver dhcp`): a lease for each endpoint, asked for
 * before its interface exists, renewed for as long as it lives, taken up again after a restart of the engine, given back at the end.
 */
import { createHash } from 'node:crypto'
import { cidrOf, type Ip, type Mac, macFromBytes, parseCidr, parseIp, parseMac, splitPrefix } from '../../base/address.ts'
import { messageOf, NetError } from '../../base/errors.ts'
import { randomMac } from '../../base/ids.ts'
import type { Clock, Logger, Rng } from '../../base/ports.ts'
import type { Authority, AuthorityData, EndpointAsk, EndpointFinal, EndpointGrant, NetworkGrant } from '../../drivers/authority.ts'
import { boolOption } from '../../drivers/options.ts'
import type { NetworkDraft } from '../../drivers/types.ts'
import type { Rtnl } from '../../kernel/types.ts'
import type { EndpointSettings } from '../../model/endpoint.ts'
import type { IpamPool, IpamPoolRequest, Network } from '../../model/network.ts'
import type { Store } from '../../store/types.ts'
import { homeNetns } from '../../sys/netns.ts'
import type { Reactor } from '../../sys/reactor.ts'
import { ownerOnLan } from './arp-probe.ts'
import { type ClientIdentity, type ClientOptions, DhcpClient, notTheOne } from './client.ts'
import type { Lease } from './lease.ts'
import { Lines } from './lines.ts'
import { DHCP_IPAM, lanInterface, lanInterfaceOfDraft } from './parent.ts'

/** A live endpoint got another address than it has: everything that knows the old one must learn the new one. */
export interface AddressChange {
  readonly networkId: string
  readonly containerId: string
  readonly settings: EndpointSettings
  readonly before: Ip
  readonly now: Ip
}

export interface DhcpParts {
  readonly store: Store
  readonly rtnl: Rtnl
  readonly reactor: Reactor
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
  /** Called when a server gave a live endpoint another address. Without it the endpoint keeps the old one and the log says so. */
  readonly onAddressChange?: (change: AddressChange) => void
  /** Where leases are kept in the store, `dhcp/` unless given. */
  readonly prefix?: string
  /** How long a start waits for a server, 20 s unless given. */
  readonly withinMs?: number
}

/** What is stored of an endpoint's lease, under `dhcp/<endpoint id>`; `lease` is missing while the first one is being asked for. */
interface LeaseRecord {
  readonly networkId: string
  readonly dev: string
  readonly mac: Mac
  /** MAC of the frames where it is another one. */
  readonly sender?: Mac
  /** The parent's MAC is that of several containers. */
  readonly shared?: boolean
  /** The LAN is asked for an address before it is used. */
  readonly probe?: boolean
  /** Hex. */
  readonly clientId: string
  readonly hostname: string
  readonly containerId: string
  readonly containerName: string
  readonly settings: EndpointSettings
  readonly lease?: Lease
}

const DEFAULT_PREFIX = 'dhcp/'
/** IPAM option: `false` = addresses are used without asking the LAN for them. */
const PROBE_OPTION = 'causeway.dhcp.probe'
const ANSWER_WITHIN_MS = 20_000

export class DhcpAuthority implements Authority {
  readonly name = DHCP_IPAM
  readonly #parts: DhcpParts
  readonly #lines: Lines
  readonly #prefix: string
  readonly #clients = new Map<string, DhcpClient>()

  constructor(parts: DhcpParts) {
    this.#parts = parts
    this.#prefix = parts.prefix ?? DEFAULT_PREFIX
    this.#lines = new Lines({ rtnl: parts.rtnl, reactor: parts.reactor, ns: homeNetns(), log: parts.log })
  }

  /** Subnet and gateway as asked for; without a subnet, as the server says. */
  async grantNetwork(
    draft: NetworkDraft,
    requests: readonly IpamPoolRequest[],
    ipamOptions: Readonly<Record<string, string>>,
  ): Promise<NetworkGrant> {
    boolOption(ipamOptions, PROBE_OPTION, true)
    if (draft.enableIpv6) throw new NetError('invalid', 'IPAM driver dhcp gives IPv4 addresses only: make the network without IPv6')
    const asked = requests.filter((request) => request.subnet !== undefined && request.subnet !== '')
    if (asked.length > 1) throw new NetError('invalid', 'IPAM driver dhcp has one subnet, the one that the server gives addresses of')
    for (const request of requests)
      if (request.ipRange) throw new NetError('invalid', 'IPAM driver dhcp takes no --ip-range: the server chooses the addresses')
    const gateway = requests.map((request) => request.gateway ?? '').find((text) => text !== '')
    const given = gateway === undefined ? {} : { gateway: parseIp(gateway) }
    const subnet = asked[0]?.subnet
    if (subnet !== undefined) {
      lanInterfaceOfDraftOrLater(draft)
      return { pools: [{ subnet: parseCidr(subnet), ...given, aux: {} }] }
    }
    const dev = lanInterfaceOfDraft(draft, this.#parts.rtnl)
    const mac = randomMac(this.#parts.rng)
    const offer = await this.#about(`cannot learn the subnet of network ${draft.name} on ${dev}`, () =>
      this.#asking(dev, { mac, clientId: ethernetId(mac), hostname: '' }).probe(this.#withinMs),
    )
    const learned = offer.gateway === '' ? {} : { gateway: offer.gateway }
    const pool: IpamPool = { subnet: cidrOf(offer.ip, offer.prefixLength), ...learned, ...given, aux: {} }
    return { pools: [pool], data: { dhcpServer: offer.serverId } }
  }

  async grantEndpoint(network: Network, ask: EndpointAsk): Promise<EndpointGrant> {
    const { settings } = ask
    const dev = lanInterface(network, network.driver)
    const shared = network.driver === 'ipvlan'
    const mac = shared ? this.#macOf(dev) : settings.mac ? parseMac(settings.mac) : stableMac(ask.containerId, network.id)
    const record: LeaseRecord = {
      networkId: network.id,
      dev,
      mac,
      clientId: hexOf(shared ? opaqueId(ask.containerId, network.id) : ethernetId(mac)),
      hostname: hostnameFrom(ask.hostname === '' ? ask.containerName : ask.hostname),
      containerId: ask.containerId,
      containerName: ask.containerName,
      settings,
      shared,
      probe: boolOption(network.ipamOptions ?? {}, PROBE_OPTION, true),
    }
    try {
      const wish = settings.ipv4 ? parseIp(settings.ipv4) : undefined
      const lease = await this.#about(`no address for container ${ask.containerName} on ${dev}`, () =>
        shared ? this.#acquireShared(ask, record, wish) : this.#acquire(ask.endpointId, record, wish),
      )
      const outside = network.pools.find((pool) => !pool.subnet.includes(':') && cidrOf(lease.ip, lengthOf(pool.subnet)) !== pool.subnet)
      if (outside !== undefined)
        throw new NetError(
          'conflict',
          `the DHCP server ${lease.serverId} gave ${lease.ip}, which is not in the network's subnet ${outside.subnet}: make the network with the LAN's own subnet`,
        )
      return { ipv4: lease.ip, ...(shared ? {} : { mac }), data: dataOf(lease) }
    } catch (error) {
      this.#giveBack(ask.endpointId)
      throw error
    }
  }

  #acquire(endpointId: string, record: LeaseRecord, wish: Ip | undefined): Promise<Lease> {
    this.#parts.store.put(this.#prefix + endpointId, record)
    return this.#clientFor(endpointId, record).acquire(this.#withinMs, wish, wish !== undefined)
  }

  /**
   * Where all containers have the parent's MAC the client id tells them apart (RFC 2131 4.2). A server that looks at the MAC alone, as
   * busybox's does, gives what the host or another container has already: it is asked again under a MAC that only this container has.
   */
  async #acquireShared(ask: EndpointAsk, record: LeaseRecord, wish: Ip | undefined): Promise<Lease> {
    const { endpointId, containerId } = ask
    this.#parts.store.put(this.#prefix + endpointId, record)
    const client = this.#clientFor(endpointId, record)
    const first = await client.acquire(this.#withinMs, wish)
    if (!this.#isTaken(first.ip, endpointId, record.dev)) {
      if (wish !== undefined && first.ip !== wish) throw notTheOne(first, wish)
      return first
    }
    client.stop() // not given back: it is somebody else's
    const own = { ...record, mac: stableMac(containerId, record.networkId), sender: record.mac }
    const lease = await this.#acquire(endpointId, own, wish)
    if (!this.#isTaken(lease.ip, endpointId, record.dev)) return lease
    throw new NetError('conflict', `the DHCP server ${lease.serverId} gives ${lease.ip}, which this host or another container of it has`)
  }

  /** The host has the address on this interface, or leases it for another endpoint there. */
  #isTaken(ip: Ip, endpointId: string, dev: string): boolean {
    const { rtnl, store } = this.#parts
    if (rtnl.addresses({ dev, family: 4 }).some((own) => splitPrefix(own.address).ip === ip)) return true
    return store
      .list<LeaseRecord>(this.#prefix)
      .some(([key, other]) => key !== this.#prefix + endpointId && other.dev === dev && other.lease?.ip === ip)
  }

  /** Gives the lease back. A link that has gone only means that the server is not told. */
  async removeEndpoint(_network: Network, endpointId: string): Promise<void> {
    this.#giveBack(endpointId)
  }

  #giveBack(endpointId: string): void {
    const record = this.#parts.store.get<LeaseRecord>(this.#prefix + endpointId)
    let client = this.#clients.get(endpointId)
    if (client === undefined && record?.lease !== undefined) {
      client = this.#clientFor(endpointId, record)
      client.adopt(record.lease)
    }
    client?.release()
    this.#clients.delete(endpointId)
    if (record !== undefined) this.#parts.store.remove(this.#prefix + endpointId)
  }

  /** Leases of living endpoints are renewed at once; those of endpoints that nobody has any more are given back. */
  async restore(
    _networks: readonly Network[],
    endpoints: readonly { readonly network: Network; readonly endpoint: EndpointFinal }[],
  ): Promise<void> {
    const alive = new Map(endpoints.map(({ network, endpoint }) => [endpoint.endpointId, network]))
    for (const [key, record] of this.#parts.store.list<LeaseRecord>(this.#prefix)) {
      const endpointId = key.slice(this.#prefix.length)
      if (record.lease !== undefined && alive.has(endpointId)) this.#clientFor(endpointId, record).resume(record.lease)
      else this.#giveBack(endpointId)
    }
  }

  /** Who has an address already. With a shared MAC that is {@link #acquireShared}'s to judge when it is this host. */
  async #ownerOf(ip: Ip, endpointId: string, { dev, mac, sender, shared }: LeaseRecord): Promise<string | undefined> {
    if (this.#isTaken(ip, endpointId, dev)) return shared ? undefined : 'this host or one of its containers'
    return ownerOnLan({ ...this.#parts, ns: homeNetns() }, dev, sender ?? mac, ip)
  }

  /** The lease of an endpoint, as it is now. */
  leaseOf(endpointId: string): Lease | undefined {
    return this.#clients.get(endpointId)?.lease
  }

  /** Stops asking; leases stay and are taken up by the next engine. */
  close(): void {
    for (const client of this.#clients.values()) client.stop()
    this.#clients.clear()
    this.#lines.close()
  }

  get #withinMs(): number {
    return this.#parts.withinMs ?? ANSWER_WITHIN_MS
  }

  #macOf(dev: string): Mac {
    const mac = this.#parts.rtnl.link(dev)?.mac ?? ''
    if (mac === '') throw new NetError('not-found', `there is no interface ${dev} to ask a DHCP server on`, { subject: dev })
    return mac
  }

  #clientFor(endpointId: string, record: LeaseRecord): DhcpClient {
    const { mac, sender } = record
    const identity = { mac, ...(sender === undefined ? {} : { sender }), clientId: bytesOf(record.clientId), hostname: record.hostname }
    const fields = { container: record.containerName, interface: record.dev }
    const log = this.#parts.log
    const client: DhcpClient = this.#asking(record.dev, identity, {
      ...(record.probe === false ? {} : { ownerOf: (ip: Ip) => this.#ownerOf(ip, endpointId, record) }),
      onLease: (lease) => this.#leased(endpointId, lease),
      onLost: (lease, why) => log.warn(`the lease of ${lease.ip} is lost: ${why}; another one is asked for`, fields),
    })
    this.#clients.set(endpointId, client)
    return client
  }

  #asking(
    dev: string,
    identity: ClientIdentity,
    on: Pick<ClientOptions, 'ownerOf' | 'onLease' | 'onLost'> = { onLease: () => {}, onLost: () => {} },
  ): DhcpClient {
    const { clock, rng, log } = this.#parts
    const client: DhcpClient = new DhcpClient({
      identity,
      line: () => this.#lines.open(dev, (frame) => client.receive(frame)),
      clock,
      rng,
      log,
      ...on,
    })
    return client
  }

  #leased(endpointId: string, lease: Lease): void {
    const { store, log, onAddressChange } = this.#parts
    const record = store.get<LeaseRecord>(this.#prefix + endpointId)
    if (record === undefined) return
    if (record.shared && record.lease === undefined && this.#isTaken(lease.ip, endpointId, record.dev)) return
    const before = record.lease?.ip
    store.put(this.#prefix + endpointId, { ...record, lease })
    if (before === undefined || before === lease.ip) return
    const { networkId, containerId, settings, containerName } = record
    log.warn(`the DHCP server gave container ${containerName} another address: ${lease.ip}, and no longer ${before}`, {
      endpoint: endpointId.slice(0, 12),
      server: lease.serverId,
    })
    onAddressChange?.({ networkId, containerId, settings, before, now: lease.ip })
  }

  async #about<T>(what: string, fn: () => Promise<T>): Promise<T> {
    try {
      return await fn()
    } catch (error) {
      if (!(error instanceof NetError)) throw error
      throw new NetError(error.code, `${what}: ${messageOf(error)}`, error.detail, error)
    }
  }
}

/** With a subnet given, the interface may come later; that one is named is checked now. */
function lanInterfaceOfDraftOrLater(draft: NetworkDraft): void {
  if ((draft.options['parent'] ?? '') === '' && (draft.options['com.docker.network.bridge.name'] ?? '') === '') lanInterface(draft, '')
}

function dataOf(lease: Lease): AuthorityData {
  const { ip, prefixLength, gateway, dns, domain, mtu, serverId, leaseSeconds } = lease
  return { ip, prefixLength, gateway4: gateway, dns, domain, mtu, dhcpServer: serverId, leaseSeconds }
}

/** The same container gets the same MAC on the same network at every start, so that its server knows it again. */
function stableMac(containerId: string, networkId: string): Mac {
  const bytes = digest(containerId, networkId).subarray(0, 6)
  bytes[0] = ((bytes[0] as number) & 0xfc) | 0x02
  return macFromBytes(bytes)
}

/** RFC 2132 9.14 with the hardware type: what reservations by MAC expect. */
function ethernetId(mac: Mac): Uint8Array {
  return Uint8Array.of(1, ...mac.split(':').map((part) => Number.parseInt(part, 16)))
}

/** Where several containers share one MAC: type 0 and something that only this one has. */
function opaqueId(containerId: string, networkId: string): Uint8Array {
  return Uint8Array.of(0, ...digest(containerId, networkId).subarray(0, 12))
}

function digest(containerId: string, networkId: string): Uint8Array {
  return new Uint8Array(createHash('sha256').update(`${containerId} ${networkId}`).digest())
}

/** Letters, digits and hyphens: what servers put into their DNS (RFC 1123 2.1). */
function hostnameFrom(name: string): string {
  return name
    .replace(/[^A-Za-z0-9.-]/g, '-')
    .replace(/^[-.]+|[-.]+$/g, '')
    .slice(0, 63)
}

const lengthOf = (subnet: string): number => Number(subnet.slice(subnet.indexOf('/') + 1))
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'))

/**
 * Overlay networks on this host: follows the cluster's view and keeps a namespace for each network that has an endpoint here.
 * Paths to an endpoint are laid as soon as it is known anywhere, before its name is told.
 *
 *   const overlay = new Overlay({ view, vtep, ... })
 *   authority = overlay.wrap(clusterAuthority)     // the engine's calls pass through: places are made before the engine plugs
 */
import { familyOf, type Ip } from '../../base/address.ts'
import { messageOf, NetError } from '../../base/errors.ts'
import type { Clock, Logger, Rng } from '../../base/ports.ts'
import type { Authority, AuthorityData } from '../../drivers/authority.ts'
import { insideMtu, parseOverlayConfig, segmentsOf } from '../../drivers/overlay/config.ts'
import type { OverlayPlace } from '../../drivers/overlay/overlay.ts'
import { type OverlayEndpoint, type OverlayFacts, VXLAN_PORT } from '../../drivers/overlay/wanted.ts'
import type { Rtnl } from '../../kernel/types.ts'
import type { Finding } from '../../plan/links.ts'
import type { Reactor } from '../../sys/reactor.ts'
import type { ClusterChange, ClusterEndpoint, ClusterNetwork, ClusterView, KernelEntry } from '../model.ts'
import { agreedMtu } from '../paths/paths.ts'
import type { ClusterStore } from '../store/types.ts'
import { EncryptedPeers } from './encrypted-peers.ts'
import { ENCRYPTED_VXLAN_PORT } from './ipsec-plan.ts'
import type { NamespaceSystem } from './namespace.ts'
import { raiseNeighbourLimits } from './neighbour-limits.ts'
import { OverlaySandboxes } from './sandboxes.ts'
import { underlayMtu } from './underlay.ts'

/** A change is carried out at once; more of them within this time share one look at the kernel. */
const BUSY_MS = 20
/** Pauses after which a network without endpoints here is asked whether its last interface has gone. */
const LEAVE_MS = 50
const LONGEST_LEAVE_MS = 5000

export interface OverlayOptions {
  readonly view: ClusterView
  /** The advertised address: tunnels end there. */
  readonly vtep: Ip
  /** Folder of the namespace files, the engine's. */
  readonly netnsDir: string
  /** The host's own namespace, through which tunnels travel. */
  readonly rtnl: Rtnl
  /** Absent: what others change in the kernel is repaired at the next change of the network. */
  readonly reactor?: Reactor
  /** The kernel's, unless given. */
  readonly namespaces?: NamespaceSystem
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
  /** Holds the secret of encrypted networks. */
  readonly store: ClusterStore
  readonly onRepair?: (networkId: string, findings: readonly Finding[]) => void
}

export class Overlay {
  readonly #o: OverlayOptions
  readonly sandboxes: OverlaySandboxes
  readonly #encrypted: EncryptedPeers
  readonly #stop: () => void
  /** When each network was last looked at because of a change. */
  readonly #looked = new Map<string, number>()
  readonly #pending = new Map<string, () => void>()
  /** Networks without endpoints here whose interfaces have not gone yet: the next pause. */
  readonly #leaving = new Map<string, number>()
  /** Networks for which a place is being made: they stay although the view may not show the endpoint yet. */
  readonly #wantedBy = new Map<string, number>()
  #limitsRaised = false
  #restored = false
  #closed = false

  constructor(options: OverlayOptions) {
    this.#o = options
    this.sandboxes = new OverlaySandboxes(options)
    this.#encrypted = new EncryptedPeers({ ...options, hostId: options.view.hostId })
    this.#stop = options.view.onChange((change) => this.#changed(change))
  }

  /**
   * The place of an endpoint of this host, with the paths to all other members laid. The view must know the endpoint (it was granted).
   * Throws `not-found` when the cluster does not know the network, `conflict` when the kernel cannot have its VXLAN id.
   */
  async prepare(networkId: string, endpointId: string): Promise<OverlayPlace> {
    const release = this.#hold(networkId)
    try {
      const facts = this.#facts(networkId)
      if (facts === undefined)
        throw new NetError('not-found', `network ${networkId.slice(0, 12)} is not known to the cluster`, { subject: networkId })
      if (!this.#limitsRaised) {
        this.#limitsRaised = true
        raiseNeighbourLimits(this.#o.log)
      }
      if (isEncrypted(facts)) await this.#encrypted.join()
      this.#tellPeers(networkId)
      await this.#dropHolders(facts)
      await this.sandboxes.ensure(facts, this.#endpoints(networkId))
      return {
        place: this.sandboxes.pathOf(networkId),
        link: this.sandboxes.interfaceName(networkId, endpointId),
        mtu: this.#containerMtu(networkId, facts.mtu),
      }
    } finally {
      release()
    }
  }

  /** Takes up what is there after a start: `networkIds` have endpoints of live containers here, `live` by id. Everything else goes. */
  async restore(networkIds: readonly string[], live: ReadonlySet<string> = new Set()): Promise<void> {
    this.#restored = true
    for (const id of networkIds) {
      const facts = this.#facts(id)
      try {
        if (facts !== undefined) {
          if (isEncrypted(facts)) this.#encrypted.joinSoon()
          this.#tellPeers(id)
          await this.sandboxes.ensure(facts, this.#endpoints(id))
          await this.sandboxes.removeStrayPorts(id, live)
        } else
          this.#o.log.warn('an overlay network of running containers is not known to the cluster: it goes on as it is', { network: id })
      } catch (error) {
        this.#o.log.error('cannot restore an overlay network', { network: id, error: messageOf(error) })
      }
    }
    await this.sandboxes.removeStrangers(networkIds)
    this.#encrypted.removeIfUnused()
  }

  /** The engine has taken up what it had; when that was no overlay network at all, whatever stands here is a leftover. */
  async begin(): Promise<void> {
    if (!this.#restored) await this.restore([])
  }

  /** Largest tunnel packet that containers running here can make, in bytes of the outer IP packet; 0 = there are none. */
  largestPacket(): number {
    let most = 0
    for (const id of this.sandboxes.networkIds()) {
      const config = parseOverlayConfig(this.#o.view.network(id)?.options ?? {})
      const inside = this.sandboxes.largestPortMtu(id)
      if (inside > 0) most = Math.max(most, inside - insideMtu({ ...config, underlayMtu: 0 }, OUTER, this.#o.vtep) + OUTER)
    }
    return most
  }

  /** What the kernel has, for `causeway cluster verify`. */
  readonly kernelEntries = (networkId: string): KernelEntry[] => this.sandboxes.kernelEntries(networkId)

  /** Looks at a network, and puts right and says what is not as it should be: a notice of the kernel may have been lost. */
  repair(networkId: string): void {
    if (!this.#closed) this.sandboxes.check(networkId)
  }

  /** The authority with this host's places: what it says of an endpoint is completed by where its interface goes. */
  wrap(inner: Authority): Authority {
    return {
      ...bindAll(inner),
      grantNetwork: async (draft, requests, ipamOptions) => {
        if (parseOverlayConfig(draft.options).encrypted) this.#encrypted.check(draft.name)
        return (await inner.grantNetwork?.(draft, requests, ipamOptions)) ?? {}
      },
      createEndpoint: async (network, endpoint) => {
        const release = this.#hold(network.id)
        try {
          const said = await inner.createEndpoint?.(network, endpoint)
          const place: AuthorityData = { ...(await this.prepare(network.id, endpoint.endpointId)) }
          return { ...said, ...place }
        } catch (error) {
          // a call that throws has taken back what it did
          await inner.removeEndpoint?.(network, endpoint.endpointId, endpoint.data).catch((problem: unknown) => {
            this.#o.log.warn('cannot take back an endpoint', { endpoint: endpoint.endpointId, error: messageOf(problem) })
          })
          throw error
        } finally {
          release()
        }
      },
      removeEndpoint: async (network, endpointId, data) => {
        await inner.removeEndpoint?.(network, endpointId, data)
        this.#follow(network.id)
      },
      restore: async (networks, endpoints) => {
        await inner.restore?.(networks, endpoints)
        const live = new Set(endpoints.map(({ endpoint }) => endpoint.endpointId))
        await this.restore([...new Set(endpoints.map(({ network }) => network.id))], live)
      },
    }
  }

  /** Stops following; the kernel stays as it is, so that containers go on, unless `isIdle` says that there are none. */
  async close(isIdle = false): Promise<void> {
    this.#closed = true
    this.#stop()
    // no container is left here that could need them
    if (isIdle) await Promise.all(this.sandboxes.networkIds().map((id) => this.sandboxes.drop(id)))
    for (const cancel of this.#pending.values()) cancel()
    this.#pending.clear()
    this.#encrypted.close()
    await this.sandboxes.close()
  }

  #hold(networkId: string): () => void {
    this.#wantedBy.set(networkId, (this.#wantedBy.get(networkId) ?? 0) + 1)
    return () => {
      const left = (this.#wantedBy.get(networkId) ?? 1) - 1
      if (left > 0) this.#wantedBy.set(networkId, left)
      else this.#wantedBy.delete(networkId)
      this.#follow(networkId)
    }
  }

  #changed(change: ClusterChange): void {
    if (change.kind === 'host') return // shows as changes of its endpoints
    const { networkId } = change
    if (!this.sandboxes.has(networkId)) return
    const now = this.#o.clock.now()
    if (change.kind === 'endpoint' && now - (this.#looked.get(networkId) ?? 0) > BUSY_MS) this.#look(networkId)
    else this.#follow(networkId, BUSY_MS)
  }

  /** Looks at a network soon. */
  #follow(networkId: string, ms = 0): void {
    if (this.#closed || this.#pending.has(networkId) || !this.sandboxes.has(networkId)) return
    const cancel = this.#o.clock.after(ms, () => {
      this.#pending.delete(networkId)
      this.#look(networkId)
    })
    this.#pending.set(networkId, cancel)
  }

  #look(networkId: string): void {
    if (this.#closed) return
    this.#looked.set(networkId, this.#o.clock.now())
    try {
      const facts = this.#facts(networkId)
      const endpoints = this.#endpoints(networkId)
      const isUsed = this.#wantedBy.has(networkId) || endpoints.some((e) => e.hostId === this.#o.view.hostId)
      if (isUsed && facts !== undefined) {
        this.#leaving.delete(networkId)
        this.#tellPeers(networkId)
        this.sandboxes.reconcile(facts, endpoints)
        return
      }
      if (isUsed) return // a store that has forgotten the network does not cut it
      // whatever the store says: while a container is plugged in, its network stays as it was
      if (this.sandboxes.hasPorts(networkId)) {
        const pause = Math.min((this.#leaving.get(networkId) ?? LEAVE_MS / 2) * 2, LONGEST_LEAVE_MS)
        this.#leaving.set(networkId, pause)
        this.#follow(networkId, pause)
        return
      }
      this.#leaving.delete(networkId)
      this.#looked.delete(networkId)
      void this.sandboxes
        .drop(networkId)
        .then(() => this.#encrypted.setPeers(networkId, undefined))
        .catch((error) => this.#failed(networkId, error))
    } catch (error) {
      this.#failed(networkId, error)
    }
  }

  /**
   * A network that the cluster has removed (this host was evicted, its containers may run on) must not stay in the tunnels of the one that
   * has its VXLAN id now.
   */
  async #dropHolders(facts: OverlayFacts): Promise<void> {
    for (const id of this.sandboxes.holdersOf(facts)) {
      if (this.#o.view.network(id) !== undefined) continue
      this.#o.log.info('an overlay network that was removed gives way to another one', { network: id, to: facts.networkId })
      await this.sandboxes.drop(id)
    }
  }

  /** Before anything of an encrypted network is changed: its packets must not leave in clear. */
  #tellPeers(networkId: string): void {
    const { view } = this.#o
    const facts = this.#facts(networkId)
    if (facts === undefined || !isEncrypted(facts)) return
    const others = view.endpointsOf(networkId).filter((e) => e.hostId !== view.hostId && familyOf(e.hostAddress) === familyOf(facts.vtep))
    this.#encrypted.setPeers(networkId, new Map(others.map((e) => [e.hostId, e.hostAddress])))
  }

  #failed(networkId: string, error: unknown): void {
    this.#o.log.error('cannot bring an overlay network in line with the cluster', { network: networkId, error: messageOf(error) })
  }

  #facts(networkId: string): OverlayFacts | undefined {
    const { view, vtep, rtnl } = this.#o
    const network = view.network(networkId)
    if (network === undefined) return undefined
    const config = parseOverlayConfig(network.options)
    return {
      networkId,
      segments: segmentsOfCluster(network),
      mtu: insideMtu(config, underlayMtu(rtnl, vtep), vtep),
      vtep,
      port: config.encrypted ? ENCRYPTED_VXLAN_PORT : VXLAN_PORT,
      hostId: view.hostId,
      ...(config.mode === 'host-gw' ? { isRouted: true } : {}),
    }
  }

  /** Of what all hosts can send to each other, not only of this one's interface, whose MTU the network's own devices have. */
  #containerMtu(networkId: string, deviceMtu: number): number {
    const { view, vtep, rtnl } = this.#o
    const config = parseOverlayConfig(view.network(networkId)?.options ?? {})
    const agreed = agreedMtu(view.hosts(), underlayMtu(rtnl, vtep))
    return Math.min(deviceMtu, insideMtu(config, agreed, vtep))
  }

  #endpoints(networkId: string): OverlayEndpoint[] {
    return this.#o.view.endpointsOf(networkId).map(overlayEndpointOf)
  }
}

/** Any MTU: only differences are looked at. */
const OUTER = 1500

const isEncrypted = (facts: OverlayFacts): boolean => facts.port === ENCRYPTED_VXLAN_PORT

function overlayEndpointOf(e: ClusterEndpoint): OverlayEndpoint {
  return { id: e.id, ipv4: e.ipv4, ipv6: e.ipv6, mac: e.mac, hostId: e.hostId, vteps: [e.hostAddress] }
}

/** IPv6 subnets share the identifier of the IPv4 subnet they stand beside. */
function segmentsOfCluster(network: ClusterNetwork): OverlayFacts['segments'] {
  const pools = network.subnets.map(({ subnet, gateway }) => ({ subnet, aux: {}, ...(gateway === undefined ? {} : { gateway }) }))
  const has4 = network.subnets.some(({ subnet }) => familyOf(subnet) === 4)
  const vnis = network.subnets.filter(({ subnet }) => !has4 || familyOf(subnet) === 4).map(({ vni }) => vni)
  return segmentsOf(pools, vnis)
}

/** Methods of a class instance do not survive a spread. */
function bindAll(inner: Authority): Authority {
  const out: Record<string, unknown> = { name: inner.name, ...(inner.host === undefined ? {} : { host: inner.host }) }
  const names = [
    'grantNetwork',
    'createNetwork',
    'removeNetwork',
    'grantEndpoint',
    'createEndpoint',
    'activateEndpoint',
    'renameEndpoint',
    'removeEndpoint',
    'readMembers',
    'remoteEndpoints',
    'restore',
  ] as const
  for (const name of names) if (inner[name] !== undefined) out[name] = (inner[name] as (...args: never[]) => unknown).bind(inner)
  return out as unknown as Authority
}

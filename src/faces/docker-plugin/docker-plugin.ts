/**
 * Causeway as a plugin of Docker Engines: the drivers `causeway` (bridge, with Causeway's firewall, and IPAM), `causeway-overlay` and
 * `causeway-macvlan`, and the IPAM driver `causeway-dhcp`, each at a socket of its name. See docs/plugins.md.
 */
import { rmSync } from 'node:fs'
import type { Server } from 'node:http'
import type { Clock, Logger, Rng } from '../../base/ports.ts'
import type { Authority } from '../../drivers/authority.ts'
import type { NetworkController } from '../../engine/types.ts'
import type { Network } from '../../model/network.ts'
import { DhcpIpam } from './dhcp-ipam.ts'
import { DOCKER_IPAM, DockerAddresses } from './docker-addresses.ts'
import { openDockerApi } from './docker-api.ts'
import { Forgotten } from './forgotten.ts'
import { PluginIpam } from './ipam.ts'
import { type DriverFlavour, PluginNetworkDriver } from './network-driver.ts'
import { OverlayAddresses } from './overlay-addresses.ts'
import { OverlayNetworks } from './overlay-networks.ts'
import type { ClusterPools, HostView, Records, SubnetSpace } from './ports.ts'
import { listenPlugin, type PluginFace } from './server.ts'
import { SharedIpam } from './shared-ipam.ts'

const FLAVOURS: Readonly<Record<string, DriverFlavour>> = {
  causeway: { driver: 'bridge', ipamDriver: DOCKER_IPAM, usesGatewayBridge: false },
  'causeway-overlay': { driver: 'overlay', ipamDriver: 'default', usesGatewayBridge: true },
  'causeway-macvlan': { driver: 'macvlan', ipamDriver: DOCKER_IPAM, usesGatewayBridge: false },
}

/** The IPAM driver of its own socket. */
const DHCP = 'causeway-dhcp'

export interface DockerPluginParts {
  readonly space: SubnetSpace
  readonly records: Records
  readonly clock: Clock
  readonly log: Logger
  readonly host: HostView
  readonly rng: Rng
  readonly controller: () => NetworkController
  /** The cluster's authority over overlay networks, when there is a cluster. */
  readonly cluster: () => Authority | undefined
  /** The cluster's pools, when there is a cluster. */
  readonly pools: () => ClusterPools | undefined
  /** Leases of the LAN's DHCP server for Docker's containers. */
  readonly dhcp: () => Authority
  /** The Docker Engine's socket, asked for the names of overlay networks; '' = nobody is asked. */
  readonly dockerSocket: string
}

export interface DockerPlugin {
  /** The authority over Docker's networks. */
  findAuthority(driver: string, ipamDriver: string): Authority | undefined
  /** Opens the sockets in a folder, one for each driver. */
  listen(dir: string): Promise<void>
  /** Closes them and takes their files away. */
  close(): Promise<void>
}

/** Takes up at once what earlier runs have given to Docker: call it before the controller starts. */
export function createDockerPlugin(parts: DockerPluginParts): DockerPlugin {
  const { space, records, clock, log, host } = parts
  const docker = parts.dockerSocket === '' ? undefined : openDockerApi(parts.dockerSocket)
  const ipam = new PluginIpam({
    space,
    records,
    clock,
    host,
    // networks of Docker's own drivers are known to the Docker Engine alone
    isUsed: async (subnet) => docker === undefined || (await docker.inUse().catch(() => undefined))?.subnets.has(subnet) !== false,
  })
  ipam.restore()
  // this is before the cluster is there; what it holds it takes up by itself
  let isStarted = false
  const shared = new SharedIpam(parts.pools, parts.rng)
  const addresses = new DockerAddresses(space, (subnet) => ipam.holds(subnet) || (isStarted && shared.holds(subnet)))
  addresses.hold(
    records
      .list<Network>('network/')
      .map(([, network]) => network)
      .filter(({ ipamDriver }) => ipamDriver === DOCKER_IPAM),
  )
  isStarted = true
  const overlayAddresses = new OverlayAddresses(parts)
  const forgotten = docker && new Forgotten({ pools: parts.pools, docker, records, clock, log })
  let overlayNetworks: OverlayNetworks | undefined
  const open: { server: Server; path: string }[] = []

  return {
    findAuthority(driver, ipamDriver) {
      if (ipamDriver === DOCKER_IPAM) return addresses
      return driver === 'overlay' ? overlayAddresses.authority() : undefined
    },

    async listen(dir) {
      const controller = parts.controller()
      overlayNetworks = new OverlayNetworks({
        ...{ controller, records, clock, log, docker },
        isInCluster: () => parts.cluster() !== undefined,
      })
      const overlay = { networks: overlayNetworks, addresses: overlayAddresses }
      await overlayAddresses.forgetAbandoned()
      const dhcp = new DhcpIpam({ records, rng: parts.rng, host, dhcp: parts.dhcp() })
      await dhcp.restore()
      const serve = async (name: string, face: PluginFace) => {
        const path = `${dir}/${name}.sock`
        open.push({ server: await listenPlugin(path, face, log), path })
      }
      await serve(DHCP, { ipam: dhcp })
      for (const [name, flavour] of Object.entries(FLAVOURS)) {
        const network = new PluginNetworkDriver({ controller, flavour, host, ...(flavour.driver === 'overlay' ? { overlay } : {}) })
        await serve(name, name === 'causeway' ? { network, ipam, overlay: overlay.addresses, shared } : { network })
      }
      overlayNetworks.begin()
      forgotten?.begin()
      log.info('drivers for Docker Engines are offered', { names: [...Object.keys(FLAVOURS), DHCP], dir })
    },

    async close() {
      overlayNetworks?.close()
      forgotten?.close()
      for (const { server, path } of open.splice(0)) {
        rmSync(path, { force: true })
        const closed = new Promise((resolve) => server.close(resolve))
        server.closeIdleConnections()
        await closed
      }
    },
  }
}

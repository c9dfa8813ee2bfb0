/**
 * The typed client of the engine: what the `causeway` command, tests and other programs use.
 * It knows the Docker Engine API and Causeway's own routes and nothing of the engine's inside; it prints nothing.
 *
 * ```ts
 * const client = new Client({ host: 'unix:///run/causeway/causeway.sock' })
 * for (const network of await client.networks.list()) console.log(network.Name)
 * client.close()
 * ```
 */
import { ContainersApi } from './containers.ts'
import { ImagesApi } from './images.ts'
import { NetworksApi } from './networks.ts'
import { OwnApi } from './own.ts'
import { SystemApi } from './system.ts'
import { Transport, type TransportOptions } from './transport.ts'
import { VolumesApi } from './volumes.ts'

/** One engine's API. Connections are kept alive; `close()` ends them. */
export class Client {
  readonly transport: Transport
  readonly containers: ContainersApi
  readonly networks: NetworksApi
  readonly images: ImagesApi
  readonly volumes: VolumesApi
  readonly system: SystemApi
  readonly own: OwnApi

  constructor(options: TransportOptions) {
    this.transport = new Transport(options)
    this.containers = new ContainersApi(this.transport)
    this.networks = new NetworksApi(this.transport)
    this.images = new ImagesApi(this.transport)
    this.volumes = new VolumesApi(this.transport)
    this.system = new SystemApi(this.transport)
    this.own = new OwnApi(this.transport)
  }

  close(): void {
    this.transport.close()
  }
}

/** `network connect` and `network disconnect`, for containers that run and for those that do not: who may be connected to what. */
import { NetError } from '../base/errors.ts'
import type { NetworkController } from '../engine/types.ts'
import { containerModeOf, endpointSettings } from './network-plan.ts'
import type { ContainerRecord } from './record.ts'
import type { Registry } from './registry.ts'
import type { EndpointSettingsJson } from './types.ts'

export class Connections {
  readonly #controller: NetworkController
  readonly #registry: Registry

  constructor(controller: NetworkController, registry: Registry) {
    this.#controller = controller
    this.#registry = registry
  }

  /** A running container is attached at once; one that does not run when it starts. Throws Docker's texts. */
  async connect(ref: string, network: string, settings: EndpointSettingsJson): Promise<void> {
    const entry = this.#registry.get(ref)
    await entry.exclusive(async () => {
      const { record } = entry
      const controller = this.#controller
      this.#checkConnectable(record)
      const name = controller.findNetwork(network)?.name ?? network
      if (name === 'host') {
        throw new NetError('invalid', 'cannot connect container to host network - container must be created in host network mode')
      }
      if (name === 'none' || 'none' in record.endpoints) {
        throw new NetError('invalid', 'container cannot be connected to multiple networks with one of the networks in private (none) mode')
      }
      controller.validateEndpoint(name, endpointSettings(settings))
      if (controller.sandboxOf(record.id) !== undefined) await controller.connect(record.id, name, endpointSettings(settings))
      else if (name in record.endpoints) throw new NetError('denied', `endpoint with name ${record.name} already exists in network ${name}`)
      this.#registry.update(entry, { endpoints: { ...entry.record.endpoints, [name]: settings } })
    })
  }

  /** With `force` also what an endpoint left behind: of a container or a network that is gone. */
  async disconnect(ref: string, network: string, force: boolean): Promise<void> {
    const controller = this.#controller
    const entry = this.#registry.find(ref)
    if (entry === undefined && force) return controller.disconnect(ref, network, true) // an endpoint that its container left behind
    const found = entry ?? this.#registry.get(ref)
    await found.exclusive(async () => {
      const { record } = found
      refuseRemoval(record)
      const there = controller.findNetwork(network)
      const name = there?.name ?? network
      if (record.hostConfig.NetworkMode === 'host' && name === 'host') {
        throw new NetError('invalid', 'cannot disconnect container from host network - container was created in host network mode')
      }
      const isAttached = controller.sandboxOf(record.id) !== undefined
      // a running container has nothing on a network that has gone; only force takes the leftover out of its configuration
      if (isAttached && there === undefined && !force) controller.getNetwork(network)
      if (isAttached && there !== undefined) await controller.disconnect(record.id, name, force)
      else if (!(name in record.endpoints)) {
        throw new NetError('internal', `container ${record.id} is not connected to the network ${name}`)
      }
      const { [name]: _gone, ...endpoints } = record.endpoints
      this.#registry.update(found, { endpoints })
    })
  }

  /**
   * After a crash: what a running container is connected to is what its sandbox has. The engine may have ended between changing the one and
   * noting the other, which takes its time when somebody else has to be asked. Call it once the controller has taken up its sandboxes.
   */
  followSandboxes(): void {
    for (const entry of this.#registry.all()) {
      const { record } = entry
      const sandbox = record.live === undefined ? undefined : this.#controller.sandboxOf(record.id)
      if (sandbox === undefined) continue
      const noted = Object.entries(record.endpoints).map(([name, settings]) => ({
        name,
        settings,
        id: this.#controller.findNetwork(name)?.id,
      }))
      // a network that has gone stays in the configuration, as a name that means nothing here does
      const kept = noted.filter(({ id }) => id === undefined || sandbox.endpoints.some((e) => e.networkId === id))
      const isAllKnown = noted.every(({ id }) => id !== undefined)
      const unnoted = isAllKnown ? sandbox.endpoints.filter((e) => !noted.some(({ id }) => id === e.networkId)) : []
      if (kept.length === noted.length && unnoted.length === 0) continue
      const own = new Set([record.name, record.id.slice(0, 12)])
      const found = unnoted.map((e) => [e.networkName, { Aliases: e.dnsNames.filter((name) => !own.has(name)) }] as const)
      this.#registry.update(entry, {
        endpoints: Object.fromEntries([...kept.map(({ name, settings }) => [name, settings] as const), ...found]),
      })
    }
  }

  #checkConnectable(record: ContainerRecord): void {
    const mode = record.hostConfig.NetworkMode ?? ''
    refuseRemoval(record)
    if (containerModeOf(mode) !== undefined || mode === 'host') {
      throw new NetError(
        'invalid',
        'container sharing network namespace with another container or host cannot be connected to any other network',
      )
    }
  }
}

function refuseRemoval({ id, state }: ContainerRecord): void {
  if (state.status === 'removing' || state.status === 'dead')
    throw new NetError('internal', `Container ${id} is marked for removal and cannot be connected or disconnected to the network`)
}

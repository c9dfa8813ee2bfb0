/** The container side of the network controller: opens and closes a container's sandbox, and shares it in `container:` mode. */
import { messageOf, NetError } from '../base/errors.ts'
import type { SandboxRequest } from '../model/endpoint.ts'
import type { ContainerDeps } from './deps.ts'
import { strings } from './fields.ts'
import { containerModeOf, linkEnvironment, orderedEndpoints } from './network-plan.ts'
import { exposedPorts, portRequests } from './ports.ts'
import { type ContainerRecord, containerDir, isRunning } from './record.ts'
import type { Entry, Registry } from './registry.ts'
import type { StartFacts } from './spec.ts'

export type NetworkFacts = Pick<StartFacts, 'netns' | 'files' | 'hostname' | 'linkEnv'>

export function filesIn(dir: string): { readonly hosts: string; readonly resolvConf: string; readonly hostname: string } {
  return { hosts: `${dir}/hosts`, resolvConf: `${dir}/resolv.conf`, hostname: `${dir}/hostname` }
}

export class ContainerNetwork {
  readonly #deps: ContainerDeps
  readonly #registry: Registry

  constructor(deps: ContainerDeps, registry: Registry) {
    this.#deps = deps
    this.#registry = registry
  }

  /**
   * Id of the container whose sandbox this one uses, following `container:` modes; its own id in every other mode. The owner may have
   * been removed since: its sandbox goes on as long as a member runs.
   */
  ownerIdOf(record: ContainerRecord): string {
    let current = record
    for (let hops = 0; hops < 16; hops++) {
      const ref = containerModeOf(current.hostConfig.NetworkMode ?? '')
      if (ref === undefined) return current.id
      const next = this.#registry.find(ref)
      if (next === undefined) return ref
      current = next.record
    }
    return record.id
  }

  /** Running containers that use the sandbox of `ownerId`, the owner itself not counted. */
  membersOf(ownerId: string): Entry[] {
    return this.#registry
      .all()
      .filter((e) => e.record.id !== ownerId && e.record.live !== undefined && this.ownerIdOf(e.record) === ownerId)
  }

  /** Throws `failed to set up container networking: …` with the controller's code, or the texts of joining. */
  async open(entry: Entry): Promise<NetworkFacts> {
    const { record } = entry
    const ref = containerModeOf(record.hostConfig.NetworkMode ?? '')
    if (ref !== undefined) return this.#join(entry, ref)
    const { controller, root } = this.#deps
    const hostname = record.config.Hostname || record.id.slice(0, 12)
    const linkEnv = this.linkEnv(record)
    const filesDir = containerDir(root, record.id)
    // a sandbox that members kept alive is taken up again, so that they stay connected
    const kept = controller.sandboxOf(record.id)
    const info = kept ?? (await controller.openSandbox(this.#request(record, hostname, filesDir)).catch(rethrowSetup))
    const host = record.hostConfig.NetworkMode === 'host'
    return { netns: host ? undefined : info.key, files: controller.filesOf(record.id) ?? filesIn(filesDir), hostname, linkEnv }
  }

  #join(entry: Entry, ref: string): NetworkFacts {
    const other = this.#registry.find(ref)
    if (other === undefined) throw new NetError('internal', `joining network namespace of container: No such container: ${ref}`)
    if (other === entry) throw new NetError('internal', 'cannot join own network namespace')
    const { state, id, config } = other.record
    if (state.status === 'restarting') {
      throw new NetError('conflict', `cannot join network namespace of a restarting container: container ${id} is restarting`)
    }
    if (!isRunning(state)) {
      throw new NetError('conflict', `cannot join network namespace of a non running container: container ${id} is ${state.status}`)
    }
    const owner = this.#registry.find(this.ownerIdOf(other.record))
    if (owner === undefined || owner === entry) throw new NetError('internal', 'cannot join own network namespace')
    const { hostConfig } = entry.record
    if (hostConfig.NetworkMode !== `container:${id}`) {
      this.#registry.update(entry, { hostConfig: { ...hostConfig, NetworkMode: `container:${id}` } }) // as Docker: a name may change
    }
    const sandbox = this.#deps.controller.sandboxOf(owner.record.id)
    const isHost = owner.record.hostConfig.NetworkMode === 'host'
    if (sandbox === undefined && !isHost)
      throw new NetError('internal', `joining network namespace of container: ${owner.record.id} has none`)
    return {
      netns: isHost ? undefined : sandbox?.key,
      files: this.#deps.controller.filesOf(owner.record.id) ?? filesIn(containerDir(this.#deps.root, owner.record.id)),
      hostname: config.Hostname || id.slice(0, 12),
      linkEnv: [],
    }
  }

  #request(record: ContainerRecord, hostname: string, filesDir: string): SandboxRequest {
    const { config, hostConfig: host } = record
    const mode = host.NetworkMode ?? 'bridge'
    const endpoints = config.NetworkDisabled ? [{ network: 'none', settings: {} }] : orderedEndpoints(mode, record.endpoints)
    return {
      containerId: record.id,
      containerName: record.name,
      hostname,
      domainname: config.Domainname ?? '',
      mode: mode === 'host' ? 'host' : 'private',
      endpoints,
      ports: mode === 'host' || mode === 'none' ? [] : portRequests(config, host),
      exposed: exposedPorts(config),
      extraHosts: host.ExtraHosts ?? [],
      dns: { servers: strings(host, 'Dns'), search: strings(host, 'DnsSearch'), options: strings(host, 'DnsOptions') },
      legacyLinks: this.#legacyLinks(record),
      filesDir,
    }
  }

  #legacyLinks(record: ContainerRecord): SandboxRequest['legacyLinks'] {
    return record.links.flatMap(({ target, alias }) => {
      const other = this.#registry.find(target)
      if (other === undefined) return []
      const { name, config, state, endpoints } = other.record
      if (!isRunning(state)) {
        throw new NetError('internal', `Cannot link to a non running container: /${name} AS /${record.name}/${alias}`)
      }
      if (!('bridge' in endpoints)) throw new NetError('internal', `Cannot link to /${name}, as it does not belong to the default network`)
      return [{ containerId: other.record.id, name, hostname: config.Hostname || other.record.id.slice(0, 12), alias }]
    })
  }

  /** The variables of legacy links, of those linked containers that run now. */
  linkEnv(record: ContainerRecord): string[] {
    return record.links.flatMap(({ target, alias }) => {
      const other = this.#registry.find(target)?.record
      if (other === undefined || !isRunning(other.state)) return []
      const endpoint = this.#deps.controller.sandboxOf(other.id)?.endpoints.find((e) => e.networkName === 'bridge')
      return linkEnvironment(record.name, alias, endpoint?.ipv4 ?? '', exposedPorts(other.config), other.config.Env ?? [])
    })
  }

  /** Closes a container's sandbox, or leaves it to the members that still run in it; the last of them closes it. */
  async close(entry: Entry): Promise<void> {
    const ownerId = this.ownerIdOf(entry.record)
    const owner = this.#registry.find(ownerId)
    if (owner !== undefined && owner !== entry && isRunning(owner.record.state)) return
    if (this.membersOf(ownerId).some((member) => member !== entry)) return
    await this.#deps.controller.closeSandbox(ownerId)
  }
}

function rethrowSetup(cause: unknown): never {
  const prefix = 'failed to set up container networking: '
  const message = messageOf(cause)
  if (message.startsWith(prefix)) throw cause
  const { code, detail } = cause instanceof NetError ? cause : new NetError('internal', message)
  throw new NetError(code, prefix + message, detail, cause)
}

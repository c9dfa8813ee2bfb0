/** The verbs of the CNI specification over the engine's controller: one request of the executable in, one answer out. */
import { familyOf, type Ip } from '../../base/address.ts'
import { messageOf } from '../../base/errors.ts'
import type { Clock, Logger } from '../../base/ports.ts'
import { OPTION } from '../../drivers/options.ts'
import type { NetworkController } from '../../engine/types.ts'
import type { PortRequest, SandboxInfo } from '../../model/endpoint.ts'
import type { Network } from '../../model/network.ts'
import {
  attachmentId,
  type Decided,
  defaultFamilies,
  type NetworkFacts,
  parseAttachmentId,
  resultOf,
  sandboxRequest,
  wantsResolver,
} from './attachment.ts'
import { differences } from './check.ts'
import { type CniConf, parseConf, parseHead, parseJson } from './conf.ts'
import { type CniCall, parseEnvironment } from './environment.ts'
import { CNI, CniError, errorJson, toCniError } from './errors.ts'
import type { StubAnswer, StubRequest } from './frames.ts'
import type { CniKernel } from './kernel.ts'
import { CniNetworks } from './networks.ts'
import { chooseAddress, poolRange } from './ranges.ts'
import { appendResult, type CniResult, encodeResult } from './result.ts'
import { requireVersion, SUPPORTED_VERSIONS } from './versions.ts'

export interface CniOptions {
  readonly controller: NetworkController
  readonly kernel: CniKernel
  readonly clock: Clock
  readonly log: Logger
  /** How long a network stays whose last container has gone. */
  readonly lingerMs: number
  /** The engine stays: names that it resolves in a namespace go on being resolved. */
  readonly resolves: boolean
}

const ABOUT = `CNI causeway plugin: hands containers' networks to the Causeway engine\nCNI protocol versions supported: ${SUPPORTED_VERSIONS.join(', ')}\n`
/** Networks come and go: what is remembered of them is bounded. */
const MOST_FACTS = 1000
const MOST_REMEMBERED = 256
const LONGEST_REMEMBERED = 32_768
const decoder = new TextDecoder('utf-8')

/** A configuration means the same when its text and the two arguments that count in it are the same. */
const keyOf = (args: CniCall['args'], text: string): string => `${args['IP'] ?? ''}\0${args['MAC'] ?? ''}\0${text}`
const NOTHING: CniResult = { interfaces: [], ips: [], routes: [], dns: {} }

export class Cni {
  readonly #o: CniOptions
  readonly networks: CniNetworks
  /** Address given last, by network and family, where addresses are chosen here. */
  readonly #last = new Map<string, Ip>()
  /** Configurations by their text: a runtime sends the same one for each container. */
  readonly #parsed = new Map<string, CniConf>()
  readonly #facts = new Map<string, NetworkFacts>()

  constructor(options: CniOptions) {
    this.#o = options
    this.networks = new CniNetworks(options)
  }

  /** Never throws: an error is an answer. */
  async answer(request: StubRequest): Promise<StubAnswer> {
    let version: string | undefined
    try {
      const call = parseEnvironment(request.env)
      if (call === undefined) return { status: 0, output: ABOUT, onStderr: true }
      if (call.command === 'VERSION') return { status: 0, output: this.#version(request.stdin) }
      const text = decoder.decode(request.stdin)
      const known = this.#parsed.get(keyOf(call.args, text))
      if (known !== undefined) {
        version = known.version
        return { status: 0, output: await this.#run(call, () => known, known) }
      }
      const fields = parseJson(text)
      const head = parseHead(fields)
      version = head.version
      return { status: 0, output: await this.#run(call, (args) => this.#remember(args, text, parseConf(fields, args)), head) }
    } catch (error) {
      const failure = toCniError(error)
      this.#o.log.debug('CNI request failed', { command: request.env['CNI_COMMAND'], error: failure.message, details: failure.details })
      return { status: 1, output: errorJson(failure, version) }
    }
  }

  #remember(args: CniCall['args'], text: string, conf: CniConf): CniConf {
    if (text.length > LONGEST_REMEMBERED) return conf
    if (this.#parsed.size >= MOST_REMEMBERED) this.#parsed.clear()
    this.#parsed.set(keyOf(args, text), conf)
    return conf
  }

  #version(stdin: Uint8Array): string {
    let said: unknown
    try {
      said = parseJson(decoder.decode(stdin)).json['cniVersion']
    } catch {
      // the question is valid without a configuration
    }
    const cniVersion = typeof said === 'string' && said !== '' ? said : SUPPORTED_VERSIONS.at(-1)
    return `${JSON.stringify({ cniVersion, supportedVersions: SUPPORTED_VERSIONS })}\n`
  }

  async #run(call: CniCall, conf: (args: CniCall['args']) => CniConf, head: Pick<CniConf, 'name' | 'version'>): Promise<string> {
    switch (call.command) {
      case 'ADD':
        return this.#add(call, conf(call.args))
      case 'DEL':
        await this.#delete(call.containerId, call.ifname)
        return ''
      case 'CHECK':
        requireVersion(head.version, '0.4.0', 'CHECK')
        this.#check(call, conf(call.args))
        return ''
      case 'GC':
        requireVersion(head.version, '1.1.0', 'GC')
        await this.#collect(conf({}))
        return ''
      case 'STATUS':
        requireVersion(head.version, '1.1.0', 'STATUS')
        this.#status(conf({}))
        return ''
      case 'VERSION':
        return '' // answered before the configuration is read
    }
  }

  // ---- ADD -------------------------------------------------------------------------------------------------------------------------

  async #add(call: CniCall, conf: CniConf): Promise<string> {
    const { kernel } = this.#o
    this.#checkNamespace(call.netns)
    await this.#dropStale(call)
    const own = await this.networks.use(conf, async (network) => {
      const decided = {
        families: defaultFamilies(conf, network, call.netns, kernel),
        resolver: this.#o.resolves && wantsResolver(conf, network),
      }
      const sandbox = await this.#open(call, conf, network, decided)
      try {
        return this.#report(call, conf, network, sandbox, decided)
      } catch (error) {
        await this.#delete(call.containerId, call.ifname)
        throw error
      }
    })
    return encodeResult(appendResult(conf.prevResult ?? NOTHING, own), conf.version)
  }

  #checkNamespace(path: string): void {
    const what = this.#o.kernel.namespace(path)
    if (what === 'there') return
    const why = what === 'own' ? "is the host's own network namespace" : 'is no network namespace'
    throw new CniError(CNI.badNamespace, `invalid CNI_NETNS: ${path} ${why}`)
  }

  /** An attachment of this name whose namespace or interface has gone without a DEL is taken away first. */
  async #dropStale(call: CniCall): Promise<void> {
    const { controller, kernel } = this.#o
    const old = controller.sandboxOf(attachmentId(call.containerId, call.ifname))
    if (old === undefined) return
    const isThere = old.key === call.netns && kernel.look(old.key, call.ifname) !== undefined
    if (!isThere) await this.#delete(call.containerId, call.ifname)
  }

  async #open(call: CniCall, conf: CniConf, network: Network, decided: Decided): Promise<SandboxInfo> {
    const { controller, kernel } = this.#o
    const open = (ports: readonly PortRequest[]) =>
      controller.openSandbox(sandboxRequest(call, conf, network, decided, this.#choose(conf, network), ports))
    try {
      return await open(conf.ports)
    } catch (error) {
      if (kernel.look(call.netns, call.ifname) !== undefined)
        throw new CniError(CNI.internal, `container interface "${call.ifname}" exists already in ${call.netns}`, '', error)
      // Podman asks for a container's ports on each of its networks: they are published once
      const left = this.#withoutSiblings(call, conf.ports)
      if (left.length === conf.ports.length) throw error
      return open(left)
    }
  }

  /** Addresses out of ranges that the engine's address space cannot express. */
  #choose(conf: CniConf, network: Network): Ip[] {
    if (conf.network !== undefined) return []
    return ([4, 6] as const).flatMap((family) => {
      const isNeeded = conf.ranges.some((range) => familyOf(range.subnet) === family) && poolRange(conf.ranges, family) === undefined
      if (!isNeeded || conf.ips.some((ip) => familyOf(ip) === family)) return []
      const taken = new Set(this.#o.controller.endpointsOf(network.id).flatMap((e) => [e.ipv4, e.ipv6]))
      for (const pool of network.pools) if (pool.gateway) taken.add(pool.gateway)
      const key = `${network.id} ${family}`
      const ip = chooseAddress(conf.ranges, family, (candidate) => taken.has(candidate), this.#last.get(key))
      if (ip === undefined) throw new CniError(CNI.tryLater, `no IPv${family} address is left in the ranges of network "${conf.name}"`)
      this.#last.set(key, ip)
      return [ip]
    })
  }

  /** Ports that no other attachment of this container publishes. */
  #withoutSiblings(call: CniCall, ports: readonly PortRequest[]): PortRequest[] {
    const { controller } = this.#o
    const siblings = controller
      .listNetworks()
      .flatMap((network) => controller.endpointsOf(network.id))
      .filter(({ containerId }) => {
        const id = parseAttachmentId(containerId)
        return id?.containerId === call.containerId && id.ifname !== call.ifname
      })
    const held = siblings.flatMap(({ containerId }) => controller.sandboxOf(containerId)?.ports ?? [])
    return ports.filter(
      (port) => !held.some((b) => b.proto === port.proto && port.hostPort >= b.hostPort && port.hostPort < b.hostPort + b.count),
    )
  }

  #report(call: CniCall, conf: CniConf, network: Network, sandbox: SandboxInfo, decided: Decided): CniResult {
    const { kernel } = this.#o
    const endpoint = sandbox.endpoints[0]
    if (endpoint === undefined) throw new CniError(CNI.internal, `the engine made no endpoint on network ${network.name}`)
    const facts = this.#factsOf(network, call)
    return resultOf(call, conf, facts, endpoint, decided, endpoint.hostIfname === '' ? '' : kernel.hostMac(endpoint.hostIfname))
  }

  /** A bridge keeps its hardware address and MTU for as long as its network lives; other drivers' interfaces are looked at. */
  #factsOf(network: Network, call: CniCall): NetworkFacts {
    const { kernel } = this.#o
    if (network.driver !== 'bridge') return { bridge: '', bridgeMac: '', mtu: kernel.look(call.netns, call.ifname)?.mtu ?? 0 }
    const known = this.#facts.get(network.id)
    if (known !== undefined) return known
    const bridge = network.options[OPTION.bridgeName] || `br-${network.id.slice(0, 12)}`
    const mtu = kernel.look(call.netns, call.ifname)?.mtu ?? 0
    const facts = { bridge, bridgeMac: kernel.hostMac(bridge), mtu }
    if (this.#facts.size >= MOST_FACTS) this.#facts.clear()
    this.#facts.set(network.id, facts)
    return facts
  }

  // ---- DEL, GC ---------------------------------------------------------------------------------------------------------------------

  async #delete(containerId: string, ifname: string): Promise<void> {
    const { controller, kernel, log } = this.#o
    const id = attachmentId(containerId, ifname)
    const sandbox = controller.sandboxOf(id)
    if (sandbox === undefined) return
    const endpoint = sandbox.endpoints[0]
    try {
      // the kernel deletes links a little later: a runtime that looks, or adds again, must not find this one
      kernel.retire(sandbox.key, ifname, `gone${(endpoint?.id ?? sandbox.id).slice(0, 7)}`)
    } catch (error) {
      log.warn('cannot take an interface out of use', { sandbox: sandbox.key, ifname, error: messageOf(error) })
    }
    try {
      await controller.closeSandbox(id)
    } finally {
      const network = endpoint && controller.findNetwork(endpoint.networkId)
      if (network) this.networks.released(network)
    }
  }

  /** Takes away every attachment of the configuration's network that is not in use any more. Goes on after errors. */
  async #collect(conf: CniConf): Promise<void> {
    const valid = new Set(conf.validAttachments.map(({ containerId, ifname }) => attachmentId(containerId, ifname)))
    const network = this.networks.find(conf)
    if (network === undefined) return
    const problems: string[] = []
    for (const { containerId: id } of this.#o.controller.endpointsOf(network.id)) {
      const attachment = parseAttachmentId(id)
      if (attachment === undefined || valid.has(id)) continue
      await this.#delete(attachment.containerId, attachment.ifname).catch((error) => problems.push(messageOf(error)))
    }
    if (problems.length > 0) throw new CniError(CNI.internal, 'some unused attachments could not be taken away', problems.join('; '))
  }

  // ---- CHECK, STATUS ---------------------------------------------------------------------------------------------------------------

  #check(call: CniCall, conf: CniConf): void {
    const { controller, kernel } = this.#o
    if (conf.prevResult === undefined) throw new CniError(CNI.badConfig, 'Required prevResult missing')
    this.#checkNamespace(call.netns)
    const sandbox = controller.sandboxOf(attachmentId(call.containerId, call.ifname))
    if (sandbox === undefined)
      throw new CniError(CNI.unknownContainer, `container ${call.containerId} has no attachment ${call.ifname} on network "${conf.name}"`)
    const found = differences(call, conf, conf.prevResult, sandbox, this.#withoutSiblings(call, conf.ports), kernel)
    if (found.length > 0) throw new CniError(CNI.different, 'the attachment is not as ADD left it', found.join('; '))
  }

  /** Ready for ADD: the configuration is valid, and the network that it wants to join exists. */
  #status(conf: CniConf): void {
    if (conf.network !== undefined && this.networks.find(conf) === undefined)
      throw new CniError(CNI.notAvailable, `network ${conf.network} does not exist`)
  }

  close(): void {
    this.networks.close()
  }
}

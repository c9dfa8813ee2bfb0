/** The hosts, resolv.conf and hostname files of sandboxes: written at start, changed in place afterwards, users' edits respected. */
import { mkdirSync, rmSync } from 'node:fs'
import type { Ip } from '../base/address.ts'
import { parseIp } from '../base/address.ts'
import { changeInPlace, hashPathOf, writeInPlace, writeUnlessEdited } from '../dns/container-file.ts'
import {
  endpointHostsLines,
  type HostsLine,
  hostsWith,
  hostsWithout,
  parseExtraHost,
  renderHostname,
  renderHosts,
  renderResolvConf,
} from '../dns/files.ts'
import { type HostResolv, ndotsOf, readHostResolv } from '../dns/host-resolv.ts'
import type { DnsView } from '../dns/types.ts'
import type { Attachments } from './attachments.ts'
import type { NetworkingConfig } from './environment.ts'
import type { EndpointRecord, SandboxRecord } from './records.ts'

export class SandboxFiles {
  readonly #config: NetworkingConfig
  readonly #attachments: Attachments
  readonly #hostFile: () => { path: string; text: string }
  /** Address that `host-gateway` stands for. */
  readonly #hostGateway: () => Ip | undefined
  /** Link lines written last, by linker: what to take out when a target moves. */
  readonly #linkLines = new Map<string, HostsLine[]>()
  #resolv: HostResolv | undefined

  constructor(options: {
    config: NetworkingConfig
    attachments: Attachments
    hostGateway: () => Ip | undefined
    /** The host's own hosts file, for host mode. */
    hostFile: () => { path: string; text: string }
  }) {
    this.#config = options.config
    this.#attachments = options.attachments
    this.#hostGateway = options.hostGateway
    this.#hostFile = options.hostFile
  }

  paths(filesDir: string): { hosts: string; resolvConf: string; hostname: string } {
    return { hosts: `${filesDir}/hosts`, resolvConf: `${filesDir}/resolv.conf`, hostname: `${filesDir}/hostname` }
  }

  /** The host's resolver changed. */
  hostChanged(resolv: HostResolv): void {
    this.#resolv = resolv
  }

  /** Writes all three files of a sandbox that starts. resolv.conf stays when a user has edited it. */
  write(record: SandboxRecord): void {
    if (record.netns !== undefined) return
    const paths = this.paths(record.filesDir)
    mkdirSync(record.filesDir, { recursive: true })
    writeInPlace(paths.hostname, renderHostname(record.hostname))
    const extra = this.#extra(record)
    if (record.mode === 'host') writeInPlace(paths.hosts, hostsWith(this.#hostFile().text, extra))
    // a sandbox keeps ::1 on its loopback whatever its networks are
    else writeInPlace(paths.hosts, renderHosts({ hasIpv6: true, extra, endpoints: linesOf(record, record.endpoints) }))
    this.#linkLines.delete(record.containerId)
    writeUnlessEdited(paths.resolvConf, this.#render(record).text)
  }

  /** After a connect or disconnect: only what changed is touched. */
  update(before: SandboxRecord, after: SandboxRecord): void {
    if (after.netns !== undefined) return
    const paths = this.paths(after.filesDir)
    const gone = before.endpoints.filter((e) => !after.endpoints.some((x) => x.id === e.id))
    const come = after.endpoints.filter((e) => !before.endpoints.some((x) => x.id === e.id))
    changeInPlace(paths.hosts, (text) => hostsWith(hostsWithout(text, linesOf(before, gone)), linesOf(after, come)))
    if (this.#kindOf(before) === this.#kindOf(after) && hasIpv6(before) === hasIpv6(after)) return // nothing else of it depends on networks
    writeUnlessEdited(paths.resolvConf, this.#render(after).text)
  }

  /** Hosts lines of legacy links: alias, hostname and name of each target that runs. */
  updateLinks(linker: SandboxRecord, addressOf: (containerId: string) => Ip | undefined): void {
    const lines = linker.legacyLinks.flatMap((link): HostsLine[] => {
      const ip = addressOf(link.containerId)
      return ip === undefined ? [] : [{ ip, names: [...new Set([link.alias, link.hostname, link.name])] }]
    })
    const old = this.#linkLines.get(linker.containerId) ?? []
    this.#linkLines.set(linker.containerId, lines)
    const own = linesOf(linker, linker.endpoints) // Docker knows the links before it knows the container's own address
    changeInPlace(this.paths(linker.filesDir).hosts, (text) => hostsWith(hostsWithout(text, old), lines, own))
  }

  remove(filesDir: string): void {
    const { hosts, resolvConf, hostname } = this.paths(filesDir)
    for (const path of [hosts, resolvConf, hashPathOf(resolvConf), hostname]) rmSync(path, { force: true })
  }

  /** Where the embedded resolver of this sandbox asks; empty upstreams = the host's servers, as they are at that time. */
  resolver(record: SandboxRecord): { upstreams: DnsView['upstreams']; options: readonly string[] } {
    const { servers, options } = this.#overrides(record)
    return {
      upstreams: servers.map((server) => ({ ip: parseIp(server), from: 'sandbox' as const })),
      options: options.length > 0 ? options : (ndotsOf(this.#host().text.split(/\s+/)) ?? 0) > 0 ? ['ndots:1'] : [],
    }
  }

  #render(record: SandboxRecord) {
    const kind = this.#kindOf(record)
    const host = this.#host()
    return renderResolvConf({
      kind,
      hostText: kind === 'legacy' ? host.legacyText : host.text,
      hostPath: kind === 'legacy' ? host.legacyPath : host.path,
      overrides: this.#overrides(record),
      hasIpv6: hasIpv6(record),
    })
  }

  #kindOf(record: SandboxRecord): 'host' | 'internal' | 'legacy' {
    if (record.mode === 'host') return 'host'
    return this.#attachments.hasInternalDns(record) ? 'internal' : 'legacy'
  }

  /** The container's own wishes, else the daemon's. */
  #overrides(record: SandboxRecord) {
    const { dns } = record
    const config = this.#config
    return {
      servers: dns.servers.length > 0 ? dns.servers : (config.dns ?? []),
      search: dns.search.length > 0 ? dns.search : (config.dnsSearch ?? []),
      options: dns.options.length > 0 ? dns.options : (config.dnsOpts ?? []),
    }
  }

  #extra(record: SandboxRecord): HostsLine[] {
    return record.extraHosts.map((text) => parseExtraHost(text, this.#hostGateway()))
  }

  #host(): HostResolv {
    this.#resolv ??= readHostResolv()
    return this.#resolv
  }
}

function hasIpv6(record: SandboxRecord): boolean {
  return record.endpoints.some((e) => e.ipv6 !== '')
}

function linesOf(record: SandboxRecord, endpoints: readonly EndpointRecord[]): HostsLine[] {
  return endpoints
    .filter((e) => !e.gatewayBridge)
    .flatMap((e) => endpointHostsLines({ ipv4: e.ipv4, ipv6: e.ipv6, hostname: record.hostname, domainname: record.domainname }))
}

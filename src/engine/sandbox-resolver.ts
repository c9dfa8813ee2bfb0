/**
 * The embedded resolver of a sandbox. In a namespace of our own there is one for each sandbox; the sandboxes in a runtime's namespace
 * (one for each interface) share one, because there is only one 127.0.0.11: the first that wants it keeps it, and hands it on.
 */
import { hasCode } from '../base/errors.ts'
import type { DnsView } from '../dns/types.ts'
import { installDnsRedirect, removeDnsRedirect } from '../kernel/sandbox-dns.ts'
import { hasNames } from './attachments.ts'
import { dnsViewOf } from './names.ts'
import type { SandboxRecord } from './records.ts'
import { SandboxKernel } from './sandbox-kernel.ts'
import type { Parts } from './sandbox-parts.ts'
import type { UndoStack } from './undo.ts'

const NONE = { udp: 0, tcp: 0 }

/** What the resolver should answer for a sandbox. */
export function resolverView(parts: Parts, record: SandboxRecord): DnsView {
  return viewOf(parts, [...companions(parts, record), record])
}

/** Other sandboxes that use the same resolver. */
function companions(parts: Parts, record: SandboxRecord): SandboxRecord[] {
  if (record.netns === undefined || record.resolver !== true) return []
  return parts.registry.all().filter((r) => r.netns === record.netns && r.resolver === true && r.containerId !== record.containerId)
}

/** Networks of all of them; servers and options of the first that says some. */
function viewOf(parts: Parts, records: readonly SandboxRecord[]): DnsView {
  const { attachments, files } = parts
  const resolvers = records.map((record) => files.resolver(record))
  const networks = records.flatMap((record) => attachments.inGatewayOrder(record).filter(hasNames))
  const upstreams = resolvers.find((r) => r.upstreams.length > 0)?.upstreams ?? []
  const options = resolvers.find((r) => r.options.length > 0)?.options ?? []
  return dnsViewOf(
    networks,
    upstreams,
    records.some((record) => leadsOut(parts, record)),
    options,
  )
}

/** In a runtime's namespace the default route may be somebody else's. */
function leadsOut({ attachments }: Parts, record: SandboxRecord): boolean {
  if (attachments.reachesOutside(record)) return true
  return record.netns !== undefined && attachments.of(record).some(({ network }) => !network.internal)
}

/** Opens the resolver of a sandbox that needs one and has none yet, or has the one of its namespace answer for its networks too. */
export function startResolver(parts: Parts, kernel: SandboxKernel, record: SandboxRecord, undo: UndoStack): SandboxRecord {
  const { env, attachments } = parts
  if (record.dnsPorts.udp !== 0 || !attachments.hasInternalDns(record)) return record
  const others = companions(parts, record)
  const keeper = others.find((r) => r.dnsPorts.udp !== 0)
  if (keeper !== undefined) {
    env.dns.setView(keeper.id, viewOf(parts, [...others, record]))
    undo.defer('resolver view', () => env.dns.setView(keeper.id, viewOf(parts, others)))
    return record
  }
  const { udpPort, tcpPort } = env.dns.addSandbox(record.id, kernel.ns, resolverView(parts, record))
  undo.defer('resolver', () => env.dns.removeSandbox(record.id))
  const dnsPorts = { udp: udpPort, tcp: tcpPort }
  installDnsRedirect(kernel.ns, dnsPorts)
  return { ...record, dnsPorts }
}

/** Takes up the resolver of an earlier run, on its ports when they are free. */
export function resumeResolver(parts: Parts, record: SandboxRecord): void {
  if (record.dnsPorts.udp === 0) return
  SandboxKernel.with(record.key, (kernel) => reopen(parts, kernel, record, resolverView(parts, record)))
}

function reopen(parts: Parts, kernel: SandboxKernel, record: SandboxRecord, view: DnsView): void {
  const before = { udpPort: record.dnsPorts.udp, tcpPort: record.dnsPorts.tcp }
  const { udpPort, tcpPort } = parts.env.dns.restoreSandbox(record.id, kernel.ns, view, before)
  const dnsPorts = { udp: udpPort, tcp: tcpPort }
  installDnsRedirect(kernel.ns, dnsPorts)
  parts.registry.save({ ...record, dnsPorts })
}

/** The sandbox goes: so does its resolver, unless others of its namespace use it. A namespace that has gone is fine. */
export function stopResolver(parts: Parts, record: SandboxRecord): void {
  const { env } = parts
  const others = companions(parts, record)
  if (record.dnsPorts.udp === 0) {
    const keeper = others.find((r) => r.dnsPorts.udp !== 0)
    if (keeper !== undefined) env.dns.setView(keeper.id, viewOf(parts, others))
    return
  }
  env.dns.removeSandbox(record.id)
  if (record.netns === undefined) return // what is in there goes with it
  const [heir] = others
  ignoreMissing(() =>
    SandboxKernel.with(record.key, (kernel) => {
      if (heir === undefined) removeDnsRedirect(kernel.ns)
      else reopen(parts, kernel, { ...heir, dnsPorts: NONE }, viewOf(parts, others))
    }),
  )
}

function ignoreMissing(fn: () => void): void {
  try {
    fn()
  } catch (error) {
    if (!hasCode(error, 'not-found')) throw error
  }
}

/** Brings an endpoint's interface into its sandbox and out again, whichever way its driver wants that (`Plug` in drivers/types.ts). */
import { hasCode, messageOf, NetError } from '../base/errors.ts'
import type { EndpointWanted } from '../drivers/types.ts'
import { openRtnl } from '../kernel/rtnl.ts'
import type { Rtnl } from '../kernel/types.ts'
import type { LinkSpec } from '../model/kernel-state.ts'
import type { Network } from '../model/network.ts'
import { nothingObserved, planLink } from '../plan/links.ts'
import type { WantedLink } from '../plan/wanted.ts'
import { closeNetns, homeNetns, openNetns } from '../sys/netns.ts'
import type { EndpointRecord, SandboxRecord } from './records.ts'
import { SandboxKernel } from './sandbox-kernel.ts'
import type { Parts } from './sandbox-parts.ts'
import type { UndoStack } from './undo.ts'

/** Makes or moves the interface; its inner end is not configured yet. */
export function bringIn(
  parts: Parts,
  kernel: SandboxKernel,
  { plug, inside: { ifname } }: EndpointWanted,
  key: string,
  undo?: UndoStack,
): void {
  switch (plug.kind) {
    case 'pair': {
      const { name } = plug.link.spec
      const { place } = plug
      if (place === undefined) {
        parts.host.create(plug.link)
        undo?.defer(`link ${name}`, () => parts.host.releaseNow([name]))
        return
      }
      inPlace(place, (rtnl) => createIn(rtnl, plug.link))
      undo?.defer(`link ${name} in ${place}`, () => inPlace(place, (rtnl) => deleteIn(rtnl, name)))
      return
    }
    case 'born':
      try {
        bear(parts.host.rtnl, kernel, { ...plug.link, netnsFd: kernel.ns.fd })
      } catch (cause) {
        throw new NetError('internal', `failed to create the ${plug.link.kind} port: ${messageOf(cause)}`, {}, cause)
      }
      undo?.defer(`link ${ifname}`, () => SandboxKernel.with(key, ({ rtnl }) => deleteIn(rtnl, ifname)))
      return
    case 'taken':
      parts.host.rtnl.apply([
        { op: 'link.set', dev: plug.hostIfname, set: { up: false, ...(plug.mac === undefined ? {} : { mac: plug.mac }) } },
        { op: 'link.move', dev: plug.hostIfname, netnsFd: kernel.ns.fd, name: ifname },
      ])
      undo?.defer(`link ${ifname}`, () => SandboxKernel.with(key, (k) => moveBack(k, ifname, plug.hostIfname)))
      return
    case 'none':
  }
}

/**
 * Makes a link in a sandbox over a parent on the host. Before 6.13 a link cannot be born under a name that the namespace of the request
 * has too (net/core/rtnetlink.c rtnl_newlink() looks there, and a host with an `eth0` is the rule): then it gets its name afterwards.
 */
function bear(host: Rtnl, kernel: SandboxKernel, link: LinkSpec): void {
  const { name } = link
  if (host.indexOf(name) === 0) {
    host.apply([{ op: 'link.add', link }])
    return
  }
  const temporary = `born-${name}`.slice(0, 15)
  if (kernel.hasLink(temporary)) deleteIn(kernel.rtnl, temporary) // a crash came between
  host.apply([{ op: 'link.add', link: { ...link, name: temporary } }])
  try {
    kernel.rtnl.apply([{ op: 'link.rename', dev: temporary, name }])
  } catch (cause) {
    deleteIn(kernel.rtnl, temporary)
    throw cause
  }
}

/**
 * Takes the interface of one endpoint out of a sandbox that goes on. Resolves when the outer end, if there is one, has gone;
 * what has to be seen at once (a moved link is back) is done when this returns.
 */
export function bringOut(parts: Parts, kernel: SandboxKernel, e: EndpointRecord, network: Network): Promise<void> {
  const { plug, inside } = parts.attachments.wanted({ record: e, network }, -1)
  if (plug.kind === 'none') return Promise.resolve()
  if (plug.kind === 'taken') {
    moveBack(kernel, e.ifname, plug.hostIfname)
    return Promise.resolve()
  }
  const gone = `gone${e.id.slice(0, 7)}`
  kernel.retire(e.ifname, gone, inside.addresses)
  if (plug.kind === 'born') {
    freeMac(kernel, gone)
    return deleteBehind(kernel.ns.path, [gone])
  }
  return plug.place === undefined ? parts.host.release([plug.link.spec.name]) : deleteBehind(plug.place, [plug.link.spec.name])
}

/** Takes all interfaces out of a sandbox that goes away; `removeNamespace` runs when nothing of others is inside any more. */
export function bringAllOut(parts: Parts, record: SandboxRecord, attempt: (fn: () => void) => void, removeNamespace: () => void): void {
  const warn = (links: readonly string[]) => (error: unknown) =>
    parts.env.log.warn('cannot delete links', { links, error: messageOf(error) })
  const onHost: string[] = []
  const born: string[] = []
  const later: (() => void)[] = []
  for (const at of parts.attachments.of(record)) {
    if (at.record.ifname === '') continue
    attempt(() => {
      const { plug } = parts.attachments.wanted(at, -1)
      if (plug.kind === 'none') return
      if (plug.kind === 'taken') SandboxKernel.with(record.key, (kernel) => moveBack(kernel, at.record.ifname, plug.hostIfname))
      else if (plug.kind === 'born') {
        born.push(at.record.ifname)
        SandboxKernel.with(record.key, (kernel) => freeMac(kernel, at.record.ifname))
      } else if (plug.place === undefined) onHost.push(plug.link.spec.name)
      else {
        const { place } = plug
        const { name } = plug.link.spec
        later.push(() => void deleteBehind(place, [name]).catch(warn([name])))
      }
    })
  }
  // those of a network that is no longer known
  for (const e of record.endpoints)
    if (e.hostIfname !== '' && e.place === undefined && !parts.networks.find(e.networkId)) onHost.push(e.hostIfname)
  // a namespace that stays keeps what was born in it
  if ((record.netns !== undefined || record.mode === 'lent') && born.length > 0)
    attempt(() => void deleteBehind(record.key, born).catch(warn(born)))
  attempt(removeNamespace)
  for (const fn of later) attempt(fn)
  parts.host.release(onHost).catch(warn(onHost))
}

/** Runs `fn` with a netlink socket in the namespace of a file. Synchronous. */
function inPlace<T>(place: string, fn: (rtnl: Rtnl) => T): T {
  const ns = openNetns(place)
  try {
    const rtnl = openRtnl(ns)
    try {
      return fn(rtnl)
    } finally {
      rtnl.close()
    }
  } finally {
    closeNetns(ns)
  }
}

function createIn(rtnl: Rtnl, link: WantedLink): void {
  rtnl.apply(planLink(link, nothingObserved).steps)
}

function deleteIn(rtnl: Rtnl, name: string): void {
  try {
    rtnl.apply([{ op: 'link.delete', dev: name }])
  } catch (error) {
    if (!hasCode(error, 'not-found')) throw error
  }
}

/** Deletes links of a namespace without waiting for the kernel. A namespace that has gone is fine. */
async function deleteBehind(path: string, names: readonly string[]): Promise<void> {
  let ns: ReturnType<typeof openNetns>
  try {
    ns = openNetns(path)
  } catch (error) {
    if (hasCode(error, 'not-found')) return
    throw error
  }
  const rtnl = openRtnl(ns)
  try {
    await rtnl.deleteLinksInBackground(names)
  } finally {
    rtnl.close()
    closeNetns(ns)
  }
}

/** A link that is down leaves its MAC to the next one on the same parent, although the kernel deletes it a little later (macvlan_stop). */
function freeMac(kernel: SandboxKernel, ifname: string): void {
  try {
    kernel.rtnl.apply([{ op: 'link.set', dev: ifname, set: { up: false } }])
  } catch (error) {
    if (!hasCode(error, 'not-found')) throw error
  }
}

/** A link that somebody else made goes back to the host under its old name; its maker takes it away. A missing one is fine. */
function moveBack(kernel: SandboxKernel, ifname: string, hostIfname: string): void {
  try {
    kernel.rtnl.apply([
      { op: 'link.set', dev: ifname, set: { up: false } },
      { op: 'link.move', dev: ifname, netnsFd: homeNetns().fd, name: hostIfname },
    ])
  } catch (error) {
    if (!hasCode(error, 'not-found')) throw error
  }
}

/** Probes what this host can do, by doing it in a namespace of its own, and says what each missing thing costs. Changes nothing. */
import { messageOf } from '../base/errors.ts'
import { openRtnl } from '../kernel/rtnl.ts'
import type { LinkSpec } from '../model/kernel-state.ts'
import type { Check } from '../model/own-answers.ts'
import { closeNetns, createNetns, openNetns, removeNetns } from '../sys/netns.ts'
import { findProgram, openFilesLimit } from '../sys/process.ts'
import { tryReadSysctl } from '../sys/sysctl.ts'

export type { Check }

const ENOUGH_FILES = 4096
const ENOUGH_FLOWS = 65_536

interface Probe {
  readonly name: string
  readonly cost: string
  readonly links: readonly LinkSpec[]
}

const ETH: LinkSpec = { name: 'p0', kind: 'veth', peer: { name: 'p1' } }
const PROBES: readonly Probe[] = [
  { name: 'bridge', cost: 'no bridge networks at all', links: [{ name: 'b0', kind: 'bridge' }] },
  { name: 'veth', cost: 'no container can be attached to anything', links: [ETH] },
  {
    name: 'vxlan',
    cost: 'no overlay networks across hosts',
    links: [{ name: 'v0', kind: 'vxlan', vxlan: { vni: 256, port: 4789, learning: false, proxy: true, l2miss: true, l3miss: true } }],
  },
  { name: 'macvlan', cost: 'no macvlan networks', links: [ETH, { name: 'm0', kind: 'macvlan', parent: 'p0', mode: 'bridge' }] },
  {
    name: 'ipvlan',
    cost: 'no ipvlan networks; macvlan does most of it',
    links: [ETH, { name: 'i0', kind: 'ipvlan', parent: 'p0', mode: 'l2', flag: 'bridge' }],
  },
  {
    name: '802.1q',
    cost: 'no VLAN sub-interfaces; make them on the switch side',
    links: [ETH, { name: 'q0', kind: 'vlan', parent: 'p0', vlanId: 50 }],
  },
  { name: 'dummy', cost: 'macvlan and ipvlan networks need a parent', links: [{ name: 'd0', kind: 'dummy' }] },
]

/** Runs all probes. `scratch` is a path for a short-lived namespace. */
export function examine(
  scratch: string,
  programs: readonly { name: string; need: string; path?: string | undefined }[],
  notes: readonly Check[],
): Check[] {
  return [...probeKernel(scratch), ...probePrograms(programs), ...probeForwarding(), ...probeLimits(), ...notes]
}

function probeKernel(scratch: string): Check[] {
  return PROBES.map(({ name, cost, links }) => {
    let found = 'works'
    let state: Check['state'] = 'ok'
    removeNetns(scratch)
    createNetns(scratch)
    try {
      const ns = openNetns(scratch)
      const rtnl = openRtnl(ns)
      try {
        rtnl.apply(links.map((link) => ({ op: 'link.add', link })))
      } catch (error) {
        state = 'missing'
        found = messageOf(error)
      } finally {
        rtnl.close()
        closeNetns(ns)
      }
    } finally {
      removeNetns(scratch)
    }
    return { area: 'kernel', name, state, found, cost: state === 'ok' ? '' : cost }
  })
}

function probePrograms(programs: readonly { name: string; need: string; path?: string | undefined }[]): Check[] {
  return programs.map(({ name, need, path }) => {
    const at = path ?? findProgram(name)
    return at === undefined
      ? { area: 'programs', name, state: 'missing', found: 'not in PATH', cost: need }
      : { area: 'programs', name, state: 'ok', found: at, cost: '' }
  })
}

function probeForwarding(): Check[] {
  const out: Check[] = []
  const v4 = tryReadSysctl('net/ipv4/ip_forward')
  out.push({
    area: 'forwarding',
    name: 'IPv4',
    state: v4 === '1' ? 'ok' : 'note',
    found: `net.ipv4.ip_forward = ${v4 ?? 'absent'}`,
    cost: v4 === '1' ? '' : 'enabled on single interfaces only, where networks need it; given back by `causeway down --all`',
  })
  const v6 = tryReadSysctl('net/ipv6/conf/all/forwarding')
  const perInterface = tryReadSysctl('net/ipv6/conf/lo/force_forwarding') !== undefined
  out.push({
    area: 'forwarding',
    name: 'IPv6',
    state: v6 === '1' ? 'ok' : 'note',
    found: v6 === undefined ? 'this kernel has no IPv6' : `net.ipv6.conf.all.forwarding = ${v6}`,
    cost:
      v6 === '1'
        ? ''
        : perInterface
          ? 'enabled on single interfaces only (force_forwarding)'
          : 'the first IPv6 network enables it for the whole host: this kernel has no switch per interface',
  })
  if (tryReadSysctl('net/bridge/bridge-nf-call-iptables') === '1')
    out.push({
      area: 'firewall',
      name: 'br_netfilter',
      state: 'note',
      found: 'net.bridge.bridge-nf-call-iptables = 1',
      cost: 'traffic inside a network passes the iptables rules of others; Causeway does not need it',
    })
  return out
}

function probeLimits(): Check[] {
  const files = openFilesLimit()
  const enough = files >= ENOUGH_FILES
  const out: Check[] = [
    {
      area: 'limits',
      name: 'open files',
      state: enough ? 'ok' : 'note',
      found: String(files),
      cost: enough ? '' : 'each published port and each resolver holds a descriptor: raise it with `ulimit -n`',
    },
  ]
  const flows = tryReadSysctl('net/netfilter/nf_conntrack_max')
  if (flows !== undefined) {
    const isEnough = Number(flows) >= ENOUGH_FLOWS
    out.push({
      area: 'limits',
      name: 'conntrack entries',
      state: isEnough ? 'ok' : 'note',
      found: flows,
      cost: isEnough ? '' : 'new connections are refused when the table is full',
    })
  }
  return out
}

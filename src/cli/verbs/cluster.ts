/** `cluster ls`, `cluster inspect`, `cluster verify` and `cluster evict`. */

import { defineCommand } from '../command.ts'
import { confirm } from '../confirm.ts'
import { type Context, colours } from '../context.ts'
import { each } from '../each.ts'
import { goJson } from '../format/go-print.ts'
import { type ListFormat, renderList } from '../format/list-output.ts'
import { formatTable } from '../format/tabwriter.ts'
import { compileTemplate } from '../format/template.ts'
import { flag, formatOption, integer, text } from '../options.ts'

interface Host {
  readonly id: string
  readonly name: string
  readonly address: string
  readonly port: number
  readonly version: string
  readonly mtu: number
  readonly started: number
  readonly state: 'up' | 'down' | 'evicted'
}

interface Summary {
  readonly store: { readonly url: string; readonly state: string; readonly error: string; readonly since: number }
  readonly self: string
  readonly joined: boolean
  readonly problem: string
  readonly hosts: readonly Host[]
  readonly conflicts: readonly { readonly name: string; readonly why: string; readonly outcome: string }[]
}

interface HostDetail extends Host {
  readonly isSelf: boolean
  readonly endpoints: readonly {
    readonly network: string
    readonly id: string
    readonly name: string
    readonly ipv4: string
    readonly ipv6: string
    readonly mac: string
  }[]
  readonly addresses: readonly { readonly subnet: string; readonly ip: string; readonly name: string; readonly network: string }[]
  readonly kernel: readonly {
    readonly network: string
    readonly entries: number
    readonly hash: string
    readonly revision: number
    readonly repairs: number
    readonly at: number
  }[]
}

interface Verdict {
  readonly ok: boolean
  readonly networks: readonly {
    readonly network: string
    readonly networkId: string
    readonly endpoints: number
    readonly revision: number
    readonly hash: string
    readonly hosts: readonly {
      readonly host: string
      readonly state: 'agrees' | 'behind' | 'differs' | 'silent' | 'down'
      readonly revision: number
      readonly repairs: number
      readonly missing: readonly string[]
      readonly extra: readonly string[]
    }[]
  }[]
  readonly paths: readonly Path[]
}

interface Path {
  readonly fromId: string
  readonly from: string
  readonly toId: string
  readonly to: string
  readonly state: 'ok' | 'mtu' | 'blocked' | 'silent'
  readonly mtu: number
  readonly need: number
}

const OBJECT_FORMAT = text('', "Print with a Go template over the fields that 'json' shows, or 'json'")

/** More paths than these are not listed one by one when they are good. */
const PATHS_SHOWN = 30

const COLOUR: Readonly<Record<string, number>> = {
  up: 32,
  agrees: 32,
  down: 33,
  evicted: 33,
  silent: 31,
  differs: 31,
  behind: 33,
  ok: 32,
  mtu: 31,
  blocked: 31,
}
const addressOf = ({ address, port }: Host) => (address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`)

/** A table whose cells of one column are coloured by what they say. */
function printStates(context: Context, headers: readonly string[], rows: readonly (readonly string[])[], column: number): void {
  const paint = colours(context.stdout, context.env)
  const lines = formatTable(headers, rows).split('\n')
  context.print(lines[0] as string)
  rows.forEach((row, i) => {
    const state = row[column] as string
    context.print((lines[i + 1] as string).replace(new RegExp(` ${state}( |$)`), ` ${paint(COLOUR[state] ?? 0, state)}$1`))
  })
}

const HOSTS: ListFormat = {
  headers: { Name: 'HOST', ID: 'ID', Address: 'ADDRESS', State: 'STATE', Version: 'VERSION', MTU: 'MTU', Self: 'SELF' },
  table: '{{.Name}}\t{{.ID}}\t{{.Address}}\t{{.State}}\t{{.Version}}',
  quiet: 'ID',
}

export const ls = defineCommand({
  path: 'cluster ls',
  summary: 'List the hosts of the cluster, and whether the shared store answers',
  usage: '[OPTIONS]',
  args: [0, 0],
  options: { format: formatOption() },
  notes: 'A host that is down keeps its addresses and names until it comes back or is evicted. The host asked is marked with *.',
  examples: [
    { line: 'causeway cluster ls' },
    { line: "causeway cluster ls --format '{{.Name}} {{.State}}'" },
    { line: 'causeway cluster ls --format json' },
  ],
  run: async (context, _args, options) => {
    const summary = await context.client.own.get<Summary>('/cluster')
    if (options.format === 'json') {
      context.print(goJson(summary))
      return 0
    }
    const { store, hosts, self } = summary
    if (options.format !== undefined && options.format !== 'table') {
      const facts = hosts.map((h) => ({
        Name: h.name,
        ID: h.id.slice(0, 12),
        Address: addressOf(h),
        State: h.state,
        Version: h.version,
        MTU: h.mtu,
        Self: h.id === self,
      }))
      context.stdout.write(renderList(HOSTS, facts, options.format, false))
      return 0
    }
    const rows = hosts.map((h) => [`${h.name}${h.id === self ? ' *' : ''}`, h.id.slice(0, 12), addressOf(h), h.state, h.version])
    printStates(context, ['HOST', 'ID', 'ADDRESS', 'STATE', 'VERSION'], rows, 3)
    if (store.state !== 'up') context.print(`store ${store.url} is ${store.state}${store.error === '' ? '' : `: ${store.error}`}`)
    else if (!summary.joined)
      context.print(`this host has not joined the cluster yet${summary.problem === '' ? '' : `: ${summary.problem}`}`)
    for (const { name, why, outcome } of summary.conflicts)
      context.print(`conflict: ${name}: ${why}${outcome === '' ? '' : `; ${outcome}`}`)
    return 0
  },
})

export const inspect = defineCommand({
  path: 'cluster inspect',
  summary: 'Show a host of the cluster and what it owns',
  usage: '[OPTIONS] HOST [HOST...]',
  args: [1, Number.POSITIVE_INFINITY],
  options: { format: OBJECT_FORMAT },
  notes: 'HOST is a name, an id, or the beginning of an id.',
  examples: [{ line: 'causeway cluster inspect host2' }],
  run: async (context, args, options) => {
    const found: HostDetail[] = []
    for (const ref of args) found.push(await context.client.own.get<HostDetail>(`/cluster/hosts/${encodeURIComponent(ref)}`))
    if (options.format === 'json') context.print(goJson(found))
    else if (options.format !== undefined) for (const host of found) context.print(compileTemplate(options.format)(host))
    else
      for (const host of found) {
        context.print(`${host.name}${host.isSelf ? ' *' : ''}  ${host.id}`)
        context.print(
          `  address ${addressOf(host)}, ${host.state}, MTU ${host.mtu || 'unknown'}, version ${host.version}, started ${new Date(host.started).toISOString()}`,
        )
        if (host.endpoints.length === 0) context.print('  no endpoints')
        else {
          const rows = host.endpoints.map((e) => [
            e.network,
            e.name,
            [e.ipv4, e.ipv6].filter((ip) => ip !== '').join(' '),
            e.mac,
            e.id.slice(0, 12),
          ])
          for (const line of formatTable(['NETWORK', 'CONTAINER', 'ADDRESS', 'MAC', 'ENDPOINT'], rows).trimEnd().split('\n'))
            context.print(`  ${line}`)
        }
        if (host.addresses.length > 0) {
          const rows = host.addresses.map(({ subnet, ip, name, network }) => [subnet, ip, name || '-', network])
          for (const line of formatTable(['POOL', 'ADDRESS', 'HOLDER', 'NETWORK'], rows).trimEnd().split('\n')) context.print(`  ${line}`)
        }
        if (host.kernel.length === 0) continue
        const states = host.kernel.map((k) => [
          k.network,
          String(k.entries),
          k.hash,
          String(k.revision),
          new Date(k.at).toISOString(),
          String(k.repairs),
        ])
        for (const line of formatTable(['NETWORK', 'ENTRIES', 'HASH', 'REVISION', 'PUBLISHED', 'REPAIRS'], states).trimEnd().split('\n'))
          context.print(`  ${line}`)
      }
    return 0
  },
})

export const verify = defineCommand({
  path: 'cluster verify',
  summary: "Compare every host's kernel with the shared store, and probe the paths between hosts",
  usage: '[OPTIONS]',
  args: [0, 0],
  options: {
    format: OBJECT_FORMAT,
    full: flag('', 'Ask every host for all of its entries, not only those whose published hash is not the one of the store'),
    timeout: integer('', 'Seconds to wait for the answers of all hosts (default 5)'),
  },
  notes:
    'Every host that is up looks at the neighbour and forwarding entries of each network that it has containers on, and compares their hash with the one that it has published; hosts whose hash is not the one of the store are asked for the entries. A host is behind when it has not heard of all that the store says, and differs when its kernel holds something else than it should. Differing lines are "address MAC host". Every host also sends packets of decreasing size to all others on UDP port 4789, as tunnels do: a path is ok, blocked in that direction, or mtu when packets of containers do not pass whole. Exit code 1 when anything differs, does not answer or does not pass.',
  examples: [
    { line: 'causeway cluster verify' },
    { line: 'causeway cluster verify --full' },
    { line: 'causeway cluster verify --format json' },
  ],
  run: async (context, _args, options) => {
    const query = {
      timeout: options.timeout === undefined ? undefined : String(options.timeout),
      full: options.full ? '1' : undefined,
    }
    const verdict = await context.client.own.get<Verdict>('/cluster/verify', query)
    if (options.format === 'json') {
      context.print(goJson(verdict))
      return verdict.ok ? 0 : 1
    }
    if (options.format !== undefined) {
      context.print(compileTemplate(options.format)(verdict))
      return verdict.ok ? 0 : 1
    }
    const rows = verdict.networks.flatMap(({ network, endpoints, hash, hosts }) =>
      hosts.map(({ host, state, revision, repairs }) => [
        network,
        String(endpoints),
        hash,
        host,
        state,
        revision === 0 ? '-' : String(revision),
        String(repairs),
      ]),
    )
    printStates(context, ['NETWORK', 'ENTRIES', 'HASH', 'HOST', 'STATE', 'REVISION', 'REPAIRS'], rows, 4)
    for (const { network, revision: latest, hosts } of verdict.networks)
      for (const { host, state, revision, missing, extra } of hosts) {
        if (state === 'behind') context.print(`${network} on ${host}: has heard up to revision ${revision}, the store has ${latest}`)
        for (const line of missing) context.print(`${network} on ${host}: missing ${line}`)
        for (const line of extra) context.print(`${network} on ${host}: not in the store ${line}`)
      }
    printPaths(context, verdict.paths)
    const agree = verdict.networks.every(({ hosts }) => hosts.every(({ state }) => state === 'agrees' || state === 'down'))
    const down = [
      ...new Set(verdict.networks.flatMap(({ hosts }) => hosts.filter(({ state }) => state === 'down').map(({ host }) => host))),
    ]
    if (!agree) context.print('Not all hosts agree with the store.')
    else if (down.length === 0) context.print('All hosts agree with the store.')
    else context.print(`All hosts that are up agree with the store; not asked, because down: ${down.toSorted().join(', ')}.`)
    return verdict.ok ? 0 : 1
  },
})

function printPaths(context: Context, paths: readonly Path[]): void {
  const bad = paths.filter(({ state }) => state !== 'ok')
  const shown = paths.length <= PATHS_SHOWN ? paths : bad
  if (shown.length > 0) {
    context.print('')
    const rows = shown.map(({ from, to, mtu, need, state }) => [
      from,
      to,
      mtu === 0 ? '-' : String(mtu),
      need === 0 ? '-' : String(need),
      state,
    ])
    printStates(context, ['FROM', 'TO', 'MTU', 'NEEDED', 'PATH'], rows, 4)
  }
  for (const path of bad) {
    const text = complaint(path, paths)
    if (text !== undefined) context.print(text)
  }
  if (shown.length < paths.length) context.print(`${paths.length - bad.length} other paths are ok.`)
}

/** What is wrong with a path and what to do; undefined when the other direction has said it. */
function complaint({ fromId, from, toId, to, state, mtu, need }: Path, paths: readonly Path[]): string | undefined {
  const back = paths.find((p) => p.fromId === toId && p.toId === fromId)
  const cure = 'open it in the firewalls of both and between them'
  if (state === 'blocked' && back?.state === 'blocked')
    return fromId < toId ? `UDP port 4789 is blocked both ways between ${from} and ${to}: ${cure}` : undefined
  if (state === 'blocked') return `UDP port 4789 is blocked from ${from} to ${to}, not back: ${cure}`
  if (state === 'mtu')
    return `packets from ${from} to ${to} pass up to ${mtu} bytes and containers make ${need}: restart the containers of ${from}, or make the network with a smaller com.docker.network.driver.mtu`
  return `the path from ${from} to ${to} is not known: one of them did not tell in time`
}

export const evict = defineCommand({
  path: 'cluster evict',
  summary: 'Free everything that a host owns, when it will not come back',
  usage: '[OPTIONS] HOST [HOST...]',
  args: [1, Number.POSITIVE_INFINITY],
  options: {
    force: flag('f', 'Also a host that is up, and without asking'),
  },
  notes: 'A host that comes back all the same claims what is still free again, and reports what is not.',
  examples: [{ line: 'causeway cluster evict host2' }],
  run: async (context, args, options) => {
    if (!options.force && !(await confirm(context, `Free all addresses and names of ${args.join(', ')}?`))) return 1
    return each(context, args, async (ref) => {
      const path = `/cluster/hosts/${encodeURIComponent(ref)}/evict`
      const { host, endpoints, addresses } = await context.client.own.post<{ host: string; endpoints: number; addresses: number }>(path, {
        force: options.force ? '1' : undefined,
      })
      const pooled = addresses === 0 ? '' : `, ${addresses} address${addresses === 1 ? '' : 'es'} of pools`
      return `${host}: ${endpoints} endpoint${endpoints === 1 ? '' : 's'}${pooled} freed`
    })
  },
})

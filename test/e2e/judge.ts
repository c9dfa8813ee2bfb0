/**
 * Compares what the engine says over its API with what the kernel holds, read by `ip`, `nft`, `dig` and /proc: links, addresses,
 * elements, namespaces, mounts, monitors, names and ports. Returns sentences; none means that all agree.
 */
import { readdirSync, readFileSync } from 'node:fs'
import type { EngineLab } from '../../testkit/engine-lab.ts'

export const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

interface InspectedContainer {
  readonly Id: string
  readonly Name: string
  readonly State: { readonly Running: boolean; readonly Pid: number }
  readonly HostConfig: { readonly NetworkMode: string }
  readonly NetworkSettings: {
    readonly SandboxKey: string
    readonly Networks: Record<string, { NetworkID: string; IPAddress: string; MacAddress: string; DNSNames: string[] | null }>
    readonly Ports: Record<string, { HostIp: string; HostPort: string }[] | null>
  }
}

export interface World {
  readonly networks: readonly {
    Id: string
    Name: string
    Driver: string
    Options: Record<string, string>
    IPAM: { Config: { Subnet: string; Gateway: string }[] }
  }[]
  readonly containers: readonly InspectedContainer[]
}

export async function worldOf(lab: EngineLab): Promise<World> {
  const networks = (await lab.api('GET', '/networks')).json
  const list = (await lab.api('GET', '/containers/json?all=1')).json as { Id: string }[]
  const containers: InspectedContainer[] = []
  for (const { Id } of list) {
    const { status, json } = await lab.api('GET', `/containers/${Id}/json`)
    if (status === 200) containers.push(json)
  }
  return { networks, containers }
}

// biome-ignore lint/suspicious/noExplicitAny: the judges' JSON is looked into freely
export async function jsonOf(lab: EngineLab, command: string): Promise<any> {
  const { out, err, code } = await lab.sh(command)
  if (code !== 0) throw new Error(`${command}: ${err}`)
  return JSON.parse(out === '' ? '[]' : out)
}

/** Elements of a set or map of ours as texts: key parts joined with a space, ` -> ` and the value for maps. */
export async function elementsOf(lab: EngineLab, family: string, set: string): Promise<string[]> {
  const { nftables } = await jsonOf(
    lab,
    `nft -j list set ${family} causeway ${set} 2>/dev/null || nft -j list map ${family} causeway ${set}`,
  )
  const object = nftables.find((o: Record<string, unknown>) => o['set'] ?? o['map'])
  const elem: unknown[] = (object.set ?? object.map).elem ?? []
  const text = (x: unknown): string => {
    if (typeof x !== 'object' || x === null) return String(x)
    const o = x as Record<string, unknown>
    if ('elem' in o) return text((o['elem'] as { val: unknown }).val)
    if ('concat' in o) return (o['concat'] as unknown[]).map(text).join(' ')
    return JSON.stringify(o)
  }
  return elem.map((e) => (Array.isArray(e) ? `${text(e[0])} -> ${text(e[1])}` : text(e))).sort()
}

function compare(what: string, wanted: Iterable<string>, found: Iterable<string>): string[] {
  const want = new Set(wanted)
  const have = new Set(found)
  return [
    ...[...want].filter((x) => !have.has(x)).map((x) => `${what}: ${x} is missing`),
    ...[...have].filter((x) => !want.has(x)).map((x) => `${what}: ${x} should not be there`),
  ]
}

const bridgeOf = (n: World['networks'][number]) => n.Options['com.docker.network.bridge.name'] ?? `br-${n.Id.slice(0, 12)}`

/** Pids of conmon processes that belong to the lab, those of execs excepted. */
export function monitorsOf(dir: string): number[] {
  const out: number[] = []
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const cmd = readFileSync(`/proc/${name}/cmdline`, 'latin1')
      if (cmd.includes('conmon') && cmd.includes(dir) && !cmd.includes('--exec')) out.push(Number(name))
    } catch {
      // ended meanwhile
    }
  }
  return out
}

/** Everything that does not agree. `names`: also ask every resolver for every name (one `dig` each). */
export async function disagreements(lab: EngineLab, options: { names?: boolean; ports?: boolean } = {}): Promise<string[]> {
  const wrong: string[] = []
  const { networks, containers } = await worldOf(lab)
  const bridges = networks.filter((n) => n.Driver === 'bridge')
  const running = containers.filter((c) => c.State.Running)
  const own = running.filter((c) => c.HostConfig.NetworkMode !== 'host' && !c.HostConfig.NetworkMode.startsWith('container:'))

  // biome-ignore lint/suspicious/noExplicitAny: ip's JSON
  const links: any[] = await jsonOf(lab, 'ip -j -d addr')
  const ours = links.filter((l) => String(l.ifalias ?? '').startsWith('causeway:'))
  wrong.push(
    ...compare(
      'bridge',
      bridges.map(bridgeOf),
      links.filter((l) => l.linkinfo?.info_kind === 'bridge').map((l) => l.ifname),
    ),
  )
  for (const n of bridges) {
    const link = links.find((l) => l.ifname === bridgeOf(n))
    const pool = n.IPAM.Config[0]
    const address = `${pool?.Gateway}/${pool?.Subnet.split('/')[1]}`
    // biome-ignore lint/suspicious/noExplicitAny: ip's JSON
    const v4 = (link?.addr_info ?? []).filter((a: any) => a.family === 'inet').map((a: any) => `${a.local}/${a.prefixlen}`)
    wrong.push(...compare(`address of ${n.Name}`, [address], v4))
    if (link && !link.flags.includes('UP')) wrong.push(`bridge of ${n.Name} is down`)
  }
  const veths = links.filter((l) => l.linkinfo?.info_kind === 'veth' && /^veth[0-9a-f]{7}$/.test(l.ifname))
  for (const l of veths) if (!ours.includes(l)) wrong.push(`veth ${l.ifname} carries no mark`)

  const guarded: string[] = []
  const addresses = new Map<string, string>()
  for (const c of own) {
    // biome-ignore lint/suspicious/noExplicitAny: ip's JSON
    const inside: any[] = await jsonOf(lab, `nsenter --net=${c.NetworkSettings.SandboxKey} ip -j -d addr`)
    const nets = Object.entries(c.NetworkSettings.Networks).filter(([, e]) => e.IPAddress !== '')
    const want = nets.map(([, e]) => `${e.MacAddress} ${e.IPAddress}`)
    const eths = inside.filter((l) => l.ifname !== 'lo' && l.link_type === 'ether')
    // biome-ignore lint/suspicious/noExplicitAny: ip's JSON
    const have = eths.map((l) => `${l.address} ${l.addr_info.filter((a: any) => a.family === 'inet').map((a: any) => a.local)}`)
    wrong.push(...compare(`interfaces of ${c.Name}`, want, have))
    for (const [network, e] of nets) {
      const other = addresses.get(`${e.NetworkID} ${e.IPAddress}`)
      if (other !== undefined) wrong.push(`${c.Name} and ${other} share ${e.IPAddress}`)
      addresses.set(`${e.NetworkID} ${e.IPAddress}`, c.Name)
      const eth = eths.find((l) => l.address === e.MacAddress)
      const outer = links.find((l) => l.ifindex === eth?.link_index && l.linkinfo?.info_kind === 'veth')
      const net = networks.find((n) => n.Id === e.NetworkID)
      if (net === undefined) wrong.push(`${c.Name} is on network ${network}, which is not listed`)
      else if (outer?.master !== bridgeOf(net)) wrong.push(`port of ${c.Name} is on ${outer?.master}, not on ${bridgeOf(net)}`)
      if (outer) guarded.push(`${outer.ifname} ${e.MacAddress} ${e.IPAddress}`)
    }
  }
  wrong.push(
    ...compare(
      'veth',
      guarded.map((g) => g.split(' ')[0] as string),
      veths.map((l) => l.ifname),
    ),
  )
  wrong.push(...compare('set own4', guarded, await elementsOf(lab, 'bridge', 'own4')))
  wrong.push(...compare('set bridges', bridges.map(bridgeOf), await elementsOf(lab, 'inet', 'bridges')))

  const published: string[] = []
  for (const c of own)
    for (const [key, bindings] of Object.entries(c.NetworkSettings.Ports)) {
      const [port, proto] = key.split('/')
      for (const b of bindings ?? []) if (b.HostIp === '0.0.0.0') published.push(`${proto} ${b.HostPort} :${port}`)
    }
  const dnat = (await elementsOf(lab, 'inet', 'dnat4_any')).map((e) => e.replace(/ -> \S+ /, ' :'))
  wrong.push(...compare('map dnat4_any', published, dnat))

  const keys = own.map((c) => c.NetworkSettings.SandboxKey)
  const mountinfo = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
  const mounted = mountinfo.filter((f) => f.includes('nsfs') && f[4]?.startsWith(lab.dir)).map((f) => f[4] as string)
  wrong.push(
    ...compare(
      'namespace',
      keys,
      mounted.filter((m) => !m.endsWith('/default')),
    ),
  )
  wrong.push(
    ...compare(
      'namespace file',
      keys,
      readdirSync(`${lab.dir}/run/netns`)
        .filter((n) => n !== 'default')
        .map((n) => `${lab.dir}/run/netns/${n}`),
    ),
  )
  const overlays = mountinfo
    .filter((f) => f[4]?.startsWith(`${lab.dir}/data/rootfs/`))
    .map((f) => (f[4] as string).split('/').at(-2) as string)
  wrong.push(
    ...compare(
      'root file system',
      running.map((c) => c.Id),
      overlays,
    ),
  )
  const folders = ['containers', 'rootfs'] as const
  for (const folder of folders) {
    const there = readdirSync(`${lab.dir}/data/${folder}`).filter((n) => /^[0-9a-f]{64}$/.test(n))
    wrong.push(
      ...compare(
        `folder ${folder}`,
        containers.map((c) => c.Id).filter((id) => there.includes(id)),
        there,
      ),
    )
  }
  wrong.push(
    ...compare(
      'bundle',
      running.map((c) => c.Id),
      readdirSync(`${lab.dir}/run/bundles`),
    ),
  )
  const monitors = monitorsOf(lab.dir)
  if (monitors.length !== running.length) wrong.push(`${monitors.length} monitors for ${running.length} running containers`)

  if (options.names) for (const c of own) wrong.push(...(await wrongNames(lab, c, own)))
  return wrong
}

async function wrongNames(lab: EngineLab, from: InspectedContainer, all: readonly InspectedContainer[]): Promise<string[]> {
  const wrong: string[] = []
  const mine = Object.values(from.NetworkSettings.Networks).filter((e) => (e.DNSNames ?? []).length > 0)
  if (mine.length === 0) return []
  const asked: { name: string; wanted: Set<string>; who: string }[] = []
  for (const other of all) {
    const shared = Object.values(other.NetworkSettings.Networks).filter(
      (e) => mine.some((m) => m.NetworkID === e.NetworkID) && e.IPAddress !== '',
    )
    if (shared.length > 0) asked.push({ name: other.Name.slice(1), wanted: new Set(shared.map((e) => e.IPAddress)), who: other.Name })
  }
  for (const { name, wanted, who } of asked) {
    const { out } = await lab.sh(`nsenter --net=${from.NetworkSettings.SandboxKey} dig +time=1 +tries=2 +short @127.0.0.11 ${name}.`)
    const got = out.split('\n').filter((line) => line !== '')
    if (got.length === 0 || got.some((ip) => !wanted.has(ip))) wrong.push(`${from.Name} resolves ${who} to "${got}", not to ${[...wanted]}`)
  }
  return wrong
}

/** What still does not agree after `ms`: links are deleted in the background, so the first look may be too early. */
export async function unsettled(lab: EngineLab, options: { names?: boolean } = {}, ms = 3000): Promise<string[]> {
  const end = Date.now() + ms
  for (;;) {
    const wrong = await disagreements(lab, options)
    if (wrong.length === 0 || Date.now() > end) return wrong
    await sleep(50)
  }
}

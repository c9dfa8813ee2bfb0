/**
 * What must be true of a cluster at rest, whatever happened before: engines, store and kernels say the same, every pair of containers reach
 * each other by address and name, nobody shares an address, nothing is left of what was removed. Each function returns what is wrong, in
 * sentences; an empty list is right.
 */
import type { Lab } from '../../testkit/lab.ts'

type Engine = Lab['engines'][number]

export interface Attached {
  readonly host: number
  readonly container: string
  readonly network: string
  readonly networkId: string
  readonly ip: string
  readonly mac: string
}

/** What the engines say: overlay networks (name to id) as each host has them, and where running containers are attached. */
export interface Truth {
  readonly networks: readonly ReadonlyMap<string, string>[]
  readonly attached: readonly Attached[]
  /** Names of all containers, running or not, with their hosts. */
  readonly containers: ReadonlyMap<string, { readonly host: number; readonly running: boolean }>
}

/** Asks every engine. Throws when one does not answer. */
export async function readTruth(lab: Lab): Promise<Truth> {
  const attached: Attached[] = []
  const containers = new Map<string, { host: number; running: boolean }>()
  const networks = await Promise.all(
    lab.engines.map(async (engine, host) => {
      const listed = (await engine.api('GET', '/networks')).json as { Name: string; Id: string; Driver: string }[]
      const overlays = new Map(listed.filter(({ Driver }) => Driver === 'overlay').map(({ Name, Id }) => [Name, Id]))
      for (const { Id } of (await engine.api('GET', '/containers/json?all=1')).json as { Id: string }[]) {
        const { json } = await engine.api('GET', `/containers/${Id}/json`)
        const name = (json.Name as string).slice(1)
        containers.set(name, { host, running: json.State.Running })
        if (!json.State.Running) continue
        const settings = Object.entries(json.NetworkSettings.Networks) as [
          string,
          { NetworkID: string; IPAddress: string; MacAddress: string },
        ][]
        for (const [network, { NetworkID, IPAddress, MacAddress }] of settings)
          if ([...overlays.values()].includes(NetworkID))
            attached.push({ host, container: name, network, networkId: NetworkID, ip: IPAddress, mac: MacAddress })
          else if (network !== 'bridge') attached.push({ host, container: name, network, networkId: NetworkID, ip: IPAddress, mac: '' })
      }
      return overlays
    }),
  )
  return { networks, attached, containers }
}

/** Names of a set of things that are there and should not be, and the other way round. */
function differences(what: string, wanted: Iterable<string>, there: Iterable<string>): string[] {
  const [want, have] = [new Set(wanted), new Set(there)]
  return [
    ...[...want].filter((x) => !have.has(x)).map((x) => `${what}: ${x} is missing`),
    ...[...have].filter((x) => !want.has(x)).map((x) => `${what}: ${x} should not be there`),
  ]
}

function twice(what: string, keys: readonly string[]): string[] {
  const seen = new Set<string>()
  return keys.filter((key) => seen.size === seen.add(key).size).map((key) => `${what}: ${key} twice`)
}

/** Engines among themselves: the same networks everywhere, one owner for every address and name. */
export function judgeEngines({ networks, attached }: Truth): string[] {
  const lines = networks.map((map) => [...map].map(([name, id]) => `${name} ${id}`))
  return [
    ...lines.flatMap((own, host) => differences(`host${host + 1}'s networks`, lines[0] ?? [], own)),
    ...attached.filter((a) => a.mac === '').map((a) => `${a.container} is attached to ${a.network}, which its host does not have`),
    ...twice(
      'address',
      attached.map((a) => `${a.network} ${a.ip}`),
    ),
    ...twice(
      'name',
      attached.map((a) => `${a.network} ${a.container}`),
    ),
  ]
}

/** The store holds exactly the keys of what the engines have. */
export async function judgeStore(lab: Lab, { networks, attached }: Truth): Promise<string[]> {
  const keys = (await lab.etcd.ctl('get', '--prefix', '/network/causeway/', '--keys-only'))
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.slice('/network/causeway/'.length))
  const below = (folder: string) => keys.filter((key) => key.startsWith(`${folder}/`)).map((key) => key.slice(folder.length + 1))
  const hosts = await Promise.all(lab.engines.map(async (e) => (await e.api('GET', '/causeway/v1/cluster')).json.self as string))
  const all = [...(networks[0] ?? [])]
  const untold = (await lab.etcd.ctl('get', '--prefix', '/network/causeway/endpoints/', '--print-value-only'))
    .split('\n')
    .filter((line) => line.includes('"active":false'))
    .map((line) => `store: the names of ${(JSON.parse(line) as { name: string }).name} are not told`)
  const ids = new Set(below('endpoints').map((key) => key.split('/')[1]))
  const perNetwork = (list: readonly string[]) => {
    const counts = new Map<string, number>()
    for (const key of list) counts.set(key.split('/')[0] ?? '', (counts.get(key.split('/')[0] ?? '') ?? 0) + 1)
    return [...counts].map(([id, n]) => `${id} ${n}`)
  }
  return [
    ...differences(
      'store, hosts',
      hosts.flatMap((id) => [id, `${id}/lease`]),
      below('hosts'),
    ),
    ...differences(
      'store, networks',
      all.map(([, id]) => id),
      below('networks').filter((key) => !['guard', 'verification'].includes(key)),
    ),
    ...differences(
      'store, network names',
      all.map(([name]) => name),
      below('names/networks'),
    ),
    ...differences(
      'store, addresses',
      attached.map((a) => `${a.networkId}/${a.ip}`),
      below('addr'),
    ),
    ...differences(
      'store, container names',
      attached.map((a) => `${a.networkId}/${a.container}`),
      below('epname'),
    ),
    ...untold,
    ...differences('store, number of endpoints', perNetwork(attached.map((a) => `${a.networkId}/`)), perNetwork(below('endpoints'))),
    ...differences(
      'store, owned',
      ids as Set<string>,
      below('owned').map((key) => key.split('/')[2] ?? ''),
    ),
    ...differences(
      'store, owners',
      [...new Set(attached.map((a) => hosts[a.host] ?? ''))],
      [...new Set(below('owned').map((key) => key.split('/')[0] ?? ''))],
    ),
  ]
}

/** What a host's kernel holds: the namespaces of its networks with exactly the entries of the others, one leg per container outside. */
async function judgeKernel(lab: Lab, engine: Engine, host: number, { attached, containers }: Truth): Promise<string[]> {
  const here = attached.filter((a) => a.host === host)
  const ids = [...new Set(here.map((a) => a.networkId))]
  const netns = `${engine.dir}/run/netns`
  const script = `for n in $(cd ${netns} && ls -d 1-* 2>/dev/null); do nsenter --net=${netns}/$n sh -c '
      ip -o link show type veth | sed "s/^/$1 veth /"
      ip -4 neigh show nud permanent | sed "s/^/$1 neigh /"
      bridge fdb show dev vxlan0 | grep " dst " | grep -v ^00:00:00:00:00:00 | sed "s/^/$1 fdb /"
      bridge fdb show dev vxlan0 | grep "^00:00:00:00:00:00 .*dst" | sed "s/^/$1 flood /"
      echo $1 place' sh $n; done
    ip -o link show master docker_gwbridge 2>/dev/null | sed "s/^/- leg /"
    ls ${netns} | grep -v ^1- | sed "s/^/- sandbox /"`
  const { out, err } = await engine.sh(script)
  const rows = out.split('\n').map((line) => line.split(' '))
  const of = (place: string, kind: string) => rows.filter(([p, k]) => p === place && k === kind).map((row) => row.slice(2))
  const vtep = (i: number) => lab.net.hosts[i]?.ip ?? ''
  const wrong = differences(
    `host${host + 1}, namespaces`,
    ids.map((id) => `1-${id.slice(0, 10)}`),
    rows.filter(([, kind]) => kind === 'place').map(([place = '']) => place),
  )
  for (const id of ids) {
    const place = `1-${id.slice(0, 10)}`
    const others = attached.filter((a) => a.networkId === id && a.host !== host)
    const where = `host${host + 1} ${here.find((a) => a.networkId === id)?.network}`
    wrong.push(
      ...differences(
        `${where}, neighbours`,
        others.map((a) => `${a.ip} ${a.mac}`),
        of(place, 'neigh').map((w) => `${w[0]} ${w[w.indexOf('lladdr') + 1]}`),
      ),
      ...differences(
        `${where}, tunnels`,
        others.map((a) => `${a.mac} ${vtep(a.host)}`),
        of(place, 'fdb').map((w) => `${w[0]} ${w[w.indexOf('dst') + 1]}`),
      ),
      ...differences(
        `${where}, broadcast`,
        new Set(others.map((a) => vtep(a.host))),
        of(place, 'flood').map((w) => w[w.indexOf('dst') + 1] ?? ''),
      ),
    )
    const local = here.filter((a) => a.networkId === id).length
    if (of(place, 'veth').length !== local) wrong.push(`${where}: ${of(place, 'veth').length} interfaces for ${local} containers`)
  }
  // one that was disconnected from everything keeps its own
  const sandboxes = [...containers.values()].filter((c) => c.host === host && c.running).length
  const kept = of('-', 'sandbox').length
  if (kept !== sandboxes) wrong.push(`host${host + 1}: ${kept} sandboxes for ${sandboxes} containers`)
  if (err !== '') wrong.push(`host${host + 1}: ${err}`)
  return wrong
}

/** The kernels of all hosts, and what `cluster verify` says of them. */
export async function judgeKernels(lab: Lab, truth: Truth): Promise<string[]> {
  const wrong = (await Promise.all(lab.engines.map((engine, host) => judgeKernel(lab, engine, host, truth)))).flat()
  const verified = await Promise.all(lab.engines.map((engine) => engine.api('GET', '/causeway/v1/cluster/verify')))
  verified.forEach(({ status, text, json }, host) => {
    if (status !== 200 || json.ok !== true) wrong.push(`host${host + 1}, cluster verify: ${text.slice(0, 1000)}`)
  })
  return wrong
}

/** Every container pings every other of its networks once, by address and (unless told) by name; `gone` are names that must not be known. */
export async function judgeTraffic(lab: Lab, { attached }: Truth, gone: readonly string[] = [], byName = true): Promise<string[]> {
  const containers = [...new Set(attached.map((a) => a.container))]
  const wrong = containers.map(async (container) => {
    const mine = attached.filter((a) => a.container === container)
    const targets = new Set<string>()
    for (const own of mine)
      for (const other of attached)
        if (other.networkId === own.networkId && other.container !== container) {
          targets.add(other.ip)
          if (byName) targets.add(other.container)
        }
    const script = `for n in ${[...targets].join(' ')}; do ping -c 1 -W 2 $n >/dev/null 2>&1 || echo $n; done
      for n in ${gone.join(' ')}; do nslookup $n 127.0.0.11 2>/dev/null | sed 1,2d | grep -q "^Address" && echo still $n; done; true`
    const engine = lab.engines[mine[0]?.host ?? 0] as Engine
    const { code, out, err } = await engine.exec(container, 'sh', '-c', script)
    const failed = out.split('\n').filter((line) => line !== '')
    if (code !== 0 || err !== '') failed.push(`exec: ${code} ${err}`)
    return failed.map((target) => `${container} to ${target}: no answer`)
  })
  return (await Promise.all(wrong)).flat()
}

/** Everything but traffic, in the order in which it is cheapest to look. */
export async function judgeState(lab: Lab): Promise<{ truth: Truth; wrong: string[] }> {
  const truth = await readTruth(lab)
  const wrong = judgeEngines(truth)
  if (wrong.length === 0) wrong.push(...(await judgeStore(lab, truth)))
  if (wrong.length === 0) wrong.push(...(await judgeKernels(lab, truth)))
  return { truth, wrong }
}

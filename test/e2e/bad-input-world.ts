/** What the wrong requests of the bad-input tests run into, and a picture of everything that must look the same afterwards. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import type { EngineLab } from '../../testkit/engine-lab.ts'

/** One wrong API request, its documented status, and the documented text (whole, or as a pattern where it names ids). */
export interface WrongRequest {
  readonly what: string
  readonly method: string
  readonly path: string
  /** An object is sent as JSON, a string as it is. */
  readonly body?: unknown
  readonly status: number
  readonly text: string | RegExp
}

/** One wrong command, run by `causeway`; Docker's exit code and the last words it says. */
export interface WrongCommand {
  readonly what: string
  readonly argv: readonly string[]
  readonly code: number
  readonly text: string | RegExp
}

/** Short form of a table row. */
export function row(what: string, method: string, path: string, body: unknown, status: number, text: string | RegExp): WrongRequest {
  return { what, method, path, ...(body === undefined ? {} : { body }), status, text }
}

/** The text, and whatever the engine adds behind it to say why. */
export function starting(text: string): RegExp {
  return new RegExp(`^${text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}`)
}

export async function makeWorld(lab: EngineLab): Promise<void> {
  const must = async (method: string, path: string, body: unknown, status: number) => {
    const reply = await lab.api(method, path, body)
    assert.equal(reply.status, status, `${method} ${path}: ${reply.text}`)
  }
  const network = (Name: string, Subnet: string, extra: object = {}) =>
    must('POST', '/networks/create', { Name, IPAM: { Config: [{ Subnet }] }, ...extra }, 201)
  assert.equal((await lab.sh('ip link add cwforeign0 type veth peer name cwforeign1')).code, 0)
  await network('front', '10.10.0.0/24')
  await network('back', '10.20.0.0/24', { Options: { 'com.docker.network.bridge.name': 'cwback0' } })
  await network('inner', '10.30.0.0/24', { Internal: true })
  await network('tiny', '10.40.0.0/30')
  await must('POST', '/networks/create', { Name: 'auto' }, 201)
  await must('POST', '/networks/create', { Name: 'cfg', ConfigOnly: true, IPAM: { Config: [{ Subnet: '10.50.0.0/24' }] } }, 201)
  await must('POST', '/networks/create', { Name: 'from-cfg', ConfigFrom: { Network: 'cfg' } }, 201)
  const ip = (network: string, IPv4Address: string) => ({
    NetworkingConfig: { EndpointsConfig: { [network]: { IPAMConfig: { IPv4Address } } } },
  })
  await lab.run('web1', {
    networks: ['front'],
    host: { PortBindings: { '80/tcp': [{ HostPort: '8080' }] } },
    body: { ExposedPorts: { '80/tcp': {} }, ...ip('front', '10.10.0.5') },
  })
  await lab.run('hosty', { networks: ['host'] })
  await lab.run('lonely', { networks: ['none'] })
  await lab.run('member1', { networks: ['container:web1'] })
  await lab.run('filler', { networks: ['tiny'] })
  await lab.run('paused1', {})
  await must('POST', '/containers/paused1/pause', undefined, 204)
  const create = (name: string, body: object) =>
    must('POST', `/containers/create?name=${name}`, { Image: 'busybox', Cmd: ['sleep', '1'], ...body }, 201)
  await create('created1', { HostConfig: { NetworkMode: 'front' } })
  await create('same-port', { HostConfig: { NetworkMode: 'back', PortBindings: { '80/tcp': [{ HostPort: '8080' }] } } })
  await create('same-ip', { HostConfig: { NetworkMode: 'front' }, ...ip('front', '10.10.0.5') })
  await create('foreign-port', { HostConfig: { PortBindings: { '80/tcp': [{ HostPort: '7777' }] } } })
  await create('no-net', { HostConfig: { NetworkMode: 'no-such-net' } })
  await create('no-target', { HostConfig: { NetworkMode: 'container:gone' } })
  await create('idle-target', { HostConfig: { NetworkMode: 'container:created1' } })
  await create('full-net', { HostConfig: { NetworkMode: 'tiny' } })
  await create('cfg-net', { HostConfig: { NetworkMode: 'cfg' } })
  await create('bad-local', {
    NetworkingConfig: { EndpointsConfig: { back: { IPAMConfig: { LinkLocalIPs: ['8.8.8.8'] } } } },
    HostConfig: { NetworkMode: 'back' },
  })
  await create('no-program', { Cmd: ['/no/such/program'] })
}

/** Counters, handles, clocks, ids of endpoints that never came to be, and what the kernel says of carriers a moment later, are left out. */
function steady(text: string): string {
  return text
    .replace(/"(packets|bytes|handle|Status|valid_life_time|preferred_life_time|operstate)":\s*("[^"]*"|\d+)/g, '"$1":0')
    .replace(/"(NO-CARRIER|LOWER_UP)",|,?"linkdown"/g, '')
    .replace(/,"LOWER_UP"/g, '')
    .replace(/(on endpoint \S+) \([0-9a-f]{64}\)/g, '$1')
}

async function judge(lab: EngineLab, command: string): Promise<string[]> {
  const ran = await lab.sh(command)
  assert.equal(ran.code, 0, `${command}: ${ran.err}`)
  return (JSON.parse(steady(ran.out)) as unknown[]).map((item) => JSON.stringify(item)).sort()
}

/** Everything that a refused request must leave alone, in words of other programs where there are any. */
export async function picture(lab: EngineLab): Promise<Record<string, unknown>> {
  const get = async (path: string) => JSON.parse(steady((await lab.api('GET', path)).text)) as unknown
  const rules = JSON.parse(steady((await lab.sh('nft -j list ruleset')).out)) as {
    nftables: { set?: { elem?: unknown[] }; map?: { elem?: unknown[] } }[]
  }
  for (const { set, map } of rules.nftables)
    for (const holder of [set, map]) holder?.elem?.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1))
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(lab.dir))
  const { store } = (await get('/causeway/v1/debug/state')) as { store: unknown }
  return {
    networks: await get('/networks'),
    containers: await get('/containers/json?all=1'),
    volumes: await get('/volumes'),
    links: await judge(lab, 'ip -j link'),
    addresses: await judge(lab, 'ip -j addr'),
    routes: [...(await judge(lab, 'ip -j route show table all')), ...(await judge(lab, 'ip -j -6 route show table all'))],
    sockets: (await lab.sh('ss -Hltunp')).out
      .split('\n')
      .map((line) => line.replace(/\s+/g, ' '))
      .sort(),
    rules: rules.nftables,
    namespaces: readdirSync(`${lab.dir}/run/netns`).sort(),
    folders: readdirSync(`${lab.dir}/data/containers`).sort(),
    mounts: mounts.map((line) => line.split(' ')[4]).sort(),
    processes: (await lab.sh(`cat /proc/${lab.pid()}/task/*/children`)).out.split(' ').sort(),
    store,
  }
}

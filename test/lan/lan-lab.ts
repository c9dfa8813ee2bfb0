/** Engines on hosts of one LAN, for the drivers whose containers are machines on it. Call `isolate()` first. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { type EngineLab, startEngineLab } from '../../testkit/engine-lab.ts'
import { buildLabNet, type LabHost } from '../../testkit/lab-net.ts'

/** One host with its engine; `eth0` is on the LAN. */
export class LanHost {
  readonly host: LabHost
  readonly lab: EngineLab

  constructor(host: LabHost, lab: EngineLab) {
    this.host = host
    this.lab = lab
  }

  /** What `docker network create …` asks for, which must succeed. Answers the network's id. */
  async network(...args: string[]): Promise<string> {
    const { status, text, json } = await this.lab.api('POST', '/networks/create', createBody(args))
    assert.equal(status, 201, text)
    return json.Id as string
  }

  /** What `docker network create …` asks for, which must be refused, and nothing of it may be left. Answers status and message. */
  async refused(...args: string[]): Promise<string> {
    const before = await this.links()
    const { status, json } = await this.lab.api('POST', '/networks/create', createBody(args))
    assert.notEqual(status, 201, args.join(' '))
    assert.deepEqual(await this.links(), before, args.join(' '))
    return `${status} ${json.message}`
  }

  async remove(containers: readonly string[], networks: readonly string[]): Promise<void> {
    for (const name of containers) assert.equal((await this.lab.api('DELETE', `/containers/${name}?force=1`)).status, 204, name)
    for (const name of networks) assert.equal((await this.lab.api('DELETE', `/networks/${name}`)).status, 204, name)
  }

  /** Names of the host's links. */
  async links(): Promise<string[]> {
    const { out } = await this.lab.sh('ip -o link')
    return out.split('\n').flatMap((line) => /^\d+: ([^:@]+)/.exec(line)?.[1] ?? [])
  }

  async endpoint(
    container: string,
    network: string,
  ): Promise<{ IPAddress: string; GlobalIPv6Address: string; MacAddress: string; Gateway: string }> {
    const { json } = await this.lab.api('GET', `/containers/${container}/json`)
    return json.NetworkSettings.Networks[network]
  }

  /** A command of the host's in a container's network namespace. */
  async inside(container: string, command: string): Promise<string> {
    const { json } = await this.lab.api('GET', `/containers/${container}/json`)
    return (await this.lab.sh(`nsenter --net=${json.NetworkSettings.SandboxKey} ${command}`)).out
  }

  /** A container reaches an address. */
  async reaches(container: string, ip: string, wait = 2): Promise<boolean> {
    return / [1-9]\d* received/.test(await this.inside(container, `ping -n -c 1 -W ${wait} ${ip}`))
  }
}

/** The request that the docker command makes of its arguments; the command itself is slow where the kernel is emulated. */
function createBody(args: readonly string[]): unknown {
  const body = { Name: args.at(-1), Driver: 'bridge', EnableIPv6: false, Options: {} as Record<string, string> }
  const config: { Subnet: string; IPRange?: string; Gateway?: string; AuxiliaryAddresses?: Record<string, string> }[] = []
  const pair = (text: string) => [text.slice(0, text.indexOf('=')), text.slice(text.indexOf('=') + 1)] as [string, string]
  for (let i = 0; i < args.length - 1; i++) {
    const flag = args[i] as string
    if (flag === '--ipv6') {
      body.EnableIPv6 = true
      continue
    }
    const value = args[++i] as string
    const last = config.at(-1)
    if (flag === '-d') body.Driver = value
    else if (flag === '-o') Object.assign(body.Options, Object.fromEntries([pair(value)]))
    else if (flag === '--subnet') config.push({ Subnet: value })
    else if (last === undefined) throw new Error(`${flag} comes before --subnet`)
    else if (flag === '--ip-range') last.IPRange = value
    else if (flag === '--gateway') last.Gateway = value
    else if (flag === '--aux-address') last.AuxiliaryAddresses = Object.fromEntries([pair(value)])
    else throw new Error(`unknown option ${flag}`)
  }
  return { ...body, IPAM: { Config: config } }
}

export interface Lan {
  readonly hosts: readonly LanHost[]
  /** A machine on the LAN without an engine, `lan0` is its interface (a bridge: it is the switch too). */
  readonly machine: LabHost
  close(): Promise<void>
}

/** Starts `count` hosts with engines on 10.10.126.0/24 and fd10:10:126::/64; .1 is the machine. */
export async function startLan(count: number, flags: readonly string[] = []): Promise<Lan> {
  const net = buildLabNet({ hosts: count, flat: true })
  const labs = await Promise.all(net.hosts.map(({ enter }) => startEngineLab(flags, { enter })))
  const hosts = net.hosts.map((host, i) => new LanHost(host, labs[i] as EngineLab))
  return {
    hosts,
    machine: net.router,
    async close() {
      const left = await Promise.all(labs.map((lab) => lab.close()))
      net.close()
      assert.deepEqual(
        left,
        labs.map(() => []),
      )
    },
  }
}

/** The machine reaches an address. */
export async function lanReaches(machine: LabHost, ip: string, wait = 2): Promise<boolean> {
  return (await machine.sh(`ping -n -c 1 -W ${wait} ${ip}`)).code === 0
}

/** The kernel can make links of this kind. */
export function kernelHas(kind: 'vlan' | 'ipvlan' | 'dummy'): boolean {
  const link = {
    dummy: 'add cw-probe type dummy',
    vlan: 'add link lo name cw-probe type vlan id 7',
    ipvlan: 'add link lo name cw-probe type ipvlan',
  }
  // lo cannot be a parent: a kernel that knows the kind says so, one that does not says "Unknown device type"
  const { stderr } = spawnSync('ip', ['link', ...link[kind].split(' ')], { encoding: 'utf8' })
  spawnSync('ip', ['link', 'del', 'cw-probe'])
  return !/Unknown device type|not supported/i.test(stderr)
}

/** `skip` of tests that need what the kernel may lack; inside the virtual machine nothing is skipped. */
export function skipWithout(...kinds: Parameters<typeof kernelHas>[0][]): string | false {
  const lacking = process.env['CAUSEWAY_IN_VM'] === '1' ? [] : kinds.filter((kind) => !kernelHas(kind))
  return lacking.length > 0 && `this kernel has no ${lacking.join(', ')}: test/vm runs this in another one`
}

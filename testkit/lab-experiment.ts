/**
 * The experiment with net1, net2, net1c1, net1c2, net2c1 and net2c2 on two hosts that made Docker's overlay networks known, step by step with
 * the same commands. Each is said as it runs, with what it prints.
 */
import { spawn } from 'node:child_process'
import { CLUSTER_PORT, type Lab } from './lab.ts'
import { systemEnv } from './lab-net.ts'

export interface Step {
  /** Host, or container with its host. */
  readonly where: string
  readonly command: string
  readonly out: string
  readonly code: number
}

export class Experiment {
  readonly steps: Step[] = []
  readonly #lab: Lab
  readonly #say: (text: string) => void

  constructor(lab: Lab, say: (text: string) => void) {
    this.#lab = lab
    this.#say = say
  }

  /** What the last run of a command printed; throws when it was not run. */
  out(where: string, command: string | RegExp): string {
    const isIt = (text: string) => (typeof command === 'string' ? text === command : command.test(text))
    const step = this.steps.findLast((s) => s.where === where && isIt(s.command))
    if (step === undefined) throw new Error(`"${command}" was not run on ${where}`)
    return step.out
  }

  /** All of it, in the order of the seeds. Stops at the first command that has no business failing. */
  async run(): Promise<void> {
    this.#setting()
    this.#title('The members of the cluster')
    await this.#allAreMembers()
    await this.#on(0, 'causeway cluster ls')
    this.#title('Networks before: nothing but the defaults')
    await this.#on(0, 'causeway network ls')
    this.#title('net1 made on the first host, net2 on the second: both hosts have both')
    await this.#on(0, 'causeway network create -d overlay net1')
    await this.#on(1, 'causeway network create -d overlay net2')
    await this.#bothHaveBoth()
    for (const i of [0, 1]) await this.#on(i, 'causeway network ls')
    this.#title('Two containers on each, one of each network')
    await this.#on(0, 'causeway run -itd --name net1c1 --net net1 busybox')
    await this.#on(0, 'causeway run -itd --name net2c1 --net net2 busybox')
    await this.#on(1, 'causeway run -itd --name net1c2 --net net1 busybox')
    await this.#on(1, 'causeway run -itd --name net2c2 --net net2 busybox')
    this.#title('One network, seen from one host: the containers of both')
    await this.#on(0, 'causeway network inspect net1')
    await this.#connectivity()
    await this.#look()
    await this.#capture()
    this.#title('The kernels of both hosts, compared with the store; the paths between them')
    await this.#on(0, 'causeway cluster verify')
  }

  /** Where everything stands, and how the engines were started. */
  #setting(): void {
    const { engines, etcd } = this.#lab
    this.#title('Hosts on subnets of their own, a router between them, a store')
    for (const { host } of engines) this.#say(`  ${host.name}  ${host.ip}/24 on eth0, behind the router`)
    this.#say(`\non each: causeway up --cluster-store ${etcd.storeUrl('/network')} --cluster-advertise eth0:${CLUSTER_PORT}`)
  }

  async #connectivity(): Promise<void> {
    this.#title('Within a network: by name, on both hosts')
    await this.#in(0, 'net1c1', 'ping -c 2 net1c2')
    await this.#in(1, 'net1c2', 'ping -c 2 net1c1')
    await this.#in(0, 'net2c1', 'ping -c 2 net2c2')
    await this.#in(1, 'net2c2', 'ping -c 2 net2c1')
    this.#title('Between the networks: neither by name nor by address')
    await this.#in(0, 'net1c1', 'ping -c 1 -W 1 net2c1', true)
    await this.#in(0, 'net1c1', `ping -c 2 -W 1 ${await this.#addressOf(0, 'net2c1')}`, true)
    await this.#in(0, 'net1c1', `ping -c 2 -W 1 ${await this.#addressOf(1, 'net2c2')}`, true)
  }

  async #look(): Promise<void> {
    this.#title('Inside net1c1: eth0 on net1, eth1 on docker_gwbridge')
    await this.#in(0, 'net1c1', 'ip route')
    await this.#in(0, 'net1c1', 'ip a')
    this.#title('On the first host: docker_gwbridge, and a namespace for each network')
    await this.#on(0, 'ip a')
    await this.#on(0, 'brctl show')
    await this.#on(0, 'cd /var/run && ln -s /var/run/causeway/netns netns')
    await this.#on(0, 'ip netns')
    await this.#on(0, 'causeway network ls')
    const place = `1-${(await this.#id(0, 'net1')).slice(0, 10)}`
    for (const command of ['ip a', 'ip route', 'brctl show', 'ip -d link', 'bridge fdb show dev vxlan0', 'arp -a'])
      await this.#on(0, `ip netns exec ${place} ${command}`)
    this.#title('Which interface leads to net1c1')
    const key = (await this.#quiet(0, `causeway inspect -f '{{.NetworkSettings.SandboxKey}}' net1c1`)).trim()
    await this.#on(0, `ip netns exec ${key.split('/').at(-1)} ethtool -S eth0`)
  }

  /** The router between the hosts sees VXLAN and nothing else. */
  async #capture(): Promise<void> {
    this.#title('On the wire between the hosts')
    const { router } = this.#lab.net
    const command = 'tcpdump -nn -c 4 -i h0 udp port 4789'
    const [file = '', ...args] = router.enter('tcpdump', '-l', '--immediate-mode', ...command.split(' ').slice(1))
    const child = spawn(file, args, { env: systemEnv })
    let out = ''
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk.toString()
    })
    const gone = new Promise<number>((resolve) => child.once('close', (code) => resolve(code ?? 1)))
    await new Promise<void>((resolve) => {
      child.stderr.once('data', () => resolve())
      child.once('close', () => resolve())
    })
    const timer = setTimeout(() => child.kill('SIGTERM'), 10_000)
    await this.#in(0, 'net1c1', 'ping -c 2 net1c2')
    const code = await gone
    clearTimeout(timer)
    this.#record({ where: 'router', command, out, code })
  }

  async #allAreMembers(): Promise<void> {
    const count = this.#lab.engines.length
    const until = Date.now() + 10_000
    while ((await this.#engine(0).api('GET', '/causeway/v1/cluster')).json.hosts.length < count) {
      if (Date.now() > until) throw new Error(`host1 does not know all ${count} hosts\n${this.#engine(0).log()}`)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }

  async #bothHaveBoth(): Promise<void> {
    const until = Date.now() + 5000
    for (const i of [0, 1])
      for (const name of ['net1', 'net2'])
        while ((await this.#engine(i).api('GET', `/networks/${name}`)).status !== 200) {
          if (Date.now() > until) throw new Error(`host${i + 1} does not see ${name}\n${this.#engine(i).log()}`)
          await new Promise((resolve) => setTimeout(resolve, 10))
        }
  }

  #engine(i: number) {
    const engine = this.#lab.engines[i]
    if (engine === undefined) throw new Error(`there is no host ${i + 1}`)
    return engine
  }

  async #id(i: number, network: string): Promise<string> {
    return (await this.#engine(i).api('GET', `/networks/${network}`)).json.Id
  }

  async #addressOf(i: number, container: string): Promise<string> {
    const { json } = await this.#engine(i).api('GET', `/containers/${container}/json`)
    return json.NetworkSettings.Networks[container.slice(0, 4)].IPAddress
  }

  /** `causeway` on a host is this checkout's. */
  #shell(i: number, command: string) {
    const { host } = this.#engine(i)
    const own = `causeway() { '${process.execPath}' '${new URL('../bin/causeway', import.meta.url).pathname}' "$@"; }`
    return host.sh(`${own}; ${command}`)
  }

  async #quiet(i: number, command: string): Promise<string> {
    return (await this.#shell(i, command)).out
  }

  async #on(i: number, command: string): Promise<void> {
    const { out, err, code } = await this.#shell(i, command)
    this.#record({ where: this.#engine(i).host.name, command, out: out + err, code })
    if (code !== 0) throw new Error(`"${command}" failed on host${i + 1}: ${err}${out}\n${this.#engine(i).log().slice(-3000)}`)
  }

  async #in(i: number, container: string, command: string, mayFail = false): Promise<void> {
    const { out, err, code } = await this.#engine(i).exec(container, ...command.split(' '))
    this.#record({ where: container, command, out: out + err, code })
    if ((code === 0) === mayFail) throw new Error(`"${command}" in ${container} ended with ${code}: ${out}${err}`)
  }

  #title(text: string): void {
    this.#say(`\n== ${text}\n`)
  }

  #record(step: Step): void {
    this.steps.push(step)
    this.#say(`${step.where}# ${step.command}\n${step.out}${step.out.endsWith('\n') || step.out === '' ? '' : '\n'}`)
  }
}

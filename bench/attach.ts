/**
 * Where the time of one attachment goes: the controller itself, in this process, in a namespace of its own, without API and container
 * runtime. Prints medians of each step and of the whole. Run: node --import tsx bench/attach.ts [rounds]
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { systemClock } from '../src/base/clock.ts'
import { SandboxKernel } from '../src/engine/sandbox-kernel.ts'
import type { SandboxRequest } from '../src/model/endpoint.ts'
import { createNetns, removeNetns } from '../src/sys/netns.ts'
import { startControllerLab } from '../testkit/controller-lab.ts'
import { isolate } from '../testkit/isolated.ts'

isolate()
const rounds = Number(process.argv[2] ?? 200)
const lab = await startControllerLab()
const { controller, dir } = lab
const { network } = await controller.createNetwork({ name: 'front', driver: 'bridge' })

const samples = new Map<string, number[]>()
function step<T>(name: string, run: () => T): T {
  const start = process.hrtime.bigint()
  const result = run()
  const list = samples.get(name) ?? []
  list.push(Number(process.hrtime.bigint() - start) / 1e6)
  samples.set(name, list)
  return result
}

/** The parts alone, as the controller puts them together. */
for (let i = 0; i < rounds; i++) {
  const key = `${dir}/netns/part${i}`
  step('namespace: unshare and bind mount', () => createNetns(key))
  const wanted = (fd: number) =>
    controller.networks.driverOf(network).endpointWanted(network, {
      id: `e${i}`,
      ifname: 'eth0',
      hostIfname: `vethb${i}`,
      mac: '02:00:00:00:00:02' as never,
      ipv4: '172.18.200.2' as never,
      ipv6: '',
      linkLocalIps: [],
      sysctls: [],
      netnsFd: fd,
      bridgeNetfilter: false,
      data: {},
    })
  step('enter: open the namespace and a socket in it', () =>
    SandboxKernel.with(key, (kernel) => {
      step('loopback up', () => kernel.loopbackUp())
      const w = wanted(kernel.ns.fd)
      step('veth pair, enslaved, up', () => {
        if (w.plug.kind === 'pair') controller.host.create(w.plug.link)
      })
      step('inside: sysctl, address, up', () => kernel.configure(w.inside))
    }),
  )
  removeNetns(key)
  await controller.host.release([`vethb${i}`])
}

const request = (i: number): SandboxRequest => ({
  ...lab.request(i, 'front'),
  ports: [{ proto: 'tcp', containerPort: 80, hostIp: '', hostPort: 20_000 + i, hostPortEnd: 20_000 + i }],
})
const whole: number[] = []
const gone: number[] = []
for (let i = 0; i < rounds; i++) {
  let start = process.hrtime.bigint()
  await controller.openSandbox(request(i))
  whole.push(Number(process.hrtime.bigint() - start) / 1e6)
  start = process.hrtime.bigint()
  await controller.closeSandbox(request(i).containerId)
  gone.push(Number(process.hrtime.bigint() - start) / 1e6)
  await systemClock.sleep(60)
}
samples.set('WHOLE: open a sandbox with one port (all above, port bound v4+v6, rules, names, files, records)', whole)
samples.set('WHOLE: close it', gone)

/** The same over raw netlink in C, measured here and now when there is a compiler. */
function rawNetlink(): string | undefined {
  const program = join(dir, 'raw-netlink')
  if (spawnSync('gcc', ['-O2', '-o', program, join(import.meta.dirname, 'raw-netlink.c')]).status !== 0) return undefined
  const { stdout } = spawnSync(program, [String(Math.min(rounds, 100)), '60'], { encoding: 'utf8', timeout: 60_000 })
  return stdout.trim().split(' ')[2]
}

const at = (list: number[], q: number) => [...list].sort((a, b) => a - b)[Math.floor((list.length - 1) * q)] ?? 0
console.log(`${rounds} rounds, ms${' '.repeat(82)}min   median      p90`)
for (const [name, list] of samples)
  console.log(`${name.padEnd(92)}${[0, 0.5, 0.9].map((q) => at(list, q).toFixed(3).padStart(9)).join('')}`)
const attach = at(samples.get('veth pair, enslaved, up') ?? [], 0.5) + at(samples.get('inside: sysctl, address, up') ?? [], 0.5)
const raw = rawNetlink()
console.log(
  `\nattachment proper (pair + inside): ${attach.toFixed(2)} ms; ${raw === undefined ? 'no C compiler to compare with' : `raw netlink in C: ${raw} ms: ${(attach / Number(raw)).toFixed(1)}x`}`,
)

await lab.close()
process.exit(0)

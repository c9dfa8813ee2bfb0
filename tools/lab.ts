/**
 * A lab of hosts on this machine: namespaces with an engine each, a router between their subnets, etcd as the cluster store.
 *
 *   npm run lab                        replays the experiment with net1 and net2 on two hosts and prints what every command prints
 *   npm run lab -- --shell             then stays, and says how to enter the hosts (--keep is the same)
 *   npm run lab -- --hosts 3 --etcd 3  more hosts, a store of three members
 *   npm run lab -- --no-replay --shell only the hosts
 *   npm run lab -- --hosts 3 --mesh 50 containers of one network, started at once: everyone pings everyone by name
 *   npm run lab -- --measure           TCP throughput and round-trip time over the overlay and below it
 */
import { execFileSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { isolate } from '../testkit/isolated.ts'
import { neighbourLimits } from '../testkit/lab.ts'

const { values } = parseArgs({
  options: {
    hosts: { type: 'string', default: '2' },
    etcd: { type: 'string', default: '1' },
    mtu: { type: 'string', default: '1500' },
    mesh: { type: 'string' },
    measure: { type: 'boolean', default: false },
    shell: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    'no-replay': { type: 'boolean', default: false },
  },
})
const limits = neighbourLimits()
if (limits.raise.length > 0) {
  execFileSync('sysctl', ['-qw', ...limits.raise])
  process.on('exit', () => execFileSync('sysctl', ['-qw', ...limits.restore]))
}
isolate()

const { startLab } = await import('../testkit/lab.ts')
const { Experiment } = await import('../testkit/lab-experiment.ts')
const { mesh } = await import('../testkit/lab-mesh.ts')
const { measureOverlay, median } = await import('../testkit/lab-measure.ts')

const say = (text: string) => process.stdout.write(`${text}\n`)
say(`starting ${values.hosts} hosts ...`)

async function networkFor(name: string): Promise<void> {
  await lab.engines[0]?.api('POST', '/networks/create', { Name: name, Driver: 'overlay' })
  for (const engine of lab.engines)
    for (const until = Date.now() + 5000; Date.now() < until; await new Promise((resolve) => setTimeout(resolve, 10)))
      if ((await engine.api('GET', `/networks/${name}`)).status === 200) break
}

async function runMesh(count: number): Promise<void> {
  await networkFor('mesh')
  say(`\n== ${count} containers of one network on ${lab.engines.length} hosts, started at once`)
  const { failures, pairs, startMs, pingMs } = await mesh(lab, 'mesh', count)
  say(`started in ${(startMs / 1000).toFixed(1)} s; ${pairs} pairs by name in ${(pingMs / 1000).toFixed(1)} s, ${failures.length} failures`)
  for (const failure of failures.slice(0, 20)) say(`  ${failure}`)
  if (failures.length > 0) code = 1
}

async function runMeasure(): Promise<void> {
  await networkFor('measured')
  await lab.engines[0]?.run('measured1', { networks: ['measured'] })
  await lab.engines[1]?.run('measured2', { networks: ['measured'] })
  const { underlay, overlay } = await measureOverlay(lab, 'measured', 'measured1', 'measured2')
  const row = (name: string, path: { tcp: number[]; rtt: number[] }) =>
    say(`${name.padEnd(10)} ${median(path.tcp).toFixed(2)} Gb/s   ${median(path.rtt).toFixed(1)} us`)
  say('\n== One TCP stream, and a packet there and back (medians)')
  row('underlay', underlay)
  row('overlay', overlay)
  const ratios = overlay.tcp.map((value, i) => value / (underlay.tcp[i] as number))
  say(`ratio      ${median(ratios).toFixed(2)} (${ratios.map((r) => r.toFixed(2)).join(' ')})`)
}

const lab = await startLab({ hosts: Number(values.hosts), etcdMembers: values.etcd === '3' ? 3 : 1, mtu: Number(values.mtu) })
let code = 0
try {
  if (!values['no-replay']) await new Experiment(lab, say).run()
  if (values.mesh !== undefined) await runMesh(Number(values.mesh))
  if (values.measure) await runMeasure()
  if (values.shell || values.keep) {
    say('\nThe hosts, until Ctrl-C:')
    for (const { host } of lab.engines)
      say(`  ${host.name}  ${host.ip}  nsenter -t ${host.pid} -n -m -u bash   (causeway is on its usual socket)`)
    await new Promise((resolve) => process.once('SIGINT', resolve))
  }
} catch (error) {
  say(`\n${error instanceof Error ? error.message : String(error)}`)
  code = 1
}
const left = await lab.close()
if (left.length > 0) {
  say(`left behind:\n${left.join('\n')}`)
  code = 1
}
process.exit(code)

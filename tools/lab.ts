/**
 * A lab of hosts on this machine: namespaces with an engine each, a router between their subnets, etcd as the cluster store.
 *
 *   npm run lab                        replays the experiment with net1 and net2 on two hosts and prints what every command prints
 *   npm run lab -- --shell             then stays, and says how to enter the hosts
 *   npm run lab -- --hosts 3 --etcd 3  more hosts, a store of three members
 *   npm run lab -- --no-replay --shell only the hosts
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
    shell: { type: 'boolean', default: false },
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

const say = (text: string) => process.stdout.write(`${text}\n`)
say(`starting ${values.hosts} hosts ...`)
const lab = await startLab({ hosts: Number(values.hosts), etcdMembers: values.etcd === '3' ? 3 : 1, mtu: Number(values.mtu) })
let code = 0
try {
  if (!values['no-replay']) await new Experiment(lab, say).run()
  if (values.shell) {
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

/** A process that hosts the container service and can be killed: makes what its arguments say, prints the ids, and waits. */
import type { ContainerRecord } from '../../src/containers/record.ts'
import type { HostConfig } from '../../src/containers/types.ts'
import { openLmdbStore } from '../../src/store/lmdb-store.ts'
import { openLab, shell } from './containers-lab.ts'

const dir = process.argv[2] as string
const lab = await openLab({ dir, store: openLmdbStore({ dir: `${dir}/store` }) })
const { containers } = lab
const make = async (script: string, host: HostConfig, name: string): Promise<string> => {
  const { id } = await containers.create(shell(script, {}, host, name))
  await containers.start(id)
  return id
}
const ids = {
  lives: await make('i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done', {}, 'lives'),
  ends: await make('sleep 1; exit 6', {}, 'ends'),
  always: await make('sleep 1; exit 0', { RestartPolicy: { Name: 'always' } }, 'always'),
  stopped: await make('sleep 100', { RestartPolicy: { Name: 'unless-stopped' } }, 'stopped'),
  member: '',
  half: '',
}
ids.member = await make('sleep 100', { NetworkMode: 'container:lives' }, 'member')
await containers.stop(ids.stopped, { timeoutSeconds: 0 })
const half = await containers.create(shell('sleep 100', {}, {}, 'half'))
ids.half = half.id
if (process.argv[3] === 'half-start') {
  // dies between `runc create` and the record: what a kill at the worst moment leaves
  const put = lab.store.put.bind(lab.store)
  lab.store.put = (key, value) => {
    const { id, state } = value as ContainerRecord
    if (id === half.id && state.status === 'running') process.kill(process.pid, 'SIGKILL')
    put(key, value)
  }
  process.stdout.write(`${JSON.stringify(ids)}\n`)
  await containers.start(half.id)
}
process.stdout.write(`${JSON.stringify(ids)}\n`)

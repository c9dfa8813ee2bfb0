import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import test, { after, before } from 'node:test'
import { NetError } from '../../src/base/errors.ts'
import { isolate } from '../../testkit/isolated.ts'
import { until } from '../../testkit/until.ts'
import { exists, type Lab, logOf, openLab, runToEnd, shell } from './containers-lab.ts'

isolate()

let lab: Lab
before(async () => {
  lab = await openLab()
})
after(async () => {
  await lab.close()
})

const never = () => AbortSignal.timeout(20_000)

test('a container runs, its output is in the log, its exit code is kept, and nothing of the run is left', async () => {
  const { id, exitCode, log } = await runToEnd(lab, shell('echo out; echo err >&2; exit 3'))
  assert.equal(exitCode, 3)
  assert.deepEqual(log.split('\n').sort(), ['', 'err', 'out'])
  assert.equal(await logOf(lab, id, { stderr: false }), 'out\n')
  const { state } = lab.containers.get(id)
  assert.equal(state.status, 'exited')
  assert.equal(state.pid, 0)
  assert.ok(Date.parse(state.finishedAt) >= Date.parse(state.startedAt))
  assert.deepEqual(readdirSync(`${lab.dir}/run/bundles`), [])
  assert.deepEqual(readdirSync(`${lab.dir}/run/exits`), [])
  assert.deepEqual(readdirSync(`${lab.dir}/run/runc`), [])
  assert.equal(exists(`/sys/fs/cgroup/memory/causeway/${id}`) || exists(`/sys/fs/cgroup/causeway/${id}`), false)
  assert.equal(lab.sandboxes.has(id), false)
})

test('events come in order and carry image, name, labels and the exit code', async () => {
  lab.events.length = 0
  const { id } = await runToEnd(lab, shell('exit 7', { Labels: { team: 'a' } }, {}, 'evented'))
  await lab.containers.remove(id, { force: false, volumes: false, link: false })
  assert.deepEqual(
    lab.events.map((e) => e.Action),
    ['create', 'start', 'die', 'destroy'],
  )
  const die = lab.events[2]?.Actor.Attributes
  assert.equal(die?.['exitCode'], '7')
  assert.equal(die?.['name'], 'evented')
  assert.equal(die?.['image'], 'busybox')
  assert.equal(die?.['team'], 'a')
})

test('start of a running container is not-modified, stop of a stopped one too', async () => {
  const { id } = await lab.containers.create(shell('sleep 100'))
  await lab.containers.start(id)
  await assert.rejects(lab.containers.start(id), { code: 'not-modified' })
  await lab.containers.kill(id)
  await assert.rejects(lab.containers.stop(id), { code: 'not-modified' })
  assert.equal(lab.containers.get(id).state.exitCode, 137)
})

test('stop sends the stop signal, and SIGKILL when that does not help in time', async () => {
  const { id } = await lab.containers.create(shell('trap "exit 9" USR1; while :; do sleep 0.05; done', { StopSignal: 'USR1' }))
  await lab.containers.start(id)
  await new Promise((resolve) => setTimeout(resolve, 150))
  await lab.containers.stop(id, { timeoutSeconds: 5 })
  assert.equal(lab.containers.get(id).state.exitCode, 9)
  const deaf = await lab.containers.create(shell('trap "" TERM; while :; do sleep 0.05; done'))
  await lab.containers.start(deaf.id)
  await new Promise((resolve) => setTimeout(resolve, 150))
  const began = Date.now()
  await lab.containers.stop(deaf.id, { timeoutSeconds: 1 })
  assert.ok(Date.now() - began >= 990)
  assert.equal(lab.containers.get(deaf.id).state.exitCode, 137)
})

test('a command that is missing gives 127, one that is not executable 126, and the container stays created', async () => {
  const missing = await lab.containers.create({ config: { Image: 'busybox', Cmd: ['nope'] }, hostConfig: {}, endpoints: {} })
  await assert.rejects(lab.containers.start(missing.id), (e: NetError) => {
    assert.equal(e.code, 'invalid')
    assert.match(e.message, /^failed to create task for container: .*exec: "nope": executable file not found in \$PATH/)
    return true
  })
  const { state } = lab.containers.get(missing.id)
  assert.equal(state.status, 'created')
  assert.equal(state.exitCode, 127)
  assert.match(state.error, /executable file not found/)
  const plain = await lab.containers.create({ config: { Image: 'busybox', Cmd: ['/etc/notes'] }, hostConfig: {}, endpoints: {} })
  await assert.rejects(lab.containers.start(plain.id), /permission denied/)
  assert.equal(lab.containers.get(plain.id).state.exitCode, 126)
  assert.deepEqual(readdirSync(`${lab.dir}/run/bundles`), [])
  assert.equal(lab.sandboxes.size, 0)
})

test('a network that cannot be made leaves the container created with exit code 128 and nothing behind', async () => {
  const { id } = await lab.containers.create(shell('true'))
  lab.failNetwork = new NetError('not-found', 'network gone not found')
  await assert.rejects(lab.containers.start(id), {
    code: 'not-found',
    message: 'failed to set up container networking: network gone not found',
  })
  lab.failNetwork = undefined
  assert.deepEqual([lab.containers.get(id).state.status, lab.containers.get(id).state.exitCode], ['created', 128])
  await lab.containers.start(id)
})

test('pause stops the processes and unpause lets them go on; a paused container refuses exec, start and attach', async () => {
  const { id } = await lab.containers.create(shell('i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done'))
  await lab.containers.start(id)
  await lab.containers.pause(id)
  assert.equal(lab.containers.get(id).state.status, 'paused')
  const before = await logOf(lab, id)
  await new Promise((resolve) => setTimeout(resolve, 200))
  assert.equal(await logOf(lab, id), before)
  await assert.rejects(lab.containers.start(id), /cannot start a paused container, try unpause instead/)
  await assert.rejects(lab.containers.execCreate(id, { Cmd: ['true'] }), /is paused, unpause the container before exec/)
  await assert.rejects(lab.containers.remove(id, { force: false, volumes: false, link: false }), /paused and must be unpaused first/)
  await lab.containers.unpause(id)
  await until('more output', async () => (await logOf(lab, id)).length > before.length)
  await lab.containers.pause(id)
  await lab.containers.remove(id, { force: true, volumes: false, link: false })
  assert.equal(lab.containers.find(id), undefined)
})

test('wait: not-running answers at once for a stopped one, next-exit waits for a run, removed for the removal', async () => {
  const { id } = await lab.containers.create(shell('exit 5'))
  assert.deepEqual(await lab.containers.wait(id, 'not-running', never()), { exitCode: 0 })
  const next = lab.containers.wait(id, 'next-exit', never())
  const removed = lab.containers.wait(id, 'removed', never())
  await lab.containers.start(id)
  assert.deepEqual(await next, { exitCode: 5 })
  await lab.containers.remove(id, { force: false, volumes: false, link: false })
  assert.deepEqual(await removed, { exitCode: 5 })
})

test('auto-remove takes the container away when it ends', async () => {
  const { id } = await lab.containers.create(shell('exit 4', {}, { AutoRemove: true }))
  const removed = lab.containers.wait(id, 'removed', never())
  await lab.containers.start(id)
  assert.equal((await removed).exitCode, 4)
  assert.equal(lab.containers.find(id), undefined)
  assert.equal(exists(`${lab.dir}/root/containers/${id}`), false)
})

test('names: taken, invalid and ambiguous references are refused with the texts that clients know', async () => {
  const { id } = await lab.containers.create(shell('true', {}, {}, 'first'))
  await assert.rejects(lab.containers.create(shell('true', {}, {}, 'first')), {
    code: 'conflict',
    message: `Conflict. The container name "/first" is already in use by container "${id}". You have to remove (or rename) that container to be able to reuse that name.`,
  })
  await assert.rejects(lab.containers.create(shell('true', {}, {}, '-x')), { code: 'invalid' })
  assert.throws(() => lab.containers.get('nobody'), { code: 'not-found', message: 'No such container: nobody' })
  await lab.containers.rename('first', 'second')
  assert.equal(lab.containers.get('second').id, id)
  assert.equal(lab.containers.find('first'), undefined)
  assert.equal(lab.containers.get(id.slice(0, 12)).name, 'second')
})

test('restart policy: on-failure tries again as often as asked, and the counter says so', async () => {
  const { id } = await lab.containers.create(shell('echo run; exit 2', {}, { RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 2 } }))
  const ended = lab.containers.wait(id, 'next-exit', never())
  await lab.containers.start(id)
  assert.equal((await ended).exitCode, 2) // the first exit ends a wait, whatever the policy does then
  await until('the last try', () => lab.containers.get(id).state.status === 'exited')
  assert.equal(await logOf(lab, id), 'run\nrun\nrun\n')
  assert.equal(lab.containers.get(id).restartCount, 2)
})

test('restart policy: a stopped container stays stopped, also while it waits for its restart', async () => {
  const { id } = await lab.containers.create(shell('sleep 0.05; exit 1', {}, { RestartPolicy: { Name: 'always' } }))
  await lab.containers.start(id)
  await until('restarts', () => lab.containers.get(id).restartCount >= 2)
  await until('waiting', () => lab.containers.get(id).state.status === 'restarting')
  await lab.containers.stop(id)
  const count = lab.containers.get(id).restartCount
  await new Promise((resolve) => setTimeout(resolve, 1000))
  assert.deepEqual([lab.containers.get(id).state.status, lab.containers.get(id).restartCount], ['exited', count])
})

test('memory: a container over its limit is killed and says so', async () => {
  const { id, exitCode } = await runToEnd(lab, shell('dd if=/dev/zero of=/dev/null bs=64M count=1', {}, { Memory: 16 * 1024 * 1024 }))
  assert.equal(exitCode, 137)
  assert.equal(lab.containers.get(id).state.oomKilled, true)
})

test('limits: cgroup files show what was asked, and update changes them while it runs', async () => {
  const { id } = await lab.containers.create(shell('sleep 100', {}, { Memory: 64 * 1024 * 1024, NanoCpus: 5e8, PidsLimit: 20 }))
  await lab.containers.start(id)
  const v1 = exists('/sys/fs/cgroup/memory')
  const read = (controller: string, file: string, file2: string) =>
    readFileSync(v1 ? `/sys/fs/cgroup/${controller}/causeway/${id}/${file}` : `/sys/fs/cgroup/causeway/${id}/${file2}`, 'utf8').trim()
  assert.equal(read('memory', 'memory.limit_in_bytes', 'memory.max'), String(64 * 1024 * 1024))
  assert.equal(read('pids', 'pids.max', 'pids.max'), '20')
  assert.match(read('cpu', 'cpu.cfs_quota_us', 'cpu.max'), /^50000/)
  await lab.containers.update(id, { Memory: 128 * 1024 * 1024, PidsLimit: 30, RestartPolicy: { Name: 'always' } })
  assert.equal(read('memory', 'memory.limit_in_bytes', 'memory.max'), String(128 * 1024 * 1024))
  assert.equal(read('pids', 'pids.max', 'pids.max'), '30')
  const stats = (await lab.containers.stats(id)) as { memory_stats: { limit: number }; pids_stats: { current: number } }
  assert.equal(stats.memory_stats.limit, 128 * 1024 * 1024)
  assert.equal(stats.pids_stats.current, 1)
  const top = await lab.containers.top(id, '')
  assert.deepEqual(top.titles, ['UID', 'PID', 'PPID', 'C', 'STIME', 'TTY', 'TIME', 'CMD'])
  assert.deepEqual(
    top.processes.map((p) => p.at(-1)),
    ['sleep 100'],
  )
})

test('health: the test command decides between healthy and unhealthy, and both are events', async () => {
  const healthcheck = { Test: ['CMD-SHELL', 'test -e /tmp/well'], Interval: 5e7, Timeout: 5e9, Retries: 2 }
  const { id } = await lab.containers.create(shell('sleep 1; touch /tmp/well; sleep 100', { Healthcheck: healthcheck }))
  await lab.containers.start(id)
  assert.equal(lab.containers.get(id).state.health?.status, 'starting')
  await until('unhealthy', () => lab.containers.get(id).state.health?.status === 'unhealthy')
  await until('healthy', () => lab.containers.get(id).state.health?.status === 'healthy')
  assert.equal(lab.containers.get(id).state.health?.failingStreak, 0)
  await lab.containers.kill(id)
  const statuses = lab.events.filter((e) => e.Actor.ID === id && e.Action.startsWith('health_status')).map((e) => e.Action)
  assert.deepEqual(statuses.slice(0, 2), ['health_status: unhealthy', 'health_status: healthy'])
})

test('a monitor that is killed takes its container down with a known state instead of leaving it running unseen', async () => {
  const { id } = await lab.containers.create(shell('sleep 100'))
  const ended = lab.containers.wait(id, 'next-exit', never())
  await lab.containers.start(id)
  const pid = Number(readFileSync(`${lab.dir}/run/bundles/${id}/conmon.pid`, 'utf8'))
  const init = lab.containers.get(id).state.pid
  process.kill(pid, 'SIGKILL')
  assert.equal((await ended).exitCode, 255)
  assert.equal(exists(`/proc/${init}/ns/net`), false)
})

/** `max-size` with `max-file`, as `docker run --log-opt` sets them: what is kept, what `docker logs` shows, and what an engine that dies changes. */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { until } from '../../testkit/until.ts'

isolate()
const lab = await startEngineLab()
after(async () => assert.deepEqual(await lab.close(), []))

const OPTIONS = ['--log-opt', 'max-size=10k', '--log-opt', 'max-file=3']

async function logFilesOf(name: string): Promise<string[]> {
  const path: string = (await lab.api('GET', `/containers/${name}/json`)).json.LogPath
  return readdirSync(path.slice(0, path.lastIndexOf('/')))
    .filter((file) => /^container\.log(\.\d+)?$/.test(file))
    .sort()
}

const numbers = (out: string) =>
  out
    .trim()
    .split('\n')
    .map((line) => Number(line.split(' ')[1]))

/** Consecutive and up to `last`. */
function assertUnbroken(out: string, last: number): void {
  const seen = numbers(out)
  assert.deepEqual(
    seen,
    Array.from({ length: seen.length }, (_, i) => last - seen.length + 1 + i),
  )
}

test('three files are kept, and logs, tail and follow read across them', async () => {
  // about 30 kB a second: a file is full in a third of a second
  const script = 'i=0; while [ $i -lt 900 ]; do i=$((i+1)); echo "line $i of a log that is cut"; [ $((i % 9)) = 0 ] && sleep 0.02; done'
  assert.equal((await lab.docker('run', '-d', '--name', 'writer', ...OPTIONS, 'busybox', 'sh', '-c', script)).code, 0)
  const followed = lab.docker('logs', '-f', 'writer')
  await lab.docker('wait', 'writer')
  assertUnbroken((await followed).out, 900)
  assert.equal(numbers((await followed).out)[0], 1)
  const files = await logFilesOf('writer')
  assert.ok(files.includes('container.log') && files.length >= 2 && files.length <= 3, files.join(' '))
  const kept = (await lab.docker('logs', 'writer')).out
  assertUnbroken(kept, 900)
  assert.ok(numbers(kept).length >= 300 && numbers(kept).length < 900, `${numbers(kept).length} lines`)
  assert.deepEqual(
    numbers((await lab.docker('logs', '-n', '280', 'writer')).out),
    Array.from({ length: 280 }, (_, i) => 621 + i),
  )
})

test('an engine that was killed and comes back loses no line and keeps its bounds', async () => {
  const script =
    'trap "exit 0" TERM; i=0; while read n; do while [ $i -lt $n ]; do i=$((i+1)); echo "line $i of a log that is cut"; done; done'
  const create = await lab.docker(
    'run',
    '-di',
    '--name',
    'steady',
    ...OPTIONS,
    'busybox',
    'sh',
    '-c',
    `mkfifo /f; exec 3<>/f; ${script} <&3`,
  )
  assert.equal(create.code, 0, create.err)
  const upTo = (n: number) => lab.exec('steady', 'sh', '-c', `echo ${n} > /f`)
  const last = async () => numbers((await lab.docker('logs', '-n', '1', 'steady')).out)[0]
  await until('the pipe', async () => (await upTo(200)).code === 0 && (await last()) === 200, 10_000)
  await until('a rotation', async () => (await logFilesOf('steady')).includes('container.log.1'), 10_000)
  // the order is given before the engine dies and carried out without it
  const pid: number = (await lab.api('GET', '/containers/steady/json')).json.State.Pid
  await lab.sh(`kill -STOP ${lab.pid()}`)
  await lab.sh(`echo 700 > /proc/${pid}/root/f`)
  await lab.kill9()
  await lab.start()
  await until('the lines', async () => (await last()) === 700, 10_000)
  const kept = (await lab.docker('logs', 'steady')).out
  assertUnbroken(kept, 700)
  assert.ok(numbers(kept).length >= 500, `${numbers(kept).length} lines`)
  await until('a rotation after the restart', async () => (await upTo(1100)).code === 0 && (await last()) === 1100, 10_000)
  await until('the bound', async () => (await logFilesOf('steady')).length <= 3, 10_000)
  assertUnbroken((await lab.docker('logs', 'steady')).out, 1100)
})

test('compress=true: full files are gzip, and docker logs and its followers do not notice', async () => {
  const script =
    'i=0; while [ $i -lt 900 ]; do i=$((i+1)); echo "line $i of a log that is cut"; [ $((i % 9)) = 0 ] && sleep 0.02; done; sleep 2'
  const started = await lab.docker('run', '-d', '--name', 'packed', ...OPTIONS, '--log-opt', 'compress=true', 'busybox', 'sh', '-c', script)
  assert.equal(started.code, 0, started.err)
  const followed = lab.docker('logs', '-f', 'packed')
  await lab.docker('wait', 'packed')
  assertUnbroken((await followed).out, 900)
  assert.equal(numbers((await followed).out)[0], 1)
  const path: string = (await lab.api('GET', '/containers/packed/json')).json.LogPath
  const files = readdirSync(path.slice(0, path.lastIndexOf('/'))).filter((file) => file.startsWith('container.log'))
  assert.ok(files.includes('container.log.1.gz') && !files.includes('container.log.1'), files.join(' '))
  const kept = (await lab.docker('logs', 'packed')).out
  assertUnbroken(kept, 900)
  assert.ok(numbers(kept).length >= 300, `${numbers(kept).length} lines`)
  assert.deepEqual(
    numbers((await lab.docker('logs', '-n', '280', 'packed')).out),
    Array.from({ length: 280 }, (_, i) => 621 + i),
  )
})

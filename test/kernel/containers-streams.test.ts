import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import test, { after, before } from 'node:test'
import type { AttachSession } from '../../src/containers/types.ts'
import { isolate } from '../../testkit/isolated.ts'
import { until } from '../../testkit/until.ts'
import { type Lab, logOf, openLab, runToEnd, shell } from './containers-lab.ts'

isolate()

let lab: Lab
before(async () => {
  lab = await openLab()
})
after(async () => {
  await lab.close()
})

const ALL = { stdin: true, stdout: true, stderr: true, stream: true, logs: false }

interface Seen {
  out: string
  err: string
  ended: boolean
}

function watch(session: AttachSession): Seen {
  const seen: Seen = { out: '', err: '', ended: false }
  session.output.on('data', (chunk: { stream: string; data: Buffer }) => {
    if (chunk.stream === 'stderr') seen.err += chunk.data
    else seen.out += chunk.data
  })
  session.output.on('end', () => {
    seen.ended = true
  })
  return seen
}

test('attach before start sees everything, stdout and stderr apart, and ends with the container', async () => {
  const { id } = await lab.containers.create(shell('echo first; echo oops >&2; exit 0'))
  const seen = watch(await lab.containers.attach(id, ALL))
  await lab.containers.start(id)
  await until('end of output', () => seen.ended)
  assert.deepEqual(seen, { out: 'first\n', err: 'oops\n', ended: true })
})

test('stdin of a StdinOnce container: what is typed arrives, half-close is end of input, output still comes', async () => {
  const { id } = await lab.containers.create(shell('wc -c; echo done', { OpenStdin: true, StdinOnce: true }))
  const session = await lab.containers.attach(id, ALL)
  const seen = watch(session)
  await lab.containers.start(id)
  session.stdin.write(Buffer.alloc(300_000, 'x'))
  session.stdin.end(Buffer.from('tail'))
  await until('end of output', () => seen.ended)
  assert.equal(seen.out, '300004\ndone\n')
})

test('stdin stays open when a client leaves a container without StdinOnce, and the next client goes on', async () => {
  const { id } = await lab.containers.create(shell('while read line; do echo "got $line"; done; echo over', { OpenStdin: true }))
  await lab.containers.start(id)
  const one = await lab.containers.attach(id, ALL)
  const seenOne = watch(one)
  one.stdin.end('one\n')
  await until('first answer', () => seenOne.out === 'got one\n')
  one.close()
  const two = await lab.containers.attach(id, ALL)
  const seenTwo = watch(two)
  two.stdin.write('two\n')
  await until('second answer', () => seenTwo.out === 'got two\n')
  assert.equal(lab.containers.get(id).state.status, 'running')
  await lab.containers.kill(id)
  await until('end', () => seenTwo.ended)
})

test('two clients see the same output, and logs replays what was before', async () => {
  const { id } = await lab.containers.create(shell('echo before; while read line; do echo "got $line"; done', { OpenStdin: true }))
  await lab.containers.start(id)
  await until('log', async () => (await logOf(lab, id)) === 'before\n')
  const one = await lab.containers.attach(id, ALL)
  const two = await lab.containers.attach(id, { ...ALL, logs: true })
  const [seenOne, seenTwo] = [watch(one), watch(two)]
  one.stdin.write('hello\n')
  await until('output', () => seenOne.out !== '' && seenTwo.out.includes('hello'))
  assert.equal(seenOne.out, 'got hello\n')
  assert.equal(seenTwo.out, 'before\ngot hello\n')
  await lab.containers.kill(id)
})

test('tty: one stream with carriage returns, window size reaches the process', async () => {
  const { id } = await lab.containers.create(
    shell('trap "stty size" WINCH; stty size; while :; do read line; done', { Tty: true, OpenStdin: true }),
  )
  const session = await lab.containers.attach(id, ALL)
  assert.equal(session.tty, true)
  const seen = watch(session)
  await lab.containers.start(id)
  await until('first size', () => seen.out.includes('\r\n'))
  await lab.containers.resize(id, 33, 77)
  session.stdin.write('\n')
  await until('new size', () => seen.out.includes('33 77'))
  assert.equal(seen.err, '')
  await lab.containers.kill(id)
  await until('end', () => seen.ended)
})

test('input that comes before the start, and its end, reach the process', async () => {
  for (const text of ['', 'first\n', 'x'.repeat(300_000)]) {
    const { id } = await lab.containers.create(shell('cat', { OpenStdin: true, StdinOnce: true }))
    const session = await lab.containers.attach(id, ALL)
    const seen = watch(session)
    session.stdin.end(text)
    await new Promise((resolve) => setTimeout(resolve, 50))
    await lab.containers.start(id)
    await until('end of cat', () => seen.ended)
    assert.equal(seen.out, text)
  }
})

test('detach keys end the client and leave the container running', async () => {
  for (const [keys, typed] of [
    [undefined, '\x10\x11'],
    ['ctrl-a,x', '\x01x'],
  ] as const) {
    const { id } = await lab.containers.create(shell('cat', { Tty: true, OpenStdin: true }))
    await lab.containers.start(id)
    const session = await lab.containers.attach(id, { ...ALL, ...(keys === undefined ? {} : { detachKeys: keys }) })
    const seen = watch(session)
    session.stdin.write('hi\n')
    await until('echo', () => seen.out.includes('hi'))
    session.stdin.write(typed)
    await until('detach', () => seen.ended)
    assert.equal(lab.containers.get(id).state.status, 'running')
    assert.ok(lab.events.some((e) => e.Action === 'detach' && e.Actor.ID === id))
    await lab.containers.kill(id)
  }
})

test('exec: output, exit code, user, environment and working directory', async () => {
  const { id } = await lab.containers.create(shell('sleep 100', { Env: ['A=container'] }))
  await lab.containers.start(id)
  const execId = await lab.containers.execCreate(id, {
    Cmd: ['sh', '-c', 'id -un; id -Gn; pwd; echo $A $B; echo bad >&2; exit 5'],
    AttachStdout: true,
    AttachStderr: true,
    User: 'web',
    Env: ['B=exec'],
    WorkingDir: '/data',
  })
  assert.equal(lab.containers.execInspect(execId).exitCode, null)
  const session = await lab.containers.execStart(execId, { detach: false })
  const seen = watch(session as AttachSession)
  await until('end of exec', () => seen.ended)
  assert.equal(seen.out, 'web\nweb log\n/data\ncontainer exec\n')
  assert.equal(seen.err, 'bad\n')
  assert.deepEqual([lab.containers.execInspect(execId).running, lab.containers.execInspect(execId).exitCode], [false, 5])
  await assert.rejects(lab.containers.execStart(execId, { detach: false }), { code: 'conflict' })
  assert.deepEqual(
    lab.events.filter((e) => e.Actor.ID === id && e.Action.startsWith('exec')).map((e) => e.Action.split(':')[0]),
    ['exec_create', 'exec_start', 'exec_die'],
  )
})

test('exec: stdin with half-close, tty, and detached', async () => {
  const { id } = await lab.containers.create(shell('sleep 100'))
  await lab.containers.start(id)
  const piped = await lab.containers.execCreate(id, { Cmd: ['wc', '-c'], AttachStdin: true, AttachStdout: true })
  const session = (await lab.containers.execStart(piped, { detach: false })) as AttachSession
  const seen = watch(session)
  session.stdin.end('12345')
  await until('end', () => seen.ended)
  assert.equal(seen.out.trim(), '5')

  const tty = await lab.containers.execCreate(id, {
    Cmd: ['sh', '-c', 'stty size; test -t 0 && echo terminal'],
    Tty: true,
    AttachStdin: true,
    AttachStdout: true,
  })
  const seenTty = watch((await lab.containers.execStart(tty, { detach: false, consoleSize: [40, 100] })) as AttachSession)
  await until('end of tty', () => seenTty.ended)
  assert.equal(seenTty.out, '40 100\r\nterminal\r\n')

  const detached = await lab.containers.execCreate(id, { Cmd: ['touch', '/tmp/made'] })
  assert.equal(await lab.containers.execStart(detached, { detach: true }), undefined)
  await until('detached exec', () => lab.containers.execInspect(detached).exitCode === 0)
})

test('exec: a missing command and a stopped container are refused with the texts that clients know', async () => {
  const { id } = await lab.containers.create(shell('sleep 100'))
  await assert.rejects(lab.containers.execCreate(id, { Cmd: ['true'] }), { code: 'conflict', message: `container ${id} is not running` })
  await lab.containers.start(id)
  const missing = await lab.containers.execCreate(id, { Cmd: ['nope'], AttachStdout: true })
  await assert.rejects(
    lab.containers.execStart(missing, { detach: false }),
    /OCI runtime exec failed: .*"nope": executable file not found in \$PATH/,
  )
  assert.equal(lab.containers.execInspect(missing).exitCode, 127)
  assert.throws(() => lab.containers.execInspect('0'.repeat(64)), { code: 'not-found' })
})

test('logs: tail, since, timestamps and partial lines', async () => {
  const { id } = await runToEnd(lab, shell('seq 1 20000; printf "no newline"'))
  const read = async (options: object) => {
    let text = ''
    for await (const chunk of lab.containers.logs(
      id,
      { stdout: true, stderr: true, follow: false, timestamps: false, ...options },
      new AbortController().signal,
    ))
      text += chunk.data
    return text
  }
  const all = await read({})
  assert.equal(all.split('\n').length, 20001)
  assert.ok(all.endsWith('20000\nno newline'))
  assert.equal(await read({ tail: 0 }), all.slice(all.length - 'no newline'.length))
  assert.equal(await read({ tail: 2 }), '19999\n20000\nno newline')
  assert.equal((await read({ tail: 50_000 })).length, all.length)
  assert.match((await read({ tail: 1, timestamps: true })).split('\n')[0] ?? '', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z 20000$/)
  assert.equal(await read({ since: Date.now() / 1000 + 10 }), '')
  assert.equal(await read({ until: Date.now() / 1000 - 100 }), '')
})

test('logs: follow delivers as it comes and ends with the container', async () => {
  const { id } = await lab.containers.create(shell('for i in 1 2 3; do echo $i; sleep 0.1; done'))
  await lab.containers.start(id)
  let text = ''
  for await (const chunk of lab.containers.logs(
    id,
    { stdout: true, stderr: true, follow: true, timestamps: false },
    AbortSignal.timeout(10_000),
  ))
    text += chunk.data
  assert.equal(text, '1\n2\n3\n')
})

test('logs: a bounded log never grows past its bound and following it goes on', async () => {
  const { id } = await lab.containers.create(
    shell(
      'i=0; while test $i -lt 3000; do i=$((i+1)); echo "line $i of a log that is cut"; done; sleep 0.3; echo last',
      {},
      { LogConfig: { Type: 'json-file', Config: { 'max-size': '20k' } } },
    ),
  )
  await lab.containers.start(id)
  let text = ''
  for await (const chunk of lab.containers.logs(
    id,
    { stdout: true, stderr: true, follow: true, timestamps: false },
    AbortSignal.timeout(15_000),
  ))
    text += chunk.data
  assert.ok(text.endsWith('last\n'))
  const size = Number(spawnSync('stat', ['-c', '%s', lab.containers.get(id).logPath]).stdout.toString())
  assert.ok(size <= 20 * 1024, `${size}`)
})

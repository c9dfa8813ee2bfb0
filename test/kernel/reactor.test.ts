import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { AF_UNIX, check, close, pidfdOpen, raw, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_SEQPACKET } from '../../src/sys/libc.ts'
import { Reactor } from '../../src/sys/reactor.ts'
import { until } from '../../testkit/until.ts'

// The reactor keeps no process alive, so a test that waits for it has to.
const alive = setInterval(() => {}, 1000)
let reactor: Reactor
before(async () => {
  reactor = await Reactor.start()
})
after(async () => {
  await reactor.close()
  clearInterval(alive)
})

function socketPair(type = SOCK_SEQPACKET): [number, number] {
  const pair = new Int32Array(2)
  check(raw.socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 'make', 'socket pair')
  return [pair[0] as number, pair[1] as number]
}

function send(fd: number, text: string): number {
  const bytes = Buffer.from(text)
  return Number(raw.send(fd, bytes, bytes.length, 0))
}

const openFds = (): number => readdirSync('/proc/self/fd').length

test('packets of a SEQPACKET socket arrive whole and in order, then its end once', async () => {
  const [ours, theirs] = socketPair()
  const got: string[] = []
  const ends: string[] = []
  reactor.onPackets(
    ours,
    (packets) => got.push(...packets.map((p) => Buffer.from(p).toString())),
    (why) => ends.push(why),
  )
  const sent = Array.from({ length: 50 }, (_, i) => `packet ${i}`)
  for (const text of sent) assert.equal(send(theirs, text), text.length)
  close(theirs)
  await until('the end of the stream', () => ends.length > 0)
  assert.deepEqual(got, sent)
  assert.deepEqual(ends, ['eof'])
  close(ours)
})

test('the caller may close its own descriptor at once: the reactor reads a duplicate', async () => {
  const [ours, theirs] = socketPair()
  const got: string[] = []
  const subscription = reactor.onPackets(
    ours,
    (packets) => got.push(...packets.map((p) => Buffer.from(p).toString())),
    () => {},
  )
  close(ours)
  send(theirs, 'still here')
  await until('a packet', () => got.length > 0)
  subscription.close()
  close(theirs)
  assert.deepEqual(got, ['still here'])
})

test('a subscription made while the thread sleeps acts at once, not after its turn', async () => {
  await sleep(20)
  const [ours, theirs] = socketPair()
  send(theirs, 'x')
  const start = performance.now()
  await new Promise<void>((resolve) => {
    reactor.onPackets(
      ours,
      () => resolve(),
      () => {},
    )
  })
  const took = performance.now() - start
  assert.ok(took < 1500, `took ${took} ms`)
  close(ours)
  close(theirs)
})

test('a paused consumer gets nothing and stops the sender; resumed, it gets everything in order', async () => {
  const [ours, theirs] = socketPair()
  const got: number[] = []
  const subscription = reactor.onPackets(
    ours,
    (packets) => got.push(...packets.map((p) => Number(Buffer.from(p).toString().split(' ')[0]))),
    () => {},
  )
  subscription.pause()
  let sent = 0
  const filler = 'x'.repeat(8000)
  for (let refusals = 0; refusals < 20; ) {
    if (send(theirs, `${sent} ${filler}`) > 0) sent++
    else {
      refusals++
      await sleep(10)
    }
    assert.ok(sent < 5000, 'the sender was never stopped')
  }
  assert.deepEqual(got, [])
  subscription.resume()
  await until('every packet', () => got.length === sent)
  assert.deepEqual(got, [...got.keys()])
  assert.ok(send(theirs, `${sent} more`) > 0)
  await until('the packet that followed', () => got.length === sent + 1)
  subscription.close()
  close(ours)
  close(theirs)
})

test('a pidfd tells when the process has ended', async () => {
  const child = spawn('sleep', ['0.1'])
  const fd = pidfdOpen(child.pid as number)
  const start = performance.now()
  await new Promise<void>((resolve) => {
    const subscription = reactor.onReadable(fd, () => {
      subscription.close()
      resolve()
    })
  })
  assert.ok(performance.now() - start < 1000)
  close(fd)
})

test('readable descriptors are reported again until they are emptied', async () => {
  const [ours, theirs] = socketPair()
  send(theirs, 'a')
  send(theirs, 'b')
  let calls = 0
  const one = new Uint8Array(16)
  const subscription = reactor.onReadable(ours, () => {
    calls++
    raw.recv(ours, one, one.length, 0)
  })
  await until('two reads', () => calls === 2)
  await sleep(30)
  assert.equal(calls, 2)
  send(theirs, 'c')
  await until('the third read', () => calls === 3)
  subscription.close()
  send(theirs, 'd')
  await sleep(30)
  assert.equal(calls, 3)
  close(ours)
  close(theirs)
})

test('a full socket is reported writable once, when the reader has made room', async () => {
  const [ours, theirs] = socketPair()
  while (send(ours, 'x'.repeat(4000)) > 0) {
    // until the buffer is full
  }
  let calls = 0
  reactor.onWritableOnce(ours, () => calls++)
  await sleep(40)
  assert.equal(calls, 0)
  const buffer = new Uint8Array(8192)
  while (Number(raw.recv(theirs, buffer, buffer.length, 0)) > 0) {
    // empty it
  }
  await until('the callback', () => calls === 1)
  await sleep(20)
  assert.equal(calls, 1)
  close(ours)
  close(theirs)
})

test('pipes are read until their end', async () => {
  const child = spawnSync('sh', ['-c', 'mkfifo /tmp/causeway-fifo-$$ && echo /tmp/causeway-fifo-$$'], { encoding: 'utf8' })
  const path = child.stdout.trim()
  const writer = spawn('sh', ['-c', `printf hello >${path}; rm ${path}`])
  const fd = check(raw.open(path, 0, 0), 'open', path)
  let text = ''
  const why = await new Promise((resolve) => {
    reactor.onPackets(fd, (chunks) => (text += Buffer.concat(chunks).toString()), resolve)
  })
  assert.equal(text, 'hello')
  assert.equal(why, 'eof')
  close(fd)
  writer.unref()
})

test('a thousand subscriptions come and go without leaving a descriptor', async () => {
  await sleep(30)
  const before = openFds()
  for (let i = 0; i < 1000; i++) {
    const [ours, theirs] = socketPair()
    const subscription = reactor.onPackets(
      ours,
      () => {},
      () => assert.fail('closed subscriptions stay silent'),
    )
    if (i % 2 === 0) subscription.close()
    close(ours)
    close(theirs)
    if (i % 2 === 1) subscription.close()
  }
  await until('the descriptors are closed', () => openFds() <= before)
})

test('close ends the thread within 300 ms and leaves no descriptor', async () => {
  await sleep(30)
  const before = openFds()
  const other = await Reactor.start()
  const [ours, theirs] = socketPair()
  other.onPackets(
    ours,
    () => {},
    () => assert.fail('closing the reactor is no end of the packets'),
  )
  const start = performance.now()
  await other.close()
  assert.ok(performance.now() - start < 1500)
  close(ours)
  close(theirs)
  await until('the descriptors are closed', () => openFds() <= before)
  assert.throws(() => other.onReadable(0, () => {}), /the reactor is closed/)
})

test('a process with a reactor and nothing else to do ends by itself, and soon', () => {
  const module = fileURLToPath(new URL('../../src/sys/reactor.ts', import.meta.url))
  const program = `const { Reactor } = await import(${JSON.stringify(module)}); await Reactor.start(); console.log(performance.now())`
  const run = spawnSync(
    process.execPath,
    [...process.execArgv.filter((arg) => !arg.startsWith('--test')), '--input-type=module', '-e', program],
    {
      encoding: 'utf8',
      timeout: 20_000,
    },
  )
  assert.equal(run.status, 0, run.stderr)
  assert.match(run.stdout, /^\d/)
})

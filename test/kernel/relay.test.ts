/** The userland relays of published ports: what the kernel's DNAT cannot carry. Clients and servers are programs of the system. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseIp } from '../../src/base/address.ts'
import { systemClock } from '../../src/base/clock.ts'
import type { Clock } from '../../src/base/ports.ts'
import { type Relay, relayTcp, relayUdp } from '../../src/engine/relay.ts'
import { holdPort } from '../../src/sys/port-hold.ts'
import { Reactor } from '../../src/sys/reactor.ts'

const TARGET = { ip: parseIp('127.0.0.1'), port: 9000 }
const CLIENT = `causeway-relay-${process.pid}`
/** Addresses of the host; the kernel answers from the first by itself, because it is the one nearest to the client's. */
const HOST = ['fd00:77::1', 'fd00:78::1']
const alive = setInterval(() => {}, 1000)
const children: ChildProcess[] = []
let reactor: Reactor

/** Answers each datagram, or each connection's input, with who asked and what, in capitals. */
const SERVER = `
import socket, threading
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('127.0.0.1', 9000))
t = socket.socket(); t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); t.bind(('127.0.0.1', 9000)); t.listen(16)
def udp():
    while True:
        data, peer = u.recvfrom(65535)
        u.sendto(data.upper(), peer)
def one(c):
    got = b''
    while True:
        d = c.recv(65536)
        if not d: break
        got += d
    c.sendall(got.upper()); c.close()
threading.Thread(target=udp, daemon=True).start()
print('ready', flush=True)
while True:
    c, _ = t.accept(); threading.Thread(target=one, args=(c,), daemon=True).start()
`

/** A connected UDP socket: it takes answers from the address it asked and from no other. */
const ASK = `
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.settimeout(2)
s.connect(socket.getaddrinfo(sys.argv[1], 7000, type=socket.SOCK_DGRAM)[0][4])
size = int(sys.argv[2])
for i in range(int(sys.argv[3])):
    s.send(b'q%d ' % i + b'x' * size)
    got = s.recv(65535)
    assert got == b'Q%d ' % i + b'X' * size, got[:40]
print('ok')
`

const ip = (...args: string[]) => execFileSync('ip', args)
const inClient = (...argv: string[]) =>
  new Promise<string>((resolve) => {
    execFile('ip', ['netns', 'exec', CLIENT, ...argv], { timeout: 10_000 }, (error, out, err) =>
      resolve(error ? `${out}${err}` : out.trim()),
    )
  })

before(async () => {
  reactor = await Reactor.start()
  ip('netns', 'add', CLIENT)
  ip('link', 'add', 'toclient', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', CLIENT)
  for (const address of HOST) ip('addr', 'add', `${address}/64`, 'dev', 'toclient', 'nodad')
  ip('link', 'set', 'toclient', 'up')
  ip('-n', CLIENT, 'addr', 'add', 'fd00:77::2/64', 'dev', 'eth0', 'nodad')
  ip('-n', CLIENT, 'link', 'set', 'eth0', 'up')
  ip('-n', CLIENT, 'route', 'add', 'fd00:78::/64', 'via', 'fd00:77::1')
  const server = spawn('python3', ['-c', SERVER], { stdio: ['ignore', 'pipe', 'inherit'] })
  children.push(server)
  await new Promise<void>((resolve, reject) => {
    server.stdout.once('data', () => resolve())
    server.once('exit', (code) => reject(new Error(`server ended with ${code}`)))
  })
  // link-local addresses are not usable until duplicate address detection has passed
  for (let i = 0; i < 40 && execFileSync('ip', ['addr', 'show', 'tentative']).length > 0; i++) await sleep(100)
  for (let i = 0; i < 40 && execFileSync('ip', ['-n', CLIENT, 'addr', 'show', 'tentative']).length > 0; i++) await sleep(100)
})

after(async () => {
  for (const child of children) {
    child.removeAllListeners('exit')
    child.kill('SIGKILL')
  }
  ip('netns', 'del', CLIENT)
  await reactor.close()
  clearInterval(alive)
})

/** A socket that was closed a moment ago may still be in use by the reactor's epoll for as long as it looks at it (fs/eventpoll.c epi_fget). */
async function held(proto: 'tcp' | 'udp', address = '::'): Promise<number> {
  for (let tries = 0; ; tries++)
    try {
      return holdPort(proto, parseIp(address), 7000, true).fd
    } catch (error) {
      if (tries === 20) throw error
      await sleep(5)
    }
}

async function withRelay(relay: Relay, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } finally {
    relay.close()
  }
}

test('udp: a client gets its answer from the address it asked, whichever of the host it was', async () => {
  await withRelay(relayUdp(await held('udp'), TARGET, systemClock, reactor), async () => {
    for (const address of HOST) assert.equal(await inClient('python3', '-c', ASK, address, '10', '20'), 'ok', address)
    const shown = JSON.parse(execFileSync('ip', ['-j', '-6', 'addr', 'show', 'dev', 'toclient']).toString()) as {
      addr_info: Record<string, string>[]
    }[]
    const linkLocal = shown.flatMap((link) => link.addr_info).find((a) => a['scope'] === 'link')?.['local']
    assert.equal(await inClient('python3', '-c', ASK, `${linkLocal}%eth0`, '10', '2'), 'ok', `link-local ${linkLocal}`)
  })
})

test('udp: large datagrams and empty remainders pass whole, several clients at once', async () => {
  await withRelay(relayUdp(await held('udp'), TARGET, systemClock, reactor), async () => {
    const sizes = ['0', '1', '1400', '8000', '60000']
    const answers = await Promise.all(sizes.map((size) => inClient('python3', '-c', ASK, HOST[1] as string, size, '5')))
    assert.deepEqual(
      answers,
      sizes.map(() => 'ok'),
    )
  })
})

test('udp: a flow without traffic is forgotten, and a closed relay gives back its port and every descriptor', async () => {
  const before = readdirSync('/proc/self/fd').length
  const timers: { fn: () => void; ms: number }[] = []
  const clock: Clock = {
    ...systemClock,
    after: (ms, fn) => {
      const timer = { fn, ms }
      timers.push(timer)
      return () => timers.splice(timers.indexOf(timer), 1)
    },
  }
  const relay = relayUdp(await held('udp'), TARGET, clock, reactor)
  assert.equal(await inClient('python3', '-c', ASK, HOST[0] as string, '1', '3'), 'ok')
  assert.deepEqual(
    timers.map((t) => t.ms),
    [90_000],
  )
  const open = readdirSync('/proc/self/fd').length
  timers[0]?.fn()
  await sleep(50)
  assert.equal(readdirSync('/proc/self/fd').length, open - 1)
  assert.equal(await inClient('python3', '-c', ASK, HOST[0] as string, '1', '3'), 'ok')
  relay.close()
  await sleep(50)
  const after = readdirSync('/proc/self/fd').length // what the test before was still closing may have gone too
  assert.ok(after <= before, `${after} descriptors are open, ${before} were`)
  const again = relayUdp(await held('udp'), TARGET, systemClock, reactor) // throws EADDRINUSE when the port is still held
  again.close()
})

test('tcp: what a client sends arrives whole, and the answer after its half-close comes back', async () => {
  await withRelay(relayTcp(await held('tcp'), TARGET), async () => {
    const command = `head -c 3000000 /dev/zero | tr '\\0' a | timeout 10 nc -N ${HOST[1]} 7000 | tr -d A | wc -c; head -c 3000000 /dev/zero | tr '\\0' a | timeout 10 nc -N ${HOST[1]} 7000 | wc -c`
    assert.equal((await inClient('sh', '-c', command)).replace(/\s+/g, ' '), '0 3000000')
  })
})

test('tcp: a client of a container that does not listen sees its connection end', async () => {
  await withRelay(relayTcp(await held('tcp'), { ip: parseIp('127.0.0.1'), port: 9 }), async () => {
    const started = performance.now()
    assert.match(await inClient('sh', '-c', `echo x | timeout 10 nc -v ${HOST[0]} 7000 2>&1`), /succeeded/)
    assert.ok(performance.now() - started < 5000, 'the client was left waiting')
  })
})

/** Ports that relays hold: given back and taken again at once, under fire. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { after, before, test } from 'node:test'
import { parseIp } from '../../src/base/address.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/ports.ts'
import { PortMapper } from '../../src/engine/port-mapper.ts'
import { findSocketUse } from '../../src/kernel/sockets.ts'
import { initNetns } from '../../src/sys/netns.ts'
import { Reactor } from '../../src/sys/reactor.ts'

const PORT = 7000
/** Keeps the relay's socket readable, so that whoever watches it is busy with it. */
const FLOOD = `
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
print('ready', flush=True)
while True:
    try: s.sendto(b'x', ('::1', ${PORT}))
    except OSError: pass
`
const HOLD = `
import socket, time
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1); s.bind(('::', ${PORT}))
print('ready', flush=True)
time.sleep(60)
`
const alive = setInterval(() => {}, 1000)
let reactor: Reactor

async function python(script: string): Promise<ChildProcess> {
  const child = spawn('python3', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'] })
  await new Promise((resolve) => child.stdout.once('data', resolve))
  return child
}

async function end(child: ChildProcess): Promise<void> {
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await gone
}

before(async () => {
  await initNetns()
  reactor = await Reactor.start()
})
after(async () => {
  await reactor.close()
  clearInterval(alive)
})

const target = {
  holder: 'one',
  holderName: 'one',
  ipv4: parseIp('127.0.0.1'),
  ipv6: '',
  defaultIpv4: undefined,
  routed4: false,
  routed6: false,
} as const
const request = { proto: 'udp', containerPort: 9, hostIp: '::', hostPort: PORT, hostPortEnd: PORT } as const
const mapper = () =>
  new PortMapper({
    sockets: { findUse: (proto, ip, first, last) => findSocketUse(proto, ip, first, last) },
    ephemeral: () => ({ first: 40_000, last: 41_000 }),
    clock: systemClock,
    log: silentLogger,
    reactor,
  })

test('a port that a relay gave back can be taken again at once, whatever arrives there', async () => {
  const flood = await python(FLOOD)
  try {
    const ports = mapper()
    for (let i = 0; i < 300; i++) {
      const bindings = ports.publish(target, [request])
      assert.equal(bindings.length, 1)
      if (i % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 1)) // the relay reads
      ports.withdraw('one', bindings)
    }
  } finally {
    await end(flood)
  }
})

test('a port that another program took in between is refused, and the program named', async () => {
  const ports = mapper()
  ports.withdraw('one', ports.publish(target, [request]))
  const thief = await python(HOLD)
  try {
    assert.throws(() => ports.publish(target, [request]), {
      message: /failed to bind host port \[::\]:7000\/udp: address already in use \(by python3/,
    })
  } finally {
    await end(thief)
  }
})

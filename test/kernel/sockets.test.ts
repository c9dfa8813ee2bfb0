/** Who holds which port, for foreign programs. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { after, before, test } from 'node:test'
import { parseIp } from '../../src/base/address.ts'
import { findSocketUse, listBoundSockets } from '../../src/kernel/sockets.ts'
import { initNetns } from '../../src/sys/netns.ts'
import { isolate } from '../../testkit/isolated.ts'

isolate()

const HOLD = `
import socket, time
def hold(family, kind, address, port, v6only=None):
    s = socket.socket(family, kind)
    if v6only is not None: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    s.bind((address, port))
    if kind == socket.SOCK_STREAM: s.listen(1)
    return s
T, U, I4, I6 = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.AF_INET, socket.AF_INET6
keep = [hold(I6, T, '::', 8080, 0), hold(I6, T, '::', 8081, 1), hold(I4, T, '127.0.0.1', 8082), hold(I4, U, '127.0.0.1', 5353), hold(I6, U, '::1', 5454)]
print('ready', flush=True)
time.sleep(60)
`

let holder: ChildProcess

before(async () => {
  await initNetns()
  holder = spawn('python3', ['-c', HOLD], { stdio: ['ignore', 'pipe', 'inherit'] })
  await new Promise<void>((resolve, reject) => {
    holder.stdout?.once('data', () => resolve())
    holder.once('exit', (code) => reject(new Error(`holder ended with ${code}`)))
  })
})

after(() => {
  holder.removeAllListeners('exit')
  holder.kill('SIGKILL')
})

const use = (proto: 'tcp' | 'udp' | 'sctp', ip: string, first: number, last = first) => findSocketUse(proto, parseIp(ip), first, last)

test('sockets: a dual-stack socket holds its port in both families, an IPv6-only one in its own', () => {
  assert.equal(use('tcp', '0.0.0.0', 8080)?.port, 8080)
  assert.equal(use('tcp', '::', 8080)?.port, 8080)
  assert.equal(use('tcp', '0.0.0.0', 8081), undefined)
  assert.equal(use('tcp', '::', 8081)?.port, 8081)
})

test('sockets: a socket on one address is in the way of that address and of all addresses', () => {
  assert.equal(use('tcp', '127.0.0.1', 8082)?.port, 8082)
  assert.equal(use('tcp', '0.0.0.0', 8082)?.port, 8082)
  assert.equal(use('tcp', '127.0.0.2', 8082), undefined)
  assert.equal(use('tcp', '::', 8082), undefined)
  assert.equal(use('udp', '::', 5454)?.port, 5454)
  assert.equal(use('udp', '0.0.0.0', 5454), undefined)
})

test('sockets: the holder is named, and the lowest port of a range is found', () => {
  const found = use('udp', '0.0.0.0', 5000, 6000)
  assert.equal(found?.port, 5353)
  assert.equal(found?.pid, holder.pid)
  assert.match(found?.program ?? '', /^python3/)
})

test('sockets: protocols do not hold each other, and an unknown protocol holds nothing', () => {
  assert.equal(use('udp', '0.0.0.0', 8080), undefined)
  assert.equal(use('tcp', '127.0.0.1', 5353), undefined)
  assert.equal(use('sctp', '0.0.0.0', 1, 65535), undefined)
  assert.equal(listBoundSockets('tcp').length, 3)
})

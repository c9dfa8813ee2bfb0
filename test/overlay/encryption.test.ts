/** Encrypted tunnels between two hosts. Needs ESP and AES-GCM in the kernel: `test/vm/overlay.test.ts` runs it in one that has them. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { after, before, test } from 'node:test'
import { parseIp } from '../../src/base/address.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/ports.ts'
import { systemRng } from '../../src/base/rng.ts'
import { Encryption } from '../../src/cluster/overlay/encryption.ts'
import { ENCRYPTED_VXLAN_PORT } from '../../src/cluster/overlay/ipsec-plan.ts'
import { MemoryStoreServer } from '../../src/cluster/store/memory.ts'
import { ipsecMissing, Xfrm } from '../../src/kernel/xfrm.ts'
import { closeNetns, initNetns, openNetns } from '../../src/sys/netns.ts'
import { buildLabNet, type LabNet } from '../../testkit/lab-net.ts'
import { until } from '../../testkit/until.ts'
import { type Member, Members, pings } from './members.ts'

const missing = ipsecMissing()
const skip = missing ?? false
const alive = setInterval(() => {}, 1000)
let net: LabNet
let lab: Members
let a: Member
let b: Member
const server = new MemoryStoreServer(systemClock)
const opened: { encryption: Encryption; xfrm: Xfrm }[] = []

function encryption(i: number): Encryption {
  const ns = openNetns(lab.host(i).netns)
  const xfrm = Xfrm.open(ns)
  closeNetns(ns)
  const made = new Encryption({
    store: server.open({ clock: systemClock, logger: silentLogger }),
    xfrm,
    hostId: `h${i}`,
    vtep: parseIp(lab.host(i).ip),
    clock: systemClock,
    rng: systemRng,
    log: process.env['DEBUG'] ? { ...silentLogger, warn: console.error, error: console.error } : silentLogger,
    settleMs: 1500,
    rotateMs: 3_600_000,
  })
  opened.push({ encryption: made, xfrm })
  return made
}

/** The peers of host `i`: the other one. */
const other = (i: number) => new Map([[`h${1 - i}`, parseIp(lab.host(1 - i).ip)]])
const states = async (i: number) => (await lab.host(i).sh('ip xfrm state')).out

before(async () => {
  if (skip) return
  await initNetns()
  net = buildLabNet({ hosts: 2 })
  lab = new Members(net, { port: ENCRYPTED_VXLAN_PORT, mtu: 1413 })
  for (const i of [0, 1]) {
    const e = encryption(i)
    await e.join()
    e.setPeers(other(i))
  }
  a = await lab.add(0, '10.0.0.2')
  b = await lab.add(1, '10.0.0.3')
})

after(async () => {
  clearInterval(alive)
  if (skip) return
  for (const { encryption, xfrm } of opened) {
    encryption.close()
    xfrm.close()
  }
  await lab.close()
  net.close()
})

test('a kernel without ESP is told with the reason', { skip: missing === undefined ? 'this kernel has it' : false }, () => {
  assert.match(missing ?? '', /^this kernel (cannot encrypt with ESP and AES-GCM|has no IPsec)/)
})

test('members reach each other, and on the wire there is ESP only', { skip }, async () => {
  const capture = spawn('nsenter', [`--net=${net.router.netns}`, 'tcpdump', '-nn', '-l', '--immediate-mode', '-i', 'h0', 'ip'])
  let out = ''
  capture.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString()
  })
  await new Promise((resolve) => capture.stderr.once('data', resolve))
  await until('ping', () => pings(a, b.ip))
  assert.ok(await pings(b, a.ip))
  assert.ok(await pings(a, b.ip, '-M do -s 1385'), 'a full packet')
  const gone = new Promise((resolve) => capture.once('close', resolve))
  await new Promise((resolve) => setTimeout(resolve, 200))
  capture.kill('SIGINT')
  await gone
  assert.match(out, /IP 10\.10\.126\.101 > 10\.10\.105\.71: ESP\(spi=0x[0-9a-f]+,seq=0x[0-9a-f]+\)/)
  assert.doesNotMatch(out, /UDP|VXLAN|ICMP|frag/)
})

test('what is not encrypted is dropped: a forged packet in clear does not come in', { skip }, async () => {
  const dropped = async () => Number(/XfrmInTmplMismatch\s+(\d+)/.exec((await lab.host(1).sh('cat /proc/net/xfrm_stat')).out)?.[1])
  const before = await dropped()
  // the router speaks for the first host
  await net.router.sh(`ip addr add 10.10.126.101/32 dev lo; python3 -c "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('10.10.126.101', 5555))
s.sendto(bytes([8,0,0,0,0,1,0,0]) + bytes(60), ('10.10.105.71', ${ENCRYPTED_VXLAN_PORT}))"
    ip addr del 10.10.126.101/32 dev lo`)
  await until('the drop is counted', async () => (await dropped()) === before + 1)
})

test('associations that are lost come back with other keys', { skip }, async () => {
  const spis = async () => new Set((await states(0)).match(/spi 0x[0-9a-f]+/g))
  const before = await spis()
  await lab.host(0).sh('ip xfrm state flush')
  opened[0]?.encryption.look()
  await until('ping after the loss', () => pings(a, b.ip))
  const outbound = (text: string) => /src 10\.10\.126\.101 dst 10\.10\.105\.71\n\tproto esp (spi 0x[0-9a-f]+)/.exec(text)?.[1] ?? ''
  assert.ok(!before.has(outbound(await states(0))))
})

test('another engine takes over: traffic goes on, then under its own keys', { skip }, async () => {
  const outbound = async () => /src 10\.10\.126\.101 dst 10\.10\.105\.71\n\tproto esp (spi 0x[0-9a-f]+)/.exec(await states(0))?.[1]
  const before = await outbound()
  opened[0]?.encryption.close()
  const next = encryption(0)
  await next.join()
  next.setPeers(other(0))
  assert.equal(await outbound(), before)
  assert.ok(await pings(a, b.ip))
  await until('its own keys', async () => (await outbound()) !== before)
  assert.ok(await pings(a, b.ip))
  assert.ok(await pings(b, a.ip))
})

test('what somebody writes over the secret and a host’s nonces changes no keys', { skip }, async () => {
  const store = server.open({ clock: systemClock, logger: silentLogger })
  const before = [await states(0), await states(1)].map((text) => text.match(/spi 0x[0-9a-f]+/g)?.toSorted())
  for (const value of ['', '{"nonces":[]}', '{"secrets":5,"nonces":{}}'])
    await store.txn({ puts: ['encryption/secret', 'encryption/hosts/h0', 'encryption/hosts/h1'].map((key) => ({ key, value })) })
  await until('the secret is put back', async () => (await store.get('encryption/secret'))?.value.startsWith('{"secrets":["') ?? false)
  for (const { encryption } of opened.slice(-2)) encryption.look()
  assert.deepEqual(
    [await states(0), await states(1)].map((text) => text.match(/spi 0x[0-9a-f]+/g)?.toSorted()),
    before,
  )
  assert.ok(await pings(a, b.ip))
  await store.close()
})

test('with the last network everything of ours goes', { skip }, async () => {
  const last = opened.at(-1) as (typeof opened)[number]
  last.encryption.removeAll()
  assert.equal(await states(0), '')
  assert.equal((await lab.host(0).sh('ip xfrm policy')).out, '')
})

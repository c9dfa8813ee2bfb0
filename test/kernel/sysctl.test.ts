import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { isErrno, NetError } from '../../src/base/errors.ts'
import { closeNetns, createNetns, initNetns, type Netns, openNetns, removeNetns } from '../../src/sys/netns.ts'
import { readSysctl, sysctlPath, tryReadSysctl, writeSysctl } from '../../src/sys/sysctl.ts'

let dir: string
let ns: Netns
before(async () => {
  await initNetns()
  dir = mkdtempSync('/tmp/causeway-sysctl-')
  createNetns(`${dir}/a`)
  ns = openNetns(`${dir}/a`)
})
after(() => {
  closeNetns(ns)
  removeNetns(`${dir}/a`)
  rmSync(dir, { recursive: true })
})

function sysctl(path: string, prefix: string[] = []): string {
  const [program = '', ...args] = [...prefix, 'cat', `/proc/sys/${path}`]
  return spawnSync(program, args, { encoding: 'utf8' }).stdout.trim()
}

test('keys are understood with slashes, with dots, and with dots in the name of a link', () => {
  assert.equal(sysctlPath('net/ipv4/ip_forward'), 'net/ipv4/ip_forward')
  assert.equal(sysctlPath('net.ipv4.ip_forward'), 'net/ipv4/ip_forward')
  assert.equal(sysctlPath('/proc/sys/net/ipv4/ip_forward'), 'net/ipv4/ip_forward')
  assert.equal(sysctlPath('net/ipv4/conf/eth0.50/forwarding'), 'net/ipv4/conf/eth0.50/forwarding')
  assert.equal(sysctlPath('net.ipv4.conf.eth0.50.forwarding'), 'net/ipv4/conf/eth0.50/forwarding')
  assert.equal(sysctlPath('net.ipv4.conf.eth0/50.forwarding'), 'net/ipv4/conf/eth0.50/forwarding')
  assert.equal(sysctlPath('net.ipv6.neigh.br-1.2.gc_stale_time'), 'net/ipv6/neigh/br-1.2/gc_stale_time')
  assert.equal(sysctlPath('kernel.shm/rmid'), 'kernel/shm.rmid')
})

test('keys that leave /proc/sys or name no parameter are refused', () => {
  for (const key of ['', 'net', 'net/../../etc/passwd', 'net//ipv4', '/etc/passwd', 'net/ipv4/./x', '../x', 'a/b\0c', 'net..ipv4'])
    assert.throws(() => sysctlPath(key), NetError, key)
})

test('writing returns the value before, and the kernel has the new one', () => {
  const before = sysctl('net/ipv4/ip_forward')
  assert.equal(readSysctl('net.ipv4.ip_forward'), before)
  assert.equal(writeSysctl('net.ipv4.ip_forward', 1), before)
  assert.equal(sysctl('net/ipv4/ip_forward'), '1')
  assert.equal(writeSysctl('net/ipv4/ip_forward', '0'), '1')
  assert.equal(sysctl('net/ipv4/ip_forward'), '0')
})

test('another namespace has values of its own', () => {
  const there = ['nsenter', `--net=${ns.path}`]
  writeSysctl('net/ipv4/ip_forward', '0')
  assert.equal(writeSysctl('net/ipv4/ip_forward', '1', ns), '0')
  assert.equal(readSysctl('net/ipv4/ip_forward', ns), '1')
  assert.equal(sysctl('net/ipv4/ip_forward', there), '1')
  assert.equal(sysctl('net/ipv4/ip_forward'), '0')
})

test('a link whose name holds a dot is found', () => {
  assert.equal(spawnSync('ip', ['link', 'add', 'br0.50', 'type', 'bridge']).status, 0)
  for (const key of ['net/ipv4/conf/br0.50/forwarding', 'net.ipv4.conf.br0.50.forwarding', 'net.ipv4.conf.br0/50.forwarding']) {
    writeSysctl(key, '0')
    assert.equal(writeSysctl(key, '1'), '0')
    assert.equal(sysctl('net/ipv4/conf/br0.50/forwarding'), '1')
  }
})

test('errors say what the kernel would not do', () => {
  const code = (fn: () => unknown): string => {
    try {
      fn()
    } catch (error) {
      assert.ok(error instanceof NetError)
      return `${error.code}: ${error.message}`
    }
    return 'no error'
  }
  assert.equal(
    code(() => readSysctl('net.ipv4.nope')),
    'not-found: Cannot read sysctl "net.ipv4.nope": there is no such parameter',
  )
  assert.equal(
    code(() => writeSysctl('net/ipv4/conf/nope0/forwarding', '1')),
    'not-found: Cannot set sysctl "net/ipv4/conf/nope0/forwarding": there is no such parameter',
  )
  assert.equal(
    code(() => writeSysctl('net.ipv4.ip_forward', 'maybe')),
    'invalid: Cannot set sysctl "net.ipv4.ip_forward" to "maybe": EINVAL',
  )
  assert.equal(tryReadSysctl('net.ipv4.nope'), undefined)
  assert.equal(tryReadSysctl('net.ipv4.ip_forward'), '0')
  try {
    readSysctl('net.ipv4.nope', ns)
  } catch (error) {
    assert.ok(isErrno(error, 'ENOENT'))
  }
})

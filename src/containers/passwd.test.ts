import assert from 'node:assert/strict'
import test from 'node:test'
import { resolveUser } from './passwd.ts'

const PASSWD = 'root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/var/www:/bin/sh\n1001:x:7:7::/odd:/bin/sh\n'
const GROUP = 'root:x:0:\nweb:x:33:\nlog:x:40:web,root\nssl:x:41:web\n'

test('user: a name gives its login group and the groups that list it', () => {
  assert.deepEqual(resolveUser('web', [], PASSWD, GROUP), { uid: 33, gid: 33, additionalGids: [33, 40, 41], home: '/var/www' })
})

test('user: an explicit group leaves the listed groups away, and added groups may be names', () => {
  assert.deepEqual(resolveUser('web:log', ['ssl', '99'], PASSWD, GROUP).additionalGids, [40, 41, 99])
})

test('user: numbers need no entry, but use one that exists', () => {
  assert.deepEqual(resolveUser('5000:6000', [], '', ''), { uid: 5000, gid: 6000, additionalGids: [6000], home: '/' })
  assert.equal(resolveUser('33', [], PASSWD, GROUP).gid, 33)
  assert.equal(resolveUser('1001', [], PASSWD, GROUP).uid, 7, 'a numeric name beats the number')
  assert.equal(resolveUser('', [], PASSWD, GROUP).home, '/root')
})

test('user: unknown names are refused', () => {
  assert.throws(() => resolveUser('nobody', [], PASSWD, GROUP), {
    message: 'unable to find user nobody: no matching entries in passwd file',
  })
  assert.throws(() => resolveUser('web:nogroup', [], PASSWD, GROUP), { code: 'invalid' })
})

/** A macvlan on a parent whose last user is only just going. */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { after, before, test } from 'node:test'
import { hasCode } from '../../src/base/errors.ts'
import { openRtnl } from '../../src/kernel/rtnl.ts'
import { initNetns } from '../../src/sys/netns.ts'

const ip = (...args: string[]) => execFileSync('ip', args, { encoding: 'utf8' })
const macvlan = { op: 'link.add', link: { name: 'm0', kind: 'macvlan', parent: 'p0', mode: 'bridge' } } as const

before(async () => {
  await initNetns()
  ip('link', 'add', 'p0', 'type', 'veth', 'peer', 'name', 'p1')
  ip('link', 'add', 'b0', 'type', 'bridge')
})
after(() => {
  ip('link', 'del', 'p0')
  ip('link', 'del', 'b0')
})

/** Tries once, while another program lets go of the parent; false when that program was late, as on a busy machine it may be. */
async function trial(): Promise<boolean> {
  ip('link', 'set', 'p0', 'master', 'b0')
  const rtnl = openRtnl()
  const leaving = spawn('sh', ['-c', 'echo; sleep 0.02; ip link set p0 nomaster'], { stdio: ['ignore', 'pipe', 'inherit'] })
  const left = new Promise((resolve) => leaving.once('exit', resolve))
  await new Promise((resolve) => leaving.stdout.once('data', resolve))
  try {
    rtnl.apply([macvlan])
    return true
  } catch (error) {
    assert.ok(hasCode(error, 'busy'), String(error))
    return false
  } finally {
    rtnl.close()
    await left
  }
}

test('a parent that is let go within the moment can be used', async () => {
  let done = false
  for (let n = 0; n < 20 && !done; n++) done = await trial()
  assert.match(ip('-d', 'link', 'show', 'm0'), /macvlan mode bridge/)
  ip('link', 'del', 'm0')
})

test('a parent that stays in use is refused', () => {
  ip('link', 'set', 'p0', 'master', 'b0')
  const rtnl = openRtnl()
  assert.throws(() => rtnl.apply([macvlan]), { code: 'busy' })
  rtnl.close()
})

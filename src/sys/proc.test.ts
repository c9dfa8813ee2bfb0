import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { childrenOf, commandOf, descendantsOf, parentOf } from './proc.ts'

test('the processes below a process are found, and nothing of one that has gone', async () => {
  const shell = spawn('sh', ['-c', 'sh -c "sleep 30 & echo ready; wait" & wait'], { stdio: ['ignore', 'pipe', 'ignore'], detached: true })
  const pid = shell.pid as number
  await once(shell.stdout, 'data')
  assert.ok(childrenOf(process.pid).includes(pid))
  assert.equal(parentOf(pid), process.pid)
  let below: number[] = []
  const deadline = performance.now() + 2000
  while (performance.now() < deadline && commandOf(below[1] ?? 0)[0] !== 'sleep') below = descendantsOf(pid) // a child is forked, then execs
  assert.deepEqual(
    below.map((child) => commandOf(child)[0]),
    ['sh', 'sleep'],
  )
  assert.deepEqual(childrenOf(pid), below.slice(0, 1))
  process.kill(-pid, 'SIGKILL')
  await once(shell, 'exit')
  assert.deepEqual([childrenOf(pid), descendantsOf(pid), commandOf(pid), parentOf(pid)], [[], [], [], undefined])
})

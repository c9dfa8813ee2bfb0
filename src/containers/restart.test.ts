import assert from 'node:assert/strict'
import test from 'node:test'
import { nextDelayMs, restartPolicyOf, shouldRestart, startsWithEngine } from './restart.ts'

const policy = (Name: string, MaximumRetryCount = 0) => restartPolicyOf({ RestartPolicy: { Name, MaximumRetryCount } })

test('restart: waits 100 ms, doubles, and begins again after ten seconds of running', () => {
  assert.equal(nextDelayMs(0, 5), 100)
  assert.equal(nextDelayMs(100, 5), 200)
  assert.equal(nextDelayMs(51_200, 5), 60_000)
  assert.equal(nextDelayMs(51_200, 10_001), 100)
})

test('restart: on-failure counts, always does not look at the code, and a manual stop beats them all', () => {
  const exit = { exitCode: 1, manuallyStopped: false, restartCount: 2 }
  assert.equal(shouldRestart(policy('on-failure', 3), exit), true)
  assert.equal(shouldRestart(policy('on-failure', 2), exit), false)
  assert.equal(shouldRestart(policy('on-failure'), { ...exit, exitCode: 0 }), false)
  assert.equal(shouldRestart(policy('always'), { ...exit, exitCode: 0 }), true)
  assert.equal(shouldRestart(policy('no'), exit), false)
  for (const name of ['always', 'unless-stopped', 'on-failure'])
    assert.equal(shouldRestart(policy(name), { ...exit, manuallyStopped: true }), false)
})

test('restart: with the engine, always ignores a manual stop and unless-stopped respects it', () => {
  assert.equal(startsWithEngine(policy('always'), true, 0, true), true)
  assert.equal(startsWithEngine(policy('unless-stopped'), true, 0, true), false)
  assert.equal(startsWithEngine(policy('unless-stopped'), false, 0, true), true)
  assert.equal(startsWithEngine(policy('always'), false, 0, false), false, 'a container that was never started stays so')
})

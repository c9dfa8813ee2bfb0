/** Restart policies: whether a container that ended starts again, and how long it waits. Pure. */
import { NetError } from '../base/errors.ts'
import type { HostConfig } from './types.ts'

export interface RestartPolicy {
  readonly name: 'no' | 'always' | 'unless-stopped' | 'on-failure'
  readonly maximumRetryCount: number
}

const POLICIES = ['no', 'always', 'on-failure', 'unless-stopped'] as const

/** Throws `invalid` with Docker's texts. */
export function restartPolicyOf(host: HostConfig): RestartPolicy {
  const name = host.RestartPolicy?.Name || 'no'
  const count = host.RestartPolicy?.MaximumRetryCount ?? 0
  const known = POLICIES.find((p) => p === name)
  if (known === undefined) {
    throw new NetError(
      'invalid',
      `invalid restart policy: unknown policy '${name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`,
    )
  }
  if (known === 'on-failure') {
    if (count < 0) throw new NetError('invalid', 'invalid restart policy: maximum retry count cannot be negative')
  } else if (count !== 0) {
    const negative = count < 0 ? ' and cannot be negative' : ''
    throw new NetError('invalid', `invalid restart policy: maximum retry count can only be used with 'on-failure'${negative}`)
  }
  if (host.AutoRemove && known !== 'no') throw new NetError('invalid', "can't create 'AutoRemove' container with restart policy")
  return { name: known, maximumRetryCount: count }
}

export interface ExitFacts {
  readonly exitCode: number
  /** `docker stop` or `docker kill` ended it. */
  readonly manuallyStopped: boolean
  /** Restarts so far in this row of failures. */
  readonly restartCount: number
}

/** Whether a container that has ended is started again. Who stopped it by hand keeps it stopped. */
export function shouldRestart(policy: RestartPolicy, exit: ExitFacts): boolean {
  if (exit.manuallyStopped) return false
  switch (policy.name) {
    case 'no':
      return false
    case 'always':
    case 'unless-stopped':
      return true
    case 'on-failure':
      return exit.exitCode !== 0 && (policy.maximumRetryCount === 0 || exit.restartCount < policy.maximumRetryCount)
  }
}

const FIRST_DELAY_MS = 100
const LONGEST_DELAY_MS = 60_000
const STEADY_MS = 10_000

/** Next waiting time: 100 ms, doubling to a minute; back to 100 ms after a run of more than ten seconds. */
export function nextDelayMs(previousDelayMs: number, ranMs: number): number {
  if (previousDelayMs === 0 || ranMs > STEADY_MS) return FIRST_DELAY_MS
  return Math.min(previousDelayMs * 2, LONGEST_DELAY_MS)
}

/** Whether a container that was not running when the engine started is started now. */
export function startsWithEngine(policy: RestartPolicy, wasManuallyStopped: boolean, exitCode: number, everStarted: boolean): boolean {
  if (!everStarted) return false
  switch (policy.name) {
    case 'no':
      return false
    case 'always':
      return true
    case 'unless-stopped':
      return !wasManuallyStopped
    case 'on-failure':
      return exitCode !== 0 && !wasManuallyStopped
  }
}

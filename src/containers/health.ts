/** Health checks: runs the test command in the container at its interval and keeps the last five results. */
import { rmSync, writeFileSync } from 'node:fs'
import { messageOf } from '../base/errors.ts'
import { run } from '../sys/process.ts'
import type { ContainerDeps } from './deps.ts'
import type { Monitor, MonitorPaths } from './monitor.ts'
import type { ContainerNetwork } from './network.ts'
import type { Entry, Registry } from './registry.ts'
import { buildExecProcess, specJson } from './spec.ts'
import { execFacts } from './start-facts.ts'
import { rfc3339 } from './time.ts'

export interface HealthParts {
  readonly deps: ContainerDeps
  readonly registry: Registry
  readonly monitor: Monitor
  readonly network: ContainerNetwork
  readonly paths: MonitorPaths
  readonly emit: (entry: Entry, action: string) => void
}

const KEPT_RESULTS = 5
const KEPT_OUTPUT = 4096
const NS_PER_MS = 1e6

/** The command of a Healthcheck, or undefined when there is none or it is NONE. */
function healthCommand(entry: Entry): string[] | undefined {
  const [kind, ...rest] = entry.record.config.Healthcheck?.Test ?? []
  if (kind === 'CMD' && rest.length > 0) return rest
  if (kind === 'CMD-SHELL' && rest[0] !== undefined) return ['/bin/sh', '-c', rest[0]]
  return undefined
}

/** Begins to check a container that has just started. Returns the function that ends it. */
export function startHealth(entry: Entry, parts: HealthParts): (() => void) | undefined {
  const command = healthCommand(entry)
  if (command === undefined) return undefined
  const check = entry.record.config.Healthcheck ?? {}
  const ms = (ns: number | undefined, otherwise: number) => (ns === undefined || ns === 0 ? otherwise : ns / NS_PER_MS)
  const intervalMs = ms(check.Interval, 30_000)
  const timeoutMs = ms(check.Timeout, 30_000)
  const startPeriodMs = ms(check.StartPeriod, 0)
  const startIntervalMs = Math.min(ms(check.StartInterval, 5_000), intervalMs)
  const retries = check.Retries || 3
  const { deps } = parts
  const began = deps.clock.now()
  let stopped = false
  let cancel = () => {}
  const set = (status: string, failingStreak: number, log: readonly object[]) => {
    const before = entry.record.state.health?.status
    parts.registry.update(entry, { state: { ...entry.record.state, health: { status, failingStreak, log } } })
    if (before !== status && status !== 'starting') parts.emit(entry, `health_status: ${status}`)
  }
  const isStarting = () => startPeriodMs > 0 && deps.clock.now() - began < startPeriodMs && entry.record.state.health?.status === 'starting'
  const probe = async () => {
    const start = deps.clock.now()
    const result = entry.record.state.status === 'paused' ? undefined : await runInContainer(entry, parts, command, timeoutMs)
    if (stopped || entry.record.live === undefined) return
    if (result !== undefined) {
      const previous = entry.record.state.health
      const item = {
        Start: rfc3339(start),
        End: rfc3339(deps.clock.now()),
        ExitCode: result.code,
        Output: result.output.slice(0, KEPT_OUTPUT),
      }
      const log = [...(previous?.log ?? []), item].slice(-KEPT_RESULTS)
      if (result.code === 0) set('healthy', 0, log)
      else {
        // failures in the start period do not count
        const streak = isStarting() ? 0 : (previous?.failingStreak ?? 0) + 1
        set(streak >= retries ? 'unhealthy' : (previous?.status ?? 'starting'), streak, log)
      }
    }
    schedule()
  }
  const schedule = () => {
    cancel = deps.clock.after(isStarting() ? startIntervalMs : intervalMs, () => {
      void probe().catch((error) => deps.log.warn(messageOf(error), { container: entry.record.id }))
    })
  }
  set('starting', 0, [])
  schedule()
  return () => {
    stopped = true
    cancel()
  }
}

async function runInContainer(
  entry: Entry,
  parts: HealthParts,
  command: readonly string[],
  timeoutMs: number,
): Promise<{ code: number; output: string }> {
  const { record } = entry
  const file = `${parts.paths.bundle}/health.json`
  const facts = execFacts(record, await parts.deps.rootfs.mount(record.id), '', parts.network.linkEnv(record))
  writeFileSync(file, specJson(buildExecProcess(record, { Cmd: [...command] }, facts)))
  try {
    const result = await run(parts.monitor.execCommand(record.id, parts.paths.runtime, file), { timeoutMs })
    if (result.code === 137) return { code: -1, output: `Health check exceeded timeout (${timeoutMs / 1000}s)` }
    return { code: result.code, output: result.stdout + result.stderr }
  } finally {
    rmSync(file, { force: true })
  }
}

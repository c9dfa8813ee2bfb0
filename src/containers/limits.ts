/** `docker update`: what a change makes of a container's configuration, and what of it the kernel must hear. */
import { cpus } from 'node:os'
import { NetError } from '../base/errors.ts'
import type { CgroupLimits } from '../sys/cgroup.ts'
import { num, text } from './fields.ts'
import { restartPolicyOf } from './restart.ts'
import { cpuQuotaOf } from './spec.ts'
import type { HostConfig } from './types.ts'

/** The least that Docker gives a container. */
const MIN_MEMORY_BYTES = 6 * 1024 * 1024

/** `given`: what the change really says (clients send zeros and empty strings for the rest); `next`: the configuration with it. Throws `invalid` or `conflict`. */
export function mergeUpdate(current: HostConfig, change: Partial<HostConfig>): { given: Partial<HostConfig>; next: HostConfig } {
  const given: Partial<HostConfig> = Object.fromEntries(
    Object.entries(change).filter(([, v]) => v !== undefined && v !== null && v !== 0 && v !== ''),
  )
  if (given.RestartPolicy?.Name === '') delete given.RestartPolicy
  const restart = given.RestartPolicy?.Name
  if (current.AutoRemove && restart !== undefined && restart !== 'no')
    throw new NetError('conflict', 'Restart policy cannot be updated because AutoRemove is enabled for the container')
  const next: HostConfig = { ...current, ...given }
  checkCpus(next)
  restartPolicyOf(next)
  if (next.Memory && next.Memory < MIN_MEMORY_BYTES) throw new NetError('invalid', 'Minimum memory limit allowed is 6MB')
  if (next.Memory && num(next, 'MemorySwap') > 0 && num(next, 'MemorySwap') < next.Memory) {
    throw new NetError(
      'conflict',
      'Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time',
    )
  }
  return { given, next }
}

/** Refuses more processors than there are. Throws `invalid` with Docker's text. */
export function checkCpus(host: HostConfig): void {
  const count = cpus().length
  if ((host.NanoCpus ?? 0) > count * 1e9)
    throw new NetError('invalid', `range of CPUs is from 0.01 to ${count}.00, as there are only ${count} CPUs available`)
}

/** The part of an update that the kernel must hear of. */
export function limitsOf(change: Partial<HostConfig>): CgroupLimits {
  const cpu = cpuQuotaOf(change)
  const memory = change.Memory
  const swap = num(change, 'MemorySwap')
  const reservation = num(change, 'MemoryReservation')
  const cpuset = text(change, 'CpusetCpus')
  const mems = text(change, 'CpusetMems')
  return {
    ...(memory ? { memory } : {}),
    ...(swap ? { memorySwap: swap } : {}),
    ...(reservation ? { memoryReservation: reservation } : {}),
    ...(change.CpuShares ? { cpuShares: change.CpuShares } : {}),
    ...(cpu.quota ? { cpuQuota: cpu.quota } : {}),
    ...(cpu.period ? { cpuPeriod: cpu.period } : {}),
    ...(cpuset ? { cpusetCpus: cpuset } : {}),
    ...(mems ? { cpusetMems: mems } : {}),
    ...(change.PidsLimit ? { pids: change.PidsLimit } : {}),
  }
}

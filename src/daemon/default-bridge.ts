/** Which device the default network uses: docker0, unless another engine on this machine has it. */
import type { Logger } from '../base/ports.ts'
import type { Rtnl } from '../kernel/types.ts'
import { readPidFile } from '../sys/pidfile.ts'

/** `docker0` or `causeway0`. A docker0 that nobody owns (left by a removed engine) is taken over with its address. */
export function chooseDefaultBridge(rtnl: Rtnl, log: Logger): string {
  const there = rtnl.link('docker0')
  if (there === undefined || there.alias.startsWith('causeway:')) return 'docker0'
  const owner = readPidFile('/run/docker.pid') ?? readPidFile('/var/run/docker.pid')
  if (owner === undefined) return 'docker0'
  log.warn('docker0 belongs to another engine on this machine: the default network uses causeway0', { pid: owner })
  return 'causeway0'
}

/** PidMode, IpcMode and UTSMode: the namespaces that a container shares with the host or with another container. */
import { NetError } from '../base/errors.ts'
import { namespacePath, rootPath } from '../sys/process.ts'
import type { ContainerRecord } from './record.ts'
import type { Registry } from './registry.ts'
import type { StartFacts } from './spec.ts'

/** Throws `conflict` when the other container does not run. */
export function sharedNamespaces(record: ContainerRecord, registry: Registry): Pick<StartFacts, 'ipc' | 'pid' | 'uts' | 'shm'> {
  const { PidMode = '', IpcMode = '', UTSMode = '' } = record.hostConfig
  const pidOf = (mode: string, what: string): number | undefined => {
    if (!mode.startsWith('container:')) return undefined
    const other = registry.get(mode.slice('container:'.length)).record
    if (other.live === undefined)
      throw new NetError(
        'conflict',
        `cannot join ${what} namespace of a non running container: container ${other.id} is ${other.state.status}`,
      )
    return other.live.pid
  }
  const ipcPid = pidOf(IpcMode, 'IPC')
  const pidPid = pidOf(PidMode, 'PID')
  return {
    ipc: IpcMode === 'host' ? 'host' : ipcPid === undefined ? undefined : namespacePath(ipcPid, 'ipc'),
    pid: PidMode === 'host' ? 'host' : pidPid === undefined ? undefined : namespacePath(pidPid, 'pid'),
    uts: UTSMode === 'host' ? 'host' : undefined,
    shm: IpcMode === 'host' ? '/dev/shm' : ipcPid === undefined ? undefined : `${rootPath(ipcPid)}/dev/shm`,
  }
}

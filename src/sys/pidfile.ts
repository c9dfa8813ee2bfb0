/** Pid files and the identity of this boot. */
import { readFileSync } from 'node:fs'

/** The process named by a pid file, undefined when the file is missing or the process has gone. */
export function readPidFile(path: string): number | undefined {
  let pid: number
  try {
    pid = Number.parseInt(readFileSync(path, 'utf8'), 10)
  } catch {
    return undefined // no such file: nobody runs
  }
  if (!Number.isInteger(pid) || pid <= 0) return undefined
  try {
    process.kill(pid, 0)
    return isZombie(pid) ? undefined : pid
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM' ? pid : undefined
  }
}

/** It has ended (`kill -9`) and its parent has not asked for its exit code yet: signals still find it. */
function isZombie(pid: number): boolean {
  try {
    return /\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return true // gone in between
  }
}

/** The kernel's random id of this boot: tells a restarted engine from a restarted machine. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}

/** Descriptors of this process and its children. */
import { readdirSync } from 'node:fs'
import { raw } from './libc.ts'

const F_SETFD = 2
const FD_CLOEXEC = 1

/**
 * Marks every descriptor but the standard three as close-on-exec. Some libraries open theirs without, and a container's monitor, which
 * outlives the engine, would then hold the engine's database and netlink sockets for days.
 */
export function keepFromChildren(): void {
  for (const fd of readdirSync('/proc/self/fd')) if (Number(fd) > 2) raw.fcntl(Number(fd), F_SETFD, FD_CLOEXEC)
}

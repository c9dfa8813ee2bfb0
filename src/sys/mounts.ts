/** What is mounted where, from the kernel's own table: /proc/self/mountinfo, see proc_pid_mountinfo(5). */
import { readFileSync } from 'node:fs'
import { unmountAsync } from './libc.ts'

/** Mount points at or below `directory`, deepest last; a path that is mounted over twice stands twice. */
export function listMounts(directory: string): string[] {
  const out: string[] = []
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const path = line.split(' ')[4]?.replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
    if (path === directory || path?.startsWith(`${directory}/`)) out.push(path)
  }
  return out
}

/** Takes away every mount on `path`, without blocking the loop. Idempotent; returns whether there was one. */
export async function unmountAll(path: string): Promise<boolean> {
  let any = false
  while (await unmountAsync(path)) any = true // stacked mounts happen when a crashed run mounted twice
  return any
}

/** The tree of processes, from /proc. Whether a process is alive and when it started: `process.ts`. */
import { readdirSync, readFileSync } from 'node:fs'

/** Direct children of a process, of all its threads. Empty when it has none or is gone. */
export function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) => numbers(readFileSync(`/proc/${pid}/task/${task}/children`, 'latin1')))
  } catch {
    return childrenByScan(pid) // CONFIG_PROC_CHILDREN is off, or the process has just gone
  }
}

/** All processes below `pid`, parents before their children; `pid` itself is not among them. */
export function descendantsOf(pid: number): number[] {
  const out: number[] = []
  for (let parents = [pid]; parents.length > 0; ) {
    parents = parents.flatMap(childrenOf).filter((child) => !out.includes(child)) // a pid may be used again while we look
    out.push(...parents)
  }
  return out
}

/** Command line of a process, [] when it is gone or a kernel thread. */
export function commandOf(pid: number): string[] {
  try {
    const text = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
    return text === '' ? [] : text.replace(/\0$/, '').split('\0')
  } catch {
    return []
  }
}

function numbers(text: string): number[] {
  return text
    .split(' ')
    .filter((word) => /^\d+$/.test(word))
    .map(Number)
}

function childrenByScan(parent: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => parentOf(pid) === parent)
}

/** Pid of a process's parent, undefined when the process is gone. */
export function parentOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
  } catch {
    return undefined
  }
}

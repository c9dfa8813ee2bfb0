/** Which processes hold a socket open, from the links in /proc/<pid>/fd. Reads every descriptor of the machine: for error messages only. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

export interface SocketOwner {
  readonly pid: number
  readonly program: string
}

/** First process found for each inode. Processes that end meanwhile are skipped; sockets of the kernel itself have no owner. */
export function findSocketOwners(inodes: ReadonlySet<number>): Map<number, SocketOwner> {
  const out = new Map<number, SocketOwner>()
  const wanted = new Map([...inodes].map((inode) => [`socket:[${inode}]`, inode]))
  for (const pid of readdirSync('/proc')) {
    if (out.size === inodes.size) break
    if (!/^\d+$/.test(pid)) continue
    try {
      for (const fd of readdirSync(`/proc/${pid}/fd`)) {
        const inode = wanted.get(linkOf(`/proc/${pid}/fd/${fd}`))
        if (inode !== undefined && !out.has(inode))
          out.set(inode, { pid: Number(pid), program: readFileSync(`/proc/${pid}/comm`, 'utf8').trim() })
      }
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code
      if (code !== 'ENOENT' && code !== 'ESRCH' && code !== 'EACCES') throw error
    }
  }
  return out
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return '' // ENOENT: closed between the listing and now
  }
}

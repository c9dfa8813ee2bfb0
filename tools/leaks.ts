/** What a test run leaves on the machine: namespaces, links, nft tables, mounts, processes, folders in /tmp. */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'

/** Environment variable that marks every process of a run; children inherit it, whatever becomes of their parents. */
export const MARK = 'CAUSEWAY_TEST_RUN'

export interface Snapshot {
  readonly items: ReadonlySet<string>
}

export interface Leak {
  readonly what: string
  /** False when somebody else on the machine may have made it meanwhile. */
  readonly certain: boolean
}

export function snapshot(): Snapshot {
  const items = new Set<string>()
  const lines = (command: string, ...args: string[]) => spawnSync(command, args, { encoding: 'utf8' }).stdout?.split('\n') ?? []
  for (const line of lines('ip', '-o', 'link')) {
    const name = line.split(': ')[1]
    if (name !== undefined) items.add(`link ${name.replace(/@.*/, '')}`)
  }
  for (const line of lines('nft', 'list', 'tables')) if (line !== '') items.add(`nft ${line}`)
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const path = line.split(' ')[4]
    if (path !== undefined) items.add(`mount ${path}`)
  }
  for (const line of lines('ip', 'netns', 'list')) if (line !== '') items.add(`namespace ${line.split(' ')[0]}`)
  for (const name of readdirSync(tmpdir())) if (/^(causeway|cw-)/.test(name)) items.add(`folder ${tmpdir()}/${name}`)
  return { items }
}

/** What is there now and was not before. On a build machine (CI set) everything new is ours. */
export function leaks(before: Snapshot, mark: string): Leak[] {
  const alone = process.env['CI'] !== undefined && process.env['CI'] !== ''
  const fresh = [...snapshot().items].filter((item) => !before.items.has(item))
  return [
    ...markedProcesses(mark).map(({ pid, command }) => ({ what: `process ${pid} ${command}`, certain: true })),
    ...fresh.map((what) => ({ what, certain: alone })),
  ]
}

/** Ends what the run left running, so that the next one starts clean. */
export function killMarked(mark: string): void {
  for (const { pid } of markedProcesses(mark)) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // gone meanwhile
    }
  }
}

function markedProcesses(mark: string): { pid: number; command: string }[] {
  const found: { pid: number; command: string }[] = []
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue
    try {
      if (!readFileSync(`/proc/${name}/environ`, 'latin1').includes(`${MARK}=${mark}`)) continue
      readlinkSync(`/proc/${name}/exe`) // a zombie has none
      found.push({ pid: Number(name), command: readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ').trim().slice(0, 120) })
    } catch {
      // gone meanwhile, or a kernel thread
    }
  }
  return found
}

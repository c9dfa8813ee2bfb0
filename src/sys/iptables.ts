/**
 * The iptables programs, for meeting the rules of other tools and for nothing else: our own rules are nftables. Both kinds may be in use
 * at once; each sees only its own rules. Every call is bounded.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { NetError } from '../base/errors.ts'
import { findProgram } from './process.ts'

export interface IptablesKind {
  readonly family: 4 | 6
  readonly backend: 'nft' | 'legacy'
}

export const IPTABLES_KINDS: readonly IptablesKind[] = [
  { family: 4, backend: 'nft' },
  { family: 6, backend: 'nft' },
  { family: 4, backend: 'legacy' },
  { family: 6, backend: 'legacy' },
]

const TIMEOUT_MS = 10_000
/** Seconds to wait for the lock that iptables-legacy programs share. */
const LOCK_SECONDS = '5'

const programOf = (kind: IptablesKind): string => `${kind.family === 4 ? 'iptables' : 'ip6tables'}-${kind.backend}`

/** Legacy programs load kernel modules by merely looking, so they are asked only when somebody has made such rules. */
function legacyTables(family: 4 | 6): string {
  try {
    return readFileSync(`/proc/self/net/${family === 4 ? 'ip' : 'ip6'}_tables_names`, 'utf8')
  } catch {
    return '' // ENOENT: the module is not loaded, so there are no such rules
  }
}

/** The filter table as iptables-save prints it, '' when there is none or the program is not installed. Creates nothing. */
export function saveFilterTable(kind: IptablesKind): string {
  if (kind.backend === 'legacy' && !legacyTables(kind.family).split('\n').includes('filter')) return ''
  const program = findProgram(`${programOf(kind)}-save`)
  if (program === undefined) return ''
  const run = spawnSync(program, ['-t', 'filter'], { encoding: 'utf8', timeout: TIMEOUT_MS })
  return run.status === 0 ? run.stdout : ''
}

/** Runs one command on the filter table. Throws NetError with the program's own sentence. */
export function runIptables(kind: IptablesKind, args: readonly string[]): void {
  const program = findProgram(programOf(kind))
  if (program === undefined) throw new NetError('unavailable', `Cannot run "${programOf(kind)}": it is not installed`)
  const run = spawnSync(program, ['-w', LOCK_SECONDS, '-t', 'filter', ...args], { encoding: 'utf8', timeout: TIMEOUT_MS })
  if (run.status === 0) return
  const why = (run.stderr || run.error?.message || `exit code ${run.status}`).trim()
  throw new NetError('internal', `Cannot run "${programOf(kind)} ${args.join(' ')}": ${why}`, {
    op: 'change iptables',
    subject: args.join(' '),
  })
}

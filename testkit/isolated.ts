/**
 * Runs the calling test file in network and mount namespaces of its own: call it first, before anything else.
 * When the process still shares the machine's network namespace it starts itself again under unshare(1) and exits with that result,
 * so a test can never touch the machine's own links, rules or mounts.
 */
import { spawnSync } from 'node:child_process'
import { readlinkSync } from 'node:fs'

export function isolate(): void {
  if (process.getuid?.() !== 0) {
    console.error('this test needs root (it makes network namespaces)')
    process.exit(1)
  }
  // the outer namespace is handed down, because reading another process's (/proc/1) is not allowed on every machine
  const outer = process.env['CAUSEWAY_ISOLATED'] ?? ''
  const own = readlinkSync('/proc/self/ns/net')
  if (outer.startsWith('net:[') && own !== outer) {
    spawnSync('ip', ['link', 'set', 'lo', 'up'])
    return
  }
  const argv = ['--net', '--mount', '--propagation', 'private', process.execPath, ...process.execArgv, ...process.argv.slice(1)]
  const run = spawnSync('unshare', argv, { stdio: 'inherit', env: { ...process.env, CAUSEWAY_ISOLATED: own } })
  process.exit(run.status ?? 1)
}

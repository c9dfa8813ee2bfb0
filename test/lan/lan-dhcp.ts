/** A DHCP server on the LAN of `lan-lab.ts`: busybox udhcpd, which knows its clients by their MAC alone. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LabHost } from '../../testkit/lab-net.ts'
import { until } from '../e2e/site.ts'

export interface LanDhcp {
  /** Everything that the server has said. */
  said(): string
  close(): Promise<void>
}

/** Starts the server on the machine of the LAN: addresses 10.10.126.200 to .210 for `seconds`. */
export async function serveDhcp(machine: LabHost, seconds: number): Promise<LanDhcp> {
  const dir = mkdtempSync(join(tmpdir(), 'causeway-udhcpd-'))
  const lines = [
    ...['start 10.10.126.200', 'end 10.10.126.210', 'interface lan0', `lease_file ${dir}/leases`, `pidfile ${dir}/pid`, 'min_lease 1'],
    ...['option subnet 255.255.255.0', 'option router 10.10.126.1', `option lease ${seconds}`],
  ]
  writeFileSync(`${dir}/conf`, `${lines.join('\n')}\n`)
  writeFileSync(`${dir}/leases`, '')
  const [file = '', ...args] = machine.enter('busybox', 'udhcpd', '-f', '-a', '0', `${dir}/conf`)
  const child: ChildProcess = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => (said += chunk.toString()))
  assert.ok(await until(async () => /udhcpd: started|started, v/.test(said), 15_000), `udhcpd starts: ${said}`)
  return {
    said: () => said,
    async close() {
      const gone = new Promise((resolve) => child.once('exit', resolve))
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL')
        await gone
      }
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

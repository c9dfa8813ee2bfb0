/** What an etcd says of its own load: readings of its /metrics and of its process. */
import { get } from 'node:http'
import type { StoreMember } from '../testkit/store-servers.ts'

export interface EtcdLoad {
  readonly at: number
  /** Questions of any kind that it was asked, renewals and new watches among them. */
  readonly asked: number
  /** Messages that it has sent to watchers. */
  readonly watchMessages: number
  readonly cpuSeconds: number
  readonly residentBytes: number
  readonly databaseBytes: number
  readonly keys: number
  readonly watchers: number
  readonly openFiles: number
}

export async function readEtcd(member: StoreMember): Promise<EtcdLoad> {
  const text = await page(`http://${member.endpoint}/metrics`)
  const lines = text.split('\n').map((line) => /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line))
  const sum = (name: string, has = '') =>
    lines.reduce((total, m) => (m?.[1] === name && (m[2] ?? '').includes(has) ? total + Number(m[3]) : total), 0)
  return {
    at: Date.now(),
    asked: sum('grpc_server_started_total'),
    watchMessages: sum('grpc_server_msg_sent_total', 'grpc_method="Watch"'),
    cpuSeconds: sum('process_cpu_seconds_total'),
    residentBytes: sum('process_resident_memory_bytes'),
    databaseBytes: sum('etcd_mvcc_db_total_size_in_bytes'),
    keys: sum('etcd_debugging_mvcc_keys_total'),
    watchers: sum('etcd_debugging_mvcc_watcher_total'),
    openFiles: sum('process_open_fds'),
  }
}

function page(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const req = get(url, { agent: false, timeout: 30_000 }, (res) => {
      const chunks: Buffer[] = []
      res.on('data', (chunk: Buffer) => chunks.push(chunk))
      res.on('end', () => resolve(Buffer.concat(chunks).toString()))
      res.on('error', reject)
    })
    req.on('timeout', () => req.destroy(new Error(`${url} does not answer`)))
    req.on('error', reject)
  })
}

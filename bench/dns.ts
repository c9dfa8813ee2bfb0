/**
 * Local DNS answers per second and their latency: the embedded resolver against dnsmasq (when it is installed), same names, same load
 * generator, alternating in one run, in a network namespace of its own. `tsx bench/dns.ts [seconds] [rounds]`.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { ipFromBigInt, ipToBigInt, parseIp } from '../src/base/address.ts'
import { DnsService } from '../src/dns/service.ts'
import { homeNetns, initNetns } from '../src/sys/netns.ts'
import { isolate } from '../testkit/isolated.ts'
import type { LoadResult } from './dns-load.ts'

isolate()

const NAMES = 1000
const OUTSTANDING = [20, 64]
const seconds = Number(process.argv[2] ?? 3)
const rounds = Number(process.argv[3] ?? 3)
const addressOf = (i: number) => ipFromBigInt(4, ipToBigInt(parseIp('10.20.0.1')) + BigInt(i))

async function load(ip: string, port: number, outstanding: number): Promise<LoadResult> {
  const program = fileURLToPath(new URL('./dns-load.ts', import.meta.url))
  const argv = [...process.execArgv, program, ip, String(port), String(NAMES), String(outstanding), String(seconds)]
  const { stdout } = await promisify(execFile)(process.execPath, argv)
  return JSON.parse(stdout) as LoadResult
}

/** `ttl` 0: its answers may not be kept. */
function startDnsmasq(folder: string, port: number, ttl: number): ChildProcess | undefined {
  if (spawnSync('dnsmasq', ['--version']).status !== 0) return undefined
  const config = join(folder, `dnsmasq${port}.conf`)
  const lines = Array.from({ length: NAMES }, (_, i) => `host-record=host${i}.bench,${addressOf(i)}`)
  writeFileSync(
    config,
    [
      `port=${port}`,
      `local-ttl=${ttl}`,
      'listen-address=127.0.0.1',
      'bind-interfaces',
      'no-resolv',
      'no-hosts',
      'user=root',
      ...lines,
      '',
    ].join('\n'),
  )
  return spawn('dnsmasq', ['--keep-in-foreground', `--conf-file=${config}`, `--pid-file=${config}.pid`], { stdio: 'ignore' })
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0

/** Prints the medians; returns answers per second. */
function report(who: string, outstanding: number, results: readonly LoadResult[]): number {
  const of = (pick: (result: LoadResult) => number) => median(results.map(pick))
  const rate = of((result) => result.answersPerSecond)
  const losses = results.reduce((n, { lost, wrong }) => n + lost + wrong, 0)
  const times = `p50 ${of((r) => r.p50Us)} us, p99 ${of((r) => r.p99Us)} us, p99.9 ${of((r) => r.p999Us)} us`
  console.log(`${who.padEnd(20)} ${outstanding} outstanding: ${rate} answers/s, ${times}, ${losses} lost or wrong`)
  return rate
}

await initNetns()
const folder = mkdtempSync(join(tmpdir(), 'causeway-dns-'))
const service = await DnsService.start()
const view = { networks: [{ id: 'n', name: 'net', aliases: {} }], upstreams: [], hasGateway: true, ndotsSet: false }
const { udpPort } = service.addSandbox('s', homeNetns(), view)
for (let i = 0; i < NAMES; i++) service.setEndpoint('n', { endpointId: `e${i}`, names: [`host${i}.bench`], ipv4: addressOf(i) })
const rival = startDnsmasq(folder, 5353, 0)
const keepable = rival === undefined ? undefined : startDnsmasq(folder, 5354, 600)
const behind = [5353, 5354].map((port) => {
  const upstreams = [{ ip: parseIp('127.0.0.1'), port, from: 'host' as const }]
  return service.addSandbox(`behind ${port}`, homeNetns(), { ...view, networks: [], upstreams }).udpPort
})
try {
  for (const outstanding of OUTSTANDING) {
    const ours: LoadResult[] = []
    const theirs: LoadResult[] = []
    for (let round = 0; round < rounds; round++) {
      ours.push(await load('127.0.0.11', udpPort, outstanding))
      if (rival !== undefined) theirs.push(await load('127.0.0.1', 5353, outstanding))
    }
    const own = report('causeway', outstanding, ours)
    if (theirs.length > 0) console.log(`ratio to dnsmasq: ${(own / report('dnsmasq', outstanding, theirs)).toFixed(2)}`)
  }
  if (rival !== undefined) {
    report('causeway, forwarding', 20, [await load('127.0.0.11', behind[0] as number, 20)])
    report('causeway, from cache', 20, [await load('127.0.0.11', behind[1] as number, 20)])
  }
} finally {
  await service.close()
  rival?.kill()
  keepable?.kill()
  rmSync(folder, { recursive: true })
}

/** What the overlay costs between two hosts of a lab, against the bare path below it: TCP throughput and round-trip time, in turns. */
import { execFile, spawn } from 'node:child_process'
import type { Lab } from './lab.ts'
import { systemEnv } from './lab-net.ts'

export interface Path {
  /** Gb/s of one TCP stream, each round. */
  readonly tcp: number[]
  /** Microseconds of a small packet there and back (median of a flood ping), each round. */
  readonly rtt: number[]
}

/** Where a measurement begins or ends. */
export interface End {
  /** Namespace file. */
  readonly netns: string
  readonly ip: string
}

function run(netns: string, ...argv: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile('nsenter', [`--net=${netns}`, ...argv], { env: systemEnv, timeout: 60_000 }, (error, out) =>
      error ? reject(error) : resolve(out),
    )
  })
}

/** One round of both from one end to the other, added to `path`. */
export async function measurePath(from: End, to: End, seconds: number, path: Path): Promise<void> {
  const server = spawn('nsenter', [`--net=${to.netns}`, 'iperf3', '-s', '-1', '--forceflush'], {
    env: systemEnv,
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const ended = new Promise((resolve) => server.once('close', resolve))
  await new Promise((resolve) => server.stdout.once('data', resolve))
  const report = JSON.parse(await run(from.netns, 'iperf3', '-J', '-t', String(seconds), '-c', to.ip))
  await ended
  path.tcp.push(report.end.sum_received.bits_per_second / 1e9)
  const pings = await run(from.netns, 'ping', '-f', '-q', '-n', '-c', '20000', to.ip)
  path.rtt.push(Number(/= [\d.]+\/([\d.]+)\//.exec(pings)?.[1]) * 1000)
}

/** Needs two hosts and one container of `network` on each, `a` on the first and `b` on the second. */
export async function measureOverlay(lab: Lab, network: string, a: string, b: string, rounds = 5, seconds = 2) {
  const end = async (i: number, container: string): Promise<End> => {
    const { json } = await (lab.engines[i] as Lab['engines'][number]).api('GET', `/containers/${container}/json`)
    // the file is mounted in the host's mounts; its process shows the same namespace here
    return { netns: `/proc/${json.State.Pid}/ns/net`, ip: json.NetworkSettings.Networks[network].IPAddress }
  }
  const [one, two] = lab.net.hosts as unknown as [End, End]
  const [c1, c2] = [await end(0, a), await end(1, b)]
  const underlay: Path = { tcp: [], rtt: [] }
  const overlay: Path = { tcp: [], rtt: [] }
  for (let i = 0; i < rounds; i++) {
    await measurePath(one, two, seconds, underlay)
    await measurePath(c1, c2, seconds, overlay)
  }
  return { underlay, overlay }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((x, y) => x - y)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

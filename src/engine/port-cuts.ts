/** Which bindings go when ports are taken back, and what is left of an interval of which only some go (pure). */
import type { PortBinding, PortRequest } from '../model/endpoint.ts'

export interface PortCut {
  /** Bindings that end, whole intervals included. */
  readonly gone: readonly PortBinding[]
  /** What is left of those intervals, in their place. */
  readonly left: readonly PortBinding[]
  /** The ports that end: single ones out of an interval, or a whole binding. */
  readonly ended: readonly PortBinding[]
  /** Requests that meant nothing that is published. */
  readonly unknown: readonly PortRequest[]
  /** True for a request of the sandbox that none of the ports taken back was published for. */
  stays(request: PortRequest): boolean
}

/** Takes `requests` out of `bindings`: host port 0 = whatever the container port is published as, host address '' = on every one. */
export function cutPorts(bindings: readonly PortBinding[], requests: readonly PortRequest[]): PortCut {
  const byPort = new Map<string, PortRequest[]>()
  for (const r of requests) byPort.set(portKey(r.proto, r.containerPort), [...(byPort.get(portKey(r.proto, r.containerPort)) ?? []), r])
  const met = new Set<PortRequest>()
  const hostPorts = new Map<string, number[]>()
  const gone: PortBinding[] = []
  const left: PortBinding[] = []
  const ended: PortBinding[] = []
  for (const binding of bindings) {
    const kept: number[] = []
    const taken: number[] = []
    for (let i = 0; i < binding.count; i++) {
      const key = portKey(binding.proto, binding.containerPort + i)
      const hostPort = binding.hostPort === 0 ? 0 : binding.hostPort + i
      const meant = (byPort.get(key) ?? []).filter((r) => (r.hostPort === 0 || r.hostPort === hostPort) && onAddress(r, binding))
      ;(meant.length === 0 ? kept : taken).push(i)
      if (meant.length > 0) hostPorts.set(key, [...(hostPorts.get(key) ?? []), hostPort])
      for (const r of meant) met.add(r)
    }
    if (kept.length === binding.count) continue
    gone.push(binding)
    ended.push(...(kept.length === 0 ? [binding] : taken.map((i) => piece(binding, i, 1))))
    left.push(...runs(kept).map(([first, count]) => piece(binding, first, count)))
  }
  const stays = ({ proto, containerPort, hostPort, hostPortEnd }: PortRequest) => {
    const ports = hostPorts.get(portKey(proto, containerPort)) ?? []
    return hostPort === 0 ? ports.length === 0 : !ports.some((p) => hostPort <= p && p <= hostPortEnd)
  }
  return { gone, left, ended, unknown: requests.filter((r) => !met.has(r)), stays }
}

const portKey = (proto: string, port: number) => `${port}/${proto}`

const onAddress = (request: PortRequest, binding: PortBinding) => request.hostIp === '' || request.hostIp === binding.hostIp

function piece(binding: PortBinding, first: number, count: number): PortBinding {
  return { ...binding, containerPort: binding.containerPort + first, hostPort: binding.hostPort + first, count }
}

/** Numbers in rising order as [first, how many]. */
function runs(numbers: readonly number[]): [first: number, count: number][] {
  const out: [number, number][] = []
  for (const n of numbers) {
    const last = out.at(-1)
    if (last !== undefined && last[0] + last[1] === n) last[1]++
    else out.push([n, 1])
  }
  return out
}

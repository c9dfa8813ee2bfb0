/**
 * Who publishes which host port (pure). Single ports are keyed by protocol and number, ranges are kept as ranges, so that
 * a range of thousands costs as much as one port.
 */
import { familyOf, type Ip } from '../base/address.ts'
import type { PortBinding, PortRequest, Proto } from '../model/endpoint.ts'

interface Holder {
  readonly ip: Ip
  readonly first: number
  readonly last: number
  readonly holder: string
}

const ANY: ReadonlySet<string> = new Set(['0.0.0.0', '::'])

function overlap(a: Ip, b: Ip): boolean {
  return familyOf(a) === familyOf(b) && (a === b || ANY.has(a) || ANY.has(b))
}

export class PortTable {
  readonly #single = new Map<string, Holder[]>()
  readonly #ranges = new Map<Proto, Holder[]>()

  /** The holder of any port in [first, last] on an overlapping address, or undefined when all are free. */
  holderOf(proto: Proto, ip: Ip, first: number, last = first): { holder: string; port: number } | undefined {
    for (const range of this.#ranges.get(proto) ?? [])
      if (range.first <= last && first <= range.last && overlap(range.ip, ip))
        return { holder: range.holder, port: Math.max(first, range.first) }
    if (last - first > this.#single.size) {
      for (const [key, holders] of this.#single) {
        const [p, n] = key.split('/') as [Proto, string]
        const hit = p === proto && Number(n) >= first && Number(n) <= last ? holders.find((h) => overlap(h.ip, ip)) : undefined
        if (hit) return { holder: hit.holder, port: hit.first }
      }
      return undefined
    }
    for (let port = first; port <= last; port++) {
      const hit = this.#single.get(`${proto}/${port}`)?.find((h) => overlap(h.ip, ip))
      if (hit) return { holder: hit.holder, port }
    }
    return undefined
  }

  add(binding: PortBinding, holder: string): void {
    if (binding.hostPort === 0) return
    const entry = { ip: binding.hostIp, first: binding.hostPort, last: binding.hostPort + binding.count - 1, holder }
    const list = this.#listFor(binding, true) as Holder[]
    list.push(entry)
  }

  remove(binding: PortBinding, holder: string): void {
    const list = this.#listFor(binding, false)
    const at = list?.findIndex((h) => h.ip === binding.hostIp && h.first === binding.hostPort && h.holder === holder) ?? -1
    if (list === undefined || at < 0) return
    list.splice(at, 1)
    if (list.length === 0 && binding.count === 1) this.#single.delete(`${binding.proto}/${binding.hostPort}`)
  }

  #listFor(binding: PortBinding, create: boolean): Holder[] | undefined {
    const map: Map<string, Holder[]> = binding.count > 1 ? this.#ranges : this.#single
    const key = binding.count > 1 ? binding.proto : `${binding.proto}/${binding.hostPort}`
    let list = map.get(key)
    if (list === undefined && create) {
      list = []
      map.set(key, list)
    }
    return list
  }
}

/** Shorter runs are published port by port, each really bound; longer ones become one interval. */
const RANGE_MIN = 32

/**
 * Joins requests for consecutive ports with equal container and host numbers into runs (`docker run -p 8000-8999:8000-8999`
 * arrives as a thousand requests). A request with count 1 keeps its choice range.
 */
export function coalesce(requests: readonly PortRequest[]): { request: PortRequest; count: number }[] {
  const same = (r: PortRequest) => r.hostPort !== 0 && r.hostPort === r.hostPortEnd && r.hostPort === r.containerPort
  const runs = requests.filter(same).sort((a, b) => key(a).localeCompare(key(b)) || a.hostPort - b.hostPort)
  const out: { request: PortRequest; count: number }[] = requests.filter((r) => !same(r)).map((request) => ({ request, count: 1 }))
  for (let i = 0; i < runs.length; ) {
    const start = runs[i] as PortRequest
    let n = 1
    while (
      i + n < runs.length &&
      key(runs[i + n] as PortRequest) === key(start) &&
      (runs[i + n] as PortRequest).hostPort === start.hostPort + n
    )
      n++
    if (n >= RANGE_MIN) out.push({ request: start, count: n })
    else for (let k = 0; k < n; k++) out.push({ request: runs[i + k] as PortRequest, count: 1 })
    i += n
  }
  // explicit ports first, then choices from a range, then ephemeral ones: a choice must not take what somebody names
  const rank = (r: PortRequest) => (r.hostPort === 0 ? 2 : r.hostPort === r.hostPortEnd ? 0 : 1)
  return out.sort((a, b) => rank(a.request) - rank(b.request))
}

const key = (r: PortRequest) => `${r.proto} ${r.hostIp}`

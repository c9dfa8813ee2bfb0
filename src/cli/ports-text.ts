/** The PORTS column: neighbours that map to themselves are drawn together as ranges. */
import type { PortSummary } from '../client/types.ts'

interface Range {
  readonly ip: string
  readonly protocol: string
  first: number
  last: number
}

/** `0.0.0.0:53->53/udp, 99/tcp, 0.0.0.0:8080->80/tcp`: ranges and exposed ports first, then mappings to other numbers. */
export function displayPorts(ports: readonly PortSummary[]): string {
  const closed: string[] = []
  const open = new Map<string, Range>()
  const mapped: string[] = []
  for (const port of ports.toSorted(compare)) {
    const ip = port.IP ?? ''
    if (ip !== '' && port.PublicPort !== port.PrivatePort) {
      mapped.push(`${hostPort(ip, String(port.PublicPort ?? 0))}->${port.PrivatePort}/${port.Type}`)
      continue
    }
    const key = `${ip}/${port.Type}`
    const range = open.get(key)
    if (range !== undefined && port.PrivatePort === range.last + 1) {
      range.last++
      continue
    }
    if (range === undefined) open.set(key, { ip, protocol: port.Type, first: port.PrivatePort, last: port.PrivatePort })
    else {
      closed.push(textOf(range))
      range.first = port.PrivatePort
      range.last = port.PrivatePort
    }
  }
  return [...closed, ...[...open.values()].map(textOf), ...mapped].join(', ')
}

function textOf({ ip, protocol, first, last }: Range): string {
  const span = first === last ? String(first) : `${first}-${last}`
  return ip === '' ? `${span}/${protocol}` : `${hostPort(ip, span)}->${span}/${protocol}`
}

function compare(a: PortSummary, b: PortSummary): number {
  const text = (x = '', y = '') => (x < y ? -1 : x > y ? 1 : 0)
  return a.PrivatePort - b.PrivatePort || text(a.IP, b.IP) || (a.PublicPort ?? 0) - (b.PublicPort ?? 0) || text(a.Type, b.Type)
}

/** IPv6 in brackets. */
export function hostPort(ip: string, port: string): string {
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`
}

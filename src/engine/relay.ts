/**
 * Userland relays for the few paths that the kernel's DNAT cannot take: an IPv6 host address to an IPv4-only container,
 * and [::1] of the host. Everything else never comes here. A relay loses the client's address; the API says so.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { createConnection, createServer, type Socket } from 'node:net'
import type { Ip } from '../base/address.ts'
import type { Clock } from '../base/ports.ts'

export interface Relay {
  close(): void
}

/** Accepts on a listening descriptor (which it takes over) and connects each client to the container. Half-closes travel both ways. */
export function relayTcp(fd: number, target: { ip: Ip; port: number }): Relay {
  const open = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    const upstream = createConnection({ host: target.ip, port: target.port, allowHalfOpen: true })
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      open.add(socket)
      socket.on('error', () => other.destroy())
      socket.on('close', () => {
        open.delete(socket)
        if (socket.destroyed && !socket.readableEnded) other.destroy()
      })
    }
    upstream.once('connect', () => {
      client.pipe(upstream)
      upstream.pipe(client)
    })
  })
  server.on('error', () => {}) // a descriptor that went bad: the port stays held by nobody, restart of the binding heals it
  server.listen({ fd })
  server.unref()
  return {
    close() {
      server.close()
      for (const socket of open) socket.destroy()
    },
  }
}

/** One upstream socket per client, dropped after 90 s without traffic (as docker-proxy does). */
export function relayUdp(fd: number, target: { ip: Ip; port: number }, clock: Clock): Relay {
  const IDLE_MS = 90_000
  const flows = new Map<string, { socket: UdpSocket; cancel: () => void }>()
  const server = createSocket({ type: 'udp6' })
  server.bind({ fd })
  server.unref()
  server.on('error', () => {})
  server.on('message', (data, from) => {
    const key = `${from.address} ${from.port}`
    let flow = flows.get(key)
    const expire = () =>
      clock.after(IDLE_MS, () => {
        flows.get(key)?.socket.close()
        flows.delete(key)
      })
    if (flow === undefined) {
      const socket = createSocket(target.ip.includes(':') ? 'udp6' : 'udp4')
      socket.unref()
      socket.on('error', () => {})
      socket.on('message', (reply) => server.send(reply, from.port, from.address))
      flow = { socket, cancel: expire() }
      flows.set(key, flow)
    } else {
      flow.cancel()
      flow.cancel = expire()
    }
    flow.socket.send(data, target.port, target.ip)
  })
  return {
    close() {
      server.close()
      for (const flow of flows.values()) {
        flow.cancel()
        flow.socket.close()
      }
    },
  }
}

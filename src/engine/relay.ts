/**
 * Userland relays for the few paths that the kernel's DNAT cannot take: an IPv6 host address to an IPv4-only container,
 * and [::1] of the host. Everything else never comes here. A relay loses the client's address; the API says so.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { createConnection, createServer, type Socket } from 'node:net'
import type { Ip } from '../base/address.ts'
import type { Clock } from '../base/ports.ts'
import { type AddressedDatagram, AddressedUdp } from '../sys/addressed-udp.ts'
import { close as closeDescriptor } from '../sys/libc.ts'
import type { Reactor } from '../sys/reactor.ts'

/** The part of the reactor that a relay needs. */
export type Readiness = Pick<Reactor, 'onReadable'>

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

/** As docker-proxy does. */
const UDP_IDLE_MS = 90_000
/** A flood from made-up addresses must not take the engine's descriptors. */
const MAX_UDP_FLOWS = 4096
/** Datagrams taken per turn of the event loop. */
const UDP_BATCH = 64

/**
 * One upstream socket per client and asked address, dropped after 90 s without traffic. The answer leaves from the address that
 * was asked. Takes over `fd`, a bound IPv6 socket.
 */
export function relayUdp(fd: number, target: { ip: Ip; port: number }, clock: Clock, reactor: Readiness): Relay {
  const flows = new Map<string, { socket: UdpSocket; cancel: () => void }>()
  const server = new AddressedUdp(fd)
  const forget = (key: string) => {
    flows.get(key)?.socket.close()
    flows.delete(key)
  }
  const openFlow = (key: string, datagram: AddressedDatagram) => {
    const socket = createSocket(target.ip.includes(':') ? 'udp6' : 'udp4')
    socket.unref()
    socket.on('error', () => {}) // the container is not there: datagrams get lost, as on any way
    socket.on('message', (reply) => server.answer(datagram, reply))
    const flow = { socket, cancel: () => {} }
    flows.set(key, flow)
    return flow
  }
  const forward = (datagram: AddressedDatagram) => {
    const key = Buffer.concat([datagram.peer, datagram.at]).toString('latin1')
    if (!flows.has(key) && flows.size >= MAX_UDP_FLOWS) return
    const flow = flows.get(key) ?? openFlow(key, datagram)
    flow.cancel()
    flow.cancel = clock.after(UDP_IDLE_MS, () => forget(key))
    flow.socket.send(datagram.data, target.port, target.ip)
  }
  const subscription = reactor.onReadable(fd, () => {
    for (let i = 0; i < UDP_BATCH; i++) {
      const datagram = server.receive()
      if (datagram === undefined) return
      forward(datagram)
    }
  })
  return {
    close() {
      subscription.close()
      closeDescriptor(fd)
      for (const [key, flow] of flows) {
        flow.cancel()
        forget(key)
      }
    },
  }
}

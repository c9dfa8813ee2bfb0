/**
 * Inside a sandbox, 127.0.0.11:53 leads to the port on which the engine's resolver listens there, and its answers look as if they came
 * from :53; so a container may bind port 53 itself, on any address.
 *
 * The port number is rewritten in the header instead of by NAT: both ends are on this loopback, so nothing has to be remembered, and the
 * sandbox does not start to track every packet of the container only because it has a resolver. Requests are rewritten before a
 * connection tracker of the container's own would see them (raw, -300) and answers after it (input, 100), so that one sees a plain flow.
 */
import { kernelError } from '../sys/libc.ts'
import type { Netns } from '../sys/netns.ts'
import { NftTransactions } from '../sys/nft-transaction.ts'
import { MessageWriter } from '../wire/netlink.ts'
import { beginBatch, endBatch } from '../wire/nfnetlink.ts'
import {
  type Expression,
  equals,
  load,
  loadHeader,
  loadL4Proto,
  readTableComment,
  storeHeader,
  writeBaseChain,
  writeRule,
  writeTable,
  writeTableDeletion,
  writeTableQuery,
} from '../wire/nft-expressions.ts'

const TABLE = 'causeway-dns'
const RESOLVER = Uint8Array.of(127, 0, 0, 11)
const DNS_PORT = 53
const IP_SOURCE = 12
const IP_DESTINATION = 16
const SOURCE_PORT = 0
const DESTINATION_PORT = 2
const RAW = -300
const AFTER_TRACKING = 100

const PROTOCOLS = [
  { name: 'udp', number: 17, checksum: 6 },
  { name: 'tcp', number: 6, checksum: 16 },
] as const

const u16 = (n: number): Uint8Array => Uint8Array.of(n >> 8, n & 255)

function rewrite(address: number, proto: (typeof PROTOCOLS)[number], field: number, from: number, to: number): Expression[] {
  return [
    loadHeader('network', address, 4),
    equals(RESOLVER),
    loadL4Proto,
    equals(Uint8Array.of(proto.number)),
    loadHeader('transport', field, 2),
    equals(u16(from)),
    load(u16(to)),
    storeHeader('transport', field, 2, proto.checksum),
  ]
}

/**
 * Installs the redirect in `ns` as table `ip causeway-dns`, in place of one for other ports; one for the same ports stays as it is.
 * `ports` are where the resolver listens on 127.0.0.11 in there. One transaction; throws NetError and changes nothing when the
 * kernel refuses.
 */
export function installDnsRedirect(ns: Netns, ports: { readonly udp: number; readonly tcp: number }): void {
  const socket = NftTransactions.open(ns)
  try {
    const w = new MessageWriter(4096)
    const comment = `udp ${ports.udp}, tcp ${ports.tcp}`
    writeTableQuery(w, 'ip', TABLE, 1)
    const present = socket.ask(w.bytes(), readTableComment)
    if (present === comment) return
    w.reset()
    writeRedirect(w, ports, comment, present !== undefined)
    const [refusal] = socket.commit(w.bytes()).values()
    if (refusal !== undefined) throw kernelError('redirect DNS in', ns.path, refusal.errno, refusal.text)
  } finally {
    socket.close()
  }
}

/** Takes the redirect of {@link installDnsRedirect} away. One that is not there is fine. */
export function removeDnsRedirect(ns: Netns): void {
  const socket = NftTransactions.open(ns)
  try {
    const w = new MessageWriter(512)
    writeTableQuery(w, 'ip', TABLE, 1)
    if (socket.ask(w.bytes(), readTableComment) === undefined) return
    w.reset()
    beginBatch(w, 2)
    writeTableDeletion(w, 'ip', TABLE, 3)
    endBatch(w, 4)
    const [refusal] = socket.commit(w.bytes()).values()
    if (refusal !== undefined) throw kernelError('end the redirect of DNS in', ns.path, refusal.errno, refusal.text)
  } finally {
    socket.close()
  }
}

function writeRedirect(w: MessageWriter, ports: { readonly udp: number; readonly tcp: number }, comment: string, replace: boolean): void {
  const family = 'ip'
  let seq = 1
  const next = () => ++seq
  beginBatch(w, next())
  writeTable(w, { family, table: TABLE, comment, replace }, next)
  writeBaseChain(w, { family, table: TABLE, name: 'output', hook: 'output', priority: RAW }, next())
  writeBaseChain(w, { family, table: TABLE, name: 'input', hook: 'input', priority: AFTER_TRACKING }, next())
  for (const proto of PROTOCOLS) {
    const out = rewrite(IP_DESTINATION, proto, DESTINATION_PORT, DNS_PORT, ports[proto.name])
    const back = rewrite(IP_SOURCE, proto, SOURCE_PORT, ports[proto.name], DNS_PORT)
    writeRule(w, { family, table: TABLE, chain: 'output', expressions: out }, next())
    writeRule(w, { family, table: TABLE, chain: 'input', expressions: back }, next())
  }
  endBatch(w, next())
}

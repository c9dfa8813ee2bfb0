/**
 * What a host's kernel holds for encrypted overlay networks (pure apart from the derivation of keys): between this host and each peer an
 * association for each direction, policies that demand them for the port of encrypted tunnels, and behind those policies that drop the rest.
 *
 * AES-GCM must never see a key and a sequence number twice. Keys are therefore derived for each direction from the cluster's secret and a
 * number that the sender has chosen anew since its associations began (its nonce): an association that was lost comes back with another key.
 */
import { hkdfSync } from 'node:crypto'
import { familyOf, type Ip } from '../../base/address.ts'
import type { IpsecPolicy, IpsecState } from '../../wire/xfrm.ts'

/** Encrypted networks have a UDP port of their own, so that policies need to know ports only. On the wire all of it is ESP. */
export const ENCRYPTED_VXLAN_PORT = 4790
/** Marks associations as ours. */
export const REQID = 0xca05e
const PEER_PRIORITY = 1000
const BLOCK_PRIORITY = 2000

const KEY_BYTES = 36
const SMALLEST_SPI = 256

export interface Peer {
  readonly address: Ip
  /** Newest first; all of them may still be in use. */
  readonly nonces: readonly string[]
}

export interface IpsecFacts {
  readonly vtep: Ip
  /** The cluster's secrets in hex, newest first. */
  readonly secrets: readonly string[]
  readonly peers: readonly Peer[]
  /** Own nonces, newest first. */
  readonly nonces: readonly string[]
}

/** The association from `src` to `dst` under a secret and the sender's nonce. */
function deriveState(secret: string, nonce: string, src: Ip, dst: Ip): IpsecState {
  const bytes = new Uint8Array(
    hkdfSync('sha256', Buffer.from(secret, 'hex'), Buffer.from(nonce, 'hex'), `causeway overlay ${src} > ${dst}`, 4 + KEY_BYTES),
  )
  const spi = new DataView(bytes.buffer).getUint32(0, false)
  return { src, dst, spi: spi < SMALLEST_SPI ? spi + SMALLEST_SPI : spi, reqid: REQID, key: bytes.slice(4) }
}

/** What peers may send under: every secret with every nonce of theirs. */
export function inboundStates(facts: IpsecFacts): IpsecState[] {
  return facts.peers.flatMap(({ address, nonces }) =>
    facts.secrets.flatMap((secret) => nonces.map((nonce) => deriveState(secret, nonce, address, facts.vtep))),
  )
}

/** What could be sent to a peer under, best first: the newest secret, then the newest nonce. */
export function outboundCandidates(facts: IpsecFacts, peer: Ip): IpsecState[] {
  return facts.secrets.flatMap((secret) => facts.nonces.map((nonce) => deriveState(secret, nonce, facts.vtep, peer)))
}

export function ipsecPolicies(vtep: Ip, peers: readonly Ip[]): IpsecPolicy[] {
  const family = familyOf(vtep)
  const common = { family, port: ENCRYPTED_VXLAN_PORT }
  const blocks: IpsecPolicy[] = [
    { ...common, direction: 'in', dst: vtep, priority: BLOCK_PRIORITY, action: 'block', reqid: 0 },
    { ...common, direction: 'out', src: vtep, priority: BLOCK_PRIORITY, action: 'block', reqid: 0 },
  ]
  const pairs = peers.flatMap((peer): IpsecPolicy[] => [
    { ...common, direction: 'in', src: peer, dst: vtep, priority: PEER_PRIORITY, action: 'esp', reqid: REQID },
    { ...common, direction: 'out', src: vtep, dst: peer, priority: PEER_PRIORITY, action: 'esp', reqid: REQID },
  ])
  return [...blocks, ...pairs]
}

export const stateKey = (s: IpsecState): string => `${s.src} ${s.dst} ${s.spi}`

export const policyKey = (p: IpsecPolicy): string =>
  `${p.direction} ${p.src ?? '*'} ${p.dst ?? '*'} ${p.port} ${p.priority} ${p.action} ${p.reqid}`

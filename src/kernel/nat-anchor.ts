/**
 * Keeps established flows translated while our rules are away. The kernel applies the translation of known flows for as long as some nat
 * chain is registered on the hook (net/netfilter/nf_nat_core.c nf_nat_register_fn); with the last chain gone, an answer to a masqueraded
 * connection reaches the host itself, which resets it. So besides our tables there is one more with empty nat chains, and that one is
 * owned by a socket of this process (NFT_TABLE_F_OWNER, Linux 5.12): no other program can flush or delete it, and the kernel takes it
 * away when the process ends. It never decides about a packet. Its one rule looks at a flow's state, because packets are tracked at all
 * only as long as some expression asks for it (net/netfilter/nf_conntrack_proto.c nf_ct_netns_get); nat chains are asked about first
 * packets only, so nothing else pays for it.
 */
import { Libnftables } from '../sys/libnftables.ts'
import type { Netns } from '../sys/netns.ts'

const TABLE = 'causeway-anchor'

/** After everybody else's chains on the same hook, so that a rule of theirs is always asked first. */
const CHAINS: readonly (readonly [hook: string, priority: number])[] = [
  ['prerouting', -90],
  ['input', 110],
  ['output', -90],
  ['postrouting', 120],
]

export interface NatAnchor {
  /** Takes it away. Idempotent. */
  close(): void
}

/** Drops the anchor in `ns` (this process's own namespace when absent). Throws when the kernel or libnftables knows no owned tables. */
export function holdNat(ns?: Netns): NatAnchor {
  const chains = CHAINS.map(
    ([hook, priority]) => `add chain inet ${TABLE} ${hook} { type nat hook ${hook} priority ${priority}; policy accept; }`,
  )
  // a context of its own: the table belongs to its socket and lives as long
  const library = Libnftables.open(ns)
  try {
    library.run([`add table inet ${TABLE} { flags owner; }`, ...chains, `add rule inet ${TABLE} prerouting ct state new`].join('\n'))
  } catch (error) {
    library.close()
    throw error
  }
  return library
}

/** Offload settings of an interface, through the ioctl that ethtool(8) uses (include/uapi/linux/ethtool.h). */
import { nameOfLink } from './ifindex.ts'
import { AF_INET, check, raw, SOCK_CLOEXEC, SOCK_DGRAM } from './libc.ts'
import { inNetns, type Netns } from './netns.ts'

const SIOCETHTOOL = 0x8946
const ETHTOOL_STXCSUM = 0x17

/**
 * Has the kernel finish checksums before a packet leaves the interface of `ns` with this index, as it must when a program reads the frames at the other
 * end (Open vSwitch's user space datapath). Segmentation offload goes with it (net/core/dev.c netdev_fix_features). Throws what the kernel says.
 */
export function switchOffTxChecksum(ns: Netns, index: number): void {
  const fd = inNetns(ns, () => check(raw.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), 'open socket in', ns.path))
  try {
    const ifname = nameOfLink(fd, index)
    const name = new Uint8Array(16)
    name.set(Buffer.from(ifname).subarray(0, 15))
    const value = new Uint8Array(8)
    new DataView(value.buffer).setUint32(0, ETHTOOL_STXCSUM, true)
    check(raw.ethtool(fd, SIOCETHTOOL, { name, data: value, rest: new Uint8Array(16) }), 'switch off checksum offload of', ifname)
  } finally {
    raw.close(fd)
  }
}

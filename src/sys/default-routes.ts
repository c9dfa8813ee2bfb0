/** Which families have a default route in a namespace, read from /proc: a fifth of the cost of a netlink dump on a fresh socket. */
import { readFileSync } from 'node:fs'
import { inNetns, type Netns } from './netns.ts'

/** Of `families`, those in which an interface of the namespace (not `lo`) carries a default route of the main table. */
export function defaultRoutesIn(ns: Netns, families: readonly (4 | 6)[]): (4 | 6)[] {
  return inNetns(ns, () => families.filter((family) => (family === 4 ? hasDefault4() : hasDefault6())))
}

/** Columns of net/ipv4/fib_trie.c fib_route_seq_show: interface, destination, gateway, flags, …, mask. */
function hasDefault4(): boolean {
  return linesOf('/proc/thread-self/net/route').some(([, destination, , , , , , mask]) => destination === '00000000' && mask === '00000000')
}

/** Columns of net/ipv6/route.c rt6_info_route: destination, its length, …, interface. `lo` carries the kernel's own unreachable route. */
function hasDefault6(): boolean {
  return linesOf('/proc/thread-self/net/ipv6_route').some(
    (columns) => /^0{32}$/.test(columns[0] ?? '') && columns[1] === '00' && columns[9] !== 'lo',
  )
}

function linesOf(path: string): string[][] {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch {
    return [] // a kernel without this family
  }
  return text.split('\n').map((line) => line.trim().split(/\s+/))
}

/** Identifiers: 64 hex digits as Docker's, shown as 12. */
import type { Mac } from './address.ts'
import { macFromBytes } from './address.ts'
import type { Rng } from './ports.ts'

/** Lower-case hexadecimal digits, two for each byte. */
export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('')
}

/** A new 64-digit id. The short form is never all decimal digits: such a name would pass for a number (as Docker does). */
export function newId(rng: Rng): string {
  for (;;) {
    const id = hex(rng.bytes(32))
    if (!/^\d+$/.test(id.slice(0, 12))) return id
  }
}

/** The first twelve digits, as lists and device names show an id. */
export function shortId(id: string): string {
  return id.slice(0, 12)
}

/** A random unicast, locally administered MAC. */
export function randomMac(rng: Rng): Mac {
  const bytes = rng.bytes(6)
  bytes[0] = ((bytes[0] as number) & 0xfc) | 0x02
  return macFromBytes(bytes)
}

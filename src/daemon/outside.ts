/** Everybody outside the engine who brings drivers or decides on networks (a cluster, plugins, a DHCP server), as one. */
import type { Authority } from '../drivers/authority.ts'
import type { Driver } from '../drivers/types.ts'

export interface Outside {
  /** Drivers that are there from the start. */
  readonly drivers?: readonly Driver[]
  /** A driver that was found by its name. */
  findDriver?(name: string): Driver | undefined
  /** Looks for a network or IPAM driver of this name; finding none is fine. */
  discover?(name: string): Promise<void>
  /** Who has to be asked for networks of this driver and IPAM driver. The first who answers is the one. */
  findAuthority?(driver: string, ipamDriver: string): Authority | undefined
  /** Why networks may exist that the engine does not know, as a sentence. */
  whyUnknown?(): string | undefined
}

/** Asks each in turn. */
export function combine(all: readonly Outside[]): Required<Outside> {
  const first = <T>(ask: (one: Outside) => T | undefined): T | undefined => {
    for (const one of all) {
      const answer = ask(one)
      if (answer !== undefined) return answer
    }
    return undefined
  }
  return {
    drivers: all.flatMap((one) => one.drivers ?? []),
    findDriver: (name) => first((one) => one.findDriver?.(name)),
    async discover(name) {
      for (const one of all) await one.discover?.(name)
    },
    findAuthority: (driver, ipamDriver) => first((one) => one.findAuthority?.(driver, ipamDriver)),
    whyUnknown: () => first((one) => one.whyUnknown?.()),
  }
}

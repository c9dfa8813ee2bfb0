/** What this engine looks at in Open vSwitch's database (ovs-vswitchd.conf.db(5)), kept up to date by a monitor (RFC 7047 4.1.5, 4.1.6). */
import { readMap, readNumber, readOptionalText, readText, readUuids, type Uuid } from './values.ts'

export interface BridgeRow {
  readonly id: Uuid
  readonly name: string
  readonly datapathType: string
  readonly ports: readonly Uuid[]
  readonly externalIds: Readonly<Record<string, string>>
}

export interface PortRow {
  readonly id: Uuid
  readonly name: string
  readonly interfaces: readonly Uuid[]
  /** VLAN of an access port. */
  readonly tag: number | undefined
  readonly externalIds: Readonly<Record<string, string>>
}

export interface InterfaceRow {
  readonly id: Uuid
  readonly name: string
  /** Above 0 when the switch has taken the device up; -1 when it could not. */
  readonly ofport: number | undefined
  /** Of the device that the switch opened. */
  readonly ifindex: number
  readonly error: string
}

/** Columns that are asked for. */
export const MONITORED = {
  Open_vSwitch: { columns: ['next_cfg', 'cur_cfg'] },
  Bridge: { columns: ['name', 'datapath_type', 'ports', 'external_ids'] },
  Port: { columns: ['name', 'interfaces', 'tag', 'external_ids'] },
  Interface: { columns: ['name', 'ofport', 'ifindex', 'error'] },
} as const

type Raw = Readonly<Record<string, unknown>>

export class Replica {
  readonly bridges = new Map<Uuid, BridgeRow>()
  readonly ports = new Map<Uuid, PortRow>()
  readonly interfaces = new Map<Uuid, InterfaceRow>()
  readonly #roots = new Map<Uuid, { readonly wanted: number; readonly current: number }>()

  /** The switch has done all that was written so far. */
  get isSettled(): boolean {
    return [...this.#roots.values()].every(({ wanted, current }) => current >= wanted)
  }

  /** Takes `<table-updates>` in. What is no row is passed over. */
  update(tables: unknown): void {
    this.#table(tables, 'Open_vSwitch', this.#roots, (_id, row) => ({
      wanted: readNumber(row['next_cfg']) ?? 0,
      current: readNumber(row['cur_cfg']) ?? 0,
    }))
    this.#table(tables, 'Bridge', this.bridges, (id, row) => ({
      id,
      name: readText(row['name']),
      datapathType: readText(row['datapath_type']),
      ports: readUuids(row['ports']),
      externalIds: readMap(row['external_ids']),
    }))
    this.#table(tables, 'Port', this.ports, (id, row) => ({
      id,
      name: readText(row['name']),
      interfaces: readUuids(row['interfaces']),
      tag: readNumber(row['tag']),
      externalIds: readMap(row['external_ids']),
    }))
    this.#table(tables, 'Interface', this.interfaces, (id, row) => ({
      id,
      name: readText(row['name']),
      ofport: readNumber(row['ofport']),
      ifindex: readNumber(row['ifindex']) ?? 0,
      error: readOptionalText(row['error']),
    }))
  }

  #table<T>(tables: unknown, name: string, rows: Map<Uuid, T>, read: (id: Uuid, row: Raw) => T): void {
    const changes = objectOf(objectOf(tables)?.[name])
    if (changes === undefined) return
    for (const [id, change] of Object.entries(changes)) {
      const now = objectOf(objectOf(change)?.['new'])
      if (now === undefined) rows.delete(id)
      else rows.set(id, read(id, now))
    }
  }

  bridge(name: string): BridgeRow | undefined {
    return [...this.bridges.values()].find((row) => row.name === name)
  }

  port(name: string): PortRow | undefined {
    return [...this.ports.values()].find((row) => row.name === name)
  }

  interface(name: string): InterfaceRow | undefined {
    return [...this.interfaces.values()].find((row) => row.name === name)
  }

  bridgeOf(port: Uuid): BridgeRow | undefined {
    return [...this.bridges.values()].find((row) => row.ports.includes(port))
  }
}

function objectOf(value: unknown): Raw | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Raw) : undefined
}

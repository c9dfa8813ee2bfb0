/** What Causeway's own endpoints (`/causeway/v1/...`) answer: the engine makes these, the client and the command read them. */

/** Where one endpoint of a container is, inside and outside. */
export interface VethRow {
  readonly container: string
  readonly containerId: string
  readonly network: string
  readonly driver: string
  /** Inside the container. */
  readonly interface: string
  readonly mac: string
  readonly ipv4: string
  readonly ipv6: string
  /** On the host. */
  readonly hostInterface: string
  readonly hostIndex: number
  readonly bridge: string
  readonly state: string
  readonly mtu: number
  readonly sandbox: string
}

/** A wire as it is shown. */
export interface Wire {
  readonly id: string
  readonly container: string
  readonly containerId: string
  readonly netns: string
  readonly bridge: string
  readonly hostInterface: string
  readonly interface: string
  readonly addresses: readonly string[]
  readonly gateways: readonly string[]
  readonly mac: string
  readonly vlan: number
  /** `up`; `waiting` for its container to run; `gone` with its namespace; `down` when somebody took it away or down. */
  readonly state: 'up' | 'down' | 'waiting' | 'gone'
}

/** One thing that `causeway doctor` looked at on this host. */
export interface Check {
  readonly area: 'kernel' | 'programs' | 'forwarding' | 'firewall' | 'subnets' | 'limits'
  readonly name: string
  readonly state: 'ok' | 'missing' | 'note'
  /** What was found. */
  readonly found: string
  /** What does not work without it, and what to do. */
  readonly cost: string
}

/** Drift that the reconciler repaired: what was wrong, what was done. */
export interface RepairEvent {
  readonly at: number
  readonly subject: string
  readonly wrong: string
  readonly repair: string
}

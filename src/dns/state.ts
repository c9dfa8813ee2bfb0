/** What the DNS thread was told and still holds, so that a new thread can be told the same. Pure. */
import type { DnsCommand } from './types.ts'

type Of<Op extends DnsCommand['op']> = Extract<DnsCommand, { op: Op }>

export class DnsState {
  readonly #sandboxes = new Map<string, Of<'addSandbox'>>()
  readonly #records = new Map<string, Map<string, Of<'setEndpoint'>>>()
  #hostUpstreams: Of<'hostUpstreams'> | undefined

  note(command: DnsCommand): void {
    switch (command.op) {
      case 'addSandbox':
        this.#sandboxes.set(command.id, command)
        break
      case 'setView': {
        const sandbox = this.#sandboxes.get(command.id)
        if (sandbox !== undefined) this.#sandboxes.set(command.id, { ...sandbox, view: command.view })
        break
      }
      case 'removeSandbox':
        this.#sandboxes.delete(command.id)
        break
      case 'setEndpoint': {
        const records = this.#records.get(command.networkId) ?? new Map<string, Of<'setEndpoint'>>()
        this.#records.set(command.networkId, records.set(command.record.endpointId, command))
        break
      }
      case 'removeEndpoint':
        this.#records.get(command.networkId)?.delete(command.endpointId)
        break
      case 'removeNetwork':
        this.#records.delete(command.networkId)
        break
      case 'hostUpstreams':
        this.#hostUpstreams = command
        break
      case 'stats':
      case 'close':
        break
    }
  }

  /** Commands that bring a fresh thread to this state; names before the sockets, so that no question meets a half-filled zone. */
  replay(): DnsCommand[] {
    return [
      ...(this.#hostUpstreams === undefined ? [] : [this.#hostUpstreams]),
      ...[...this.#records.values()].flatMap((records) => [...records.values()]),
      ...this.#sandboxes.values(),
    ]
  }
}

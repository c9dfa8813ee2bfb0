/**
 * Sandboxes of another engine's containers (`mode: 'lent'`): their interfaces are made here, on the host, and the other engine moves
 * them into its container and configures them there. Our side is the outer end, the firewall, the published ports and the record.
 */
import { LENT_KEY } from '../model/endpoint.ts'
import { homeNetns } from '../sys/netns.ts'
import { bringIn } from './plugs.ts'
import type { SandboxRecord } from './records.ts'
import { SandboxKernel } from './sandbox-kernel.ts'
import type { Parts } from './sandbox-parts.ts'
import type { UndoStack } from './undo.ts'

/** Makes the interfaces of all endpoints, under the names that the other engine is told. */
export function lendOut(parts: Parts, record: SandboxRecord, undo: UndoStack): void {
  SandboxKernel.with(LENT_KEY, (kernel) => {
    for (const at of parts.attachments.of(record))
      if (at.record.ifname !== '') bringIn(parts, kernel, parts.attachments.wanted(at, homeNetns().fd), LENT_KEY, undo)
  })
}

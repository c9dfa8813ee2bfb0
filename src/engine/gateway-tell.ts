/** Authorities hear which of their endpoints carries a sandbox's way out, and each time that another one does. */
import { messageOf } from '../base/errors.ts'
import { finalOf } from './asking.ts'
import type { Attached } from './attachments.ts'
import type { SandboxRecord } from './records.ts'
import type { Parts } from './sandbox-parts.ts'

/** The endpoints over which a sandbox reaches the outside: of both families, of which one may be another endpoint's. */
export function gatewaysOf({ attachments }: Parts, record: SandboxRecord | undefined): Attached[] {
  if (record === undefined) return []
  const { v4, v6 } = attachments.gateways(record)
  const found = [v4, v6].filter((at): at is Attached => at !== undefined && !at.network.internal)
  return found.filter((at, i) => found.findIndex((other) => other.record.id === at.record.id) === i)
}

/** What has changed from `before` to `after`. Throws what an authority says of its new gateway. */
export async function tellGateways(parts: Parts, before: SandboxRecord | undefined, after: SandboxRecord | undefined): Promise<void> {
  if (after === undefined) return
  const [old, now] = [gatewaysOf(parts, before), gatewaysOf(parts, after)]
  const has = (list: readonly Attached[], id: string) => list.some((at) => at.record.id === id)
  for (const at of parts.attachments.of(after))
    if (has(old, at.record.id) && !has(now, at.record.id))
      await parts.desk.of(at.network)?.setGateway?.(at.network, finalOf(after, at), false)
  for (const at of now) if (!has(old, at.record.id)) await parts.desk.of(at.network)?.setGateway?.(at.network, finalOf(after, at), true)
}

/** The same when it cannot be undone any more: what an authority says is logged. */
export async function tellGatewaysAfterwards(
  parts: Parts,
  before: SandboxRecord | undefined,
  after: SandboxRecord | undefined,
): Promise<void> {
  try {
    await tellGateways(parts, before, after)
  } catch (error) {
    parts.env.log.warn('a network has not become the way out of a container', { container: after?.containerName, error: messageOf(error) })
  }
}

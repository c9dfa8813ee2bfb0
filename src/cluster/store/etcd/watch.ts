/** Follows one prefix over etcd's watch stream: JSON objects, one per line, for as long as the connection lasts. */
import { StoreFault, type StoreHttp } from '../http.ts'
import { integer } from '../timeline.ts'
import type { StoreEvent } from '../types.ts'
import type { StoreMember } from '../url.ts'
import { type EtcdGateway, RevisionGone, refusalOf } from './gateway.ts'
import { base64, endOfPrefix, entryOf, type GatewayError, type WatchAnswer } from './messages.ts'

export interface Position {
  readonly generation: number
  /** The last revision that was seen. */
  revision: bigint
}

export interface WatchWanted {
  /** Our folder, and the prefix below it. */
  readonly root: string
  readonly prefix: string
  readonly position: Position
  readonly versionOf: (modRevision: string) => string
  readonly emit: (events: readonly StoreEvent[], revision: string) => void
  /** Told of every piece that arrives. */
  readonly count: (bytes: number, events: number) => void
}

const HEAD_MS = 5000
/** Letters of one line; etcd's own limit for one answer is far below. */
const MAX_LINE = 64 << 20

/** Ends when `signal` aborts (true) or when revisions are missing (false). Throws {@link StoreFault} when the member does. */
export async function followWatch(
  http: StoreHttp,
  gateway: EtcdGateway,
  member: StoreMember,
  wanted: WatchWanted,
  signal: AbortSignal,
): Promise<boolean> {
  const headers = await gateway.headers(member, HEAD_MS)
  if (signal.aborted) return true
  const prefix = wanted.root + wanted.prefix
  const request = {
    create_request: {
      key: base64(prefix),
      range_end: endOfPrefix(prefix),
      start_revision: String(wanted.position.revision + 1n),
      progress_notify: true,
    },
  }
  return new Promise((resolve, reject) => {
    let rest: Buffer[] = []
    let restBytes = 0
    let status = 0
    const end = (settle: () => void) => {
      signal.removeEventListener('abort', onAbort)
      stream.close()
      settle()
    }
    const onAbort = () => end(() => resolve(true))
    const line = (text: string) => {
      const outcome = status === 200 ? readLine(text, wanted, gateway) : gateway.faultOf(refusalOf(text, status))
      if (outcome === undefined) return
      if (outcome instanceof RevisionGone) return end(() => resolve(false))
      gateway.forgetToken()
      end(() => reject(outcome))
    }
    // with "hasleader" a member that lost the others ends the stream instead of keeping silent (clientv3.WithRequireLeader)
    const stream = http.stream(
      member,
      {
        method: 'POST',
        path: '/v3/watch',
        headers: { ...headers, 'grpc-metadata-hasleader': 'true' },
        body: JSON.stringify(request),
        timeoutMs: HEAD_MS,
        isWatch: true,
      },
      {
        onHead(code) {
          status = code
        },
        onData(chunk) {
          wanted.count(chunk.length, 0)
          let from = 0
          for (let at = chunk.indexOf(10); at >= 0 && !signal.aborted; at = chunk.indexOf(10, from)) {
            const text = Buffer.concat([...rest, chunk.subarray(from, at)]).toString('utf8')
            rest = []
            restBytes = 0
            from = at + 1
            if (text.trim() !== '') line(text)
          }
          if (from < chunk.length) rest.push(chunk.subarray(from))
          restBytes += chunk.length - from
          // too much at once: reading everything page by page is the way out
          if (restBytes > MAX_LINE) end(() => resolve(false))
        },
        onEnd(fault) {
          const text = Buffer.concat(rest).toString('utf8')
          if (fault === undefined && text.trim() !== '') line(text)
          end(() => reject(fault ?? new StoreFault('it ended the watch', { sent: true })))
        },
      },
    )
    signal.addEventListener('abort', onAbort, { once: true })
  })
}

/** Undefined: go on. */
function readLine(text: string, wanted: WatchWanted, gateway: EtcdGateway): StoreFault | RevisionGone | undefined {
  let message: { readonly result?: WatchAnswer } & GatewayError
  try {
    message = JSON.parse(text) as typeof message
  } catch {
    return new StoreFault('it does not answer as etcd does: not JSON', { sent: true })
  }
  const { result } = message
  if (result === undefined) {
    const refusal = refusalOf(text, 200)
    const fault = gateway.faultOf(refusal)
    // an answer that is too large would be too large again
    return fault instanceof StoreFault && fault.tooLarge ? new RevisionGone(refusal.message) : fault
  }
  if (result.compact_revision !== undefined && result.compact_revision !== '0') return new RevisionGone('compacted')
  if (result.canceled === true) {
    const reason = result.cancel_reason ?? 'it cancelled the watch'
    return gateway.faultOf({ code: 0, message: reason })
  }
  const { position } = wanted
  const events: StoreEvent[] = []
  for (const { type, kv } of result.events ?? []) {
    if (typeof kv !== 'object' || kv === null) continue
    const entry = entryOf(kv, wanted.root, wanted.versionOf)
    const modRevision = integer(kv.mod_revision)
    if (modRevision > position.revision) position.revision = modRevision
    if (entry === undefined) continue
    events.push(type === 'DELETE' ? { kind: 'delete', key: entry.key } : { kind: 'put', ...entry })
  }
  // an answer without events says how far the member has come; then compaction up to there takes nothing from us
  const reached = integer(result.header?.revision)
  if (result.created !== true && (result.events?.length ?? 0) === 0 && reached > position.revision) position.revision = reached
  wanted.count(0, events.length)
  if (events.length > 0) wanted.emit(events, wanted.versionOf(String(position.revision)))
  return undefined
}

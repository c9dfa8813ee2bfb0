/** `/causeway/v1/cluster…`: hosts of the cluster, what they own, whether their kernels agree, and their eviction. */
import { NetError } from '../../base/errors.ts'
import { badRequest } from '../errors.ts'
import type { Extension } from '../types.ts'

const BASE = '/causeway/v1/cluster'
const MAX_VERIFY_SECONDS = 120

/** What the routes need of the cluster's service; all answers are JSON as they are. */
export interface ClusterFace {
  summary(): unknown
  inspectHost(ref: string): Promise<unknown>
  evict(ref: string, force: boolean): Promise<unknown>
  verify(timeoutMs?: number, everyEntry?: boolean): Promise<unknown>
  /** Of the IPAM driver `causeway`. */
  readonly pools: { list(): Promise<unknown> }
}

/** `face` gives undefined while this engine is no member of a cluster. */
export function clusterRoutes(face: () => ClusterFace | undefined): Extension[] {
  const cluster = (): ClusterFace => {
    const found = face()
    if (found !== undefined) return found
    throw new NetError(
      'unavailable',
      'this engine is not a member of a cluster: start etcd or Consul and then every engine with ' +
        '--cluster-store etcd://HOST:2379 (or consul://HOST:8500) and --cluster-advertise ADDRESS:2377',
    )
  }
  return [
    { method: 'GET', path: BASE, handler: () => cluster().summary() },
    { method: 'GET', path: `${BASE}/pools`, handler: () => cluster().pools.list() },
    { method: 'GET', path: `${BASE}/hosts/:id`, handler: ({ id = '' }) => cluster().inspectHost(id) },
    {
      method: 'POST',
      path: `${BASE}/hosts/:id/evict`,
      handler: ({ id = '' }, query) => cluster().evict(id, isSet(query.get('force'))),
    },
    {
      method: 'GET',
      path: `${BASE}/verify`,
      handler: (_params, query) => cluster().verify(timeoutOf(query.get('timeout')), isSet(query.get('full'))),
    },
  ]
}

const isSet = (text: string | null): boolean => /^(1|true)$/.test(text ?? '')

function timeoutOf(text: string | null): number | undefined {
  if (text === null || text === '') return undefined
  const seconds = Number(text)
  if (!(seconds > 0 && seconds <= MAX_VERIFY_SECONDS))
    throw badRequest(`invalid timeout "${text.slice(0, 20)}": expected seconds from 1 to ${MAX_VERIFY_SECONDS}`)
  return seconds * 1000
}

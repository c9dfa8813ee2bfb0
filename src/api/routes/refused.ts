/** What Causeway does not do, each with a sentence that says so and what to use instead. */
import { NetError } from '../../base/errors.ts'
import { notImplemented } from '../errors.ts'
import type { Route } from '../types.ts'

const BUILD =
  'Causeway does not build images: build with buildah, podman build or docker buildx elsewhere, then "load" or "pull" the result'
const SWARM =
  'Causeway has no swarm mode: for networks that span hosts, start the daemon with a cluster store and create networks with driver "overlay"'
const PLUGINS =
  'Causeway does not manage plugins: network and IPAM plugins are found by their socket or spec file, as Docker finds legacy plugins'
const CHECKPOINT = 'Causeway does not checkpoint containers: use crun or runc with CRIU directly'

/** Swarm requests answer 503, as an engine outside a swarm does; what is missing altogether answers 501. */
export function refusedRoutes(): Route[] {
  const methods = ['GET', 'POST', 'DELETE', 'PUT'] as const
  const refuse = (method: Route['method'], path: string, error: () => NetError): Route => ({
    method,
    path,
    handler: () => {
      throw error()
    },
  })
  const all = (paths: readonly string[], error: () => NetError): Route[] =>
    paths.flatMap((path) => methods.map((method) => refuse(method, path, error)))
  const swarm = (): NetError => new NetError('unavailable', `This node is not a swarm manager. ${SWARM}`)
  return [
    ...all(['/swarm', '/swarm/*', '/services', '/services/*', '/nodes', '/nodes/*', '/tasks', '/tasks/*'], swarm),
    ...all(['/secrets', '/secrets/*', '/configs', '/configs/*'], swarm),
    // `docker system prune` asks for this too; nothing to prune is the truth.
    { method: 'POST', path: '/build/prune', handler: () => ({ status: 200, body: { CachesDeleted: null, SpaceReclaimed: 0 } }) },
    ...all(['/build', '/build/cancel'], () => notImplemented(BUILD)),
    ...all(['/session', '/grpc'], () => notImplemented(BUILD)),
    ...all(['/plugins/*'], () => notImplemented(PLUGINS)),
    { method: 'GET', path: '/plugins', handler: () => ({ status: 200, body: [] }) },
    ...all(['/containers/:name/checkpoints', '/containers/:name/checkpoints/*'], () => notImplemented(CHECKPOINT)),
    refuse('GET', '/images/search', () =>
      notImplemented('Causeway does not search registries: use "skopeo list-tags docker://<repository>" or the web page of the registry'),
    ),
    refuse('GET', '/distribution/:name/json', () =>
      notImplemented('Causeway does not inspect registries: use "skopeo inspect docker://<image>"'),
    ),
  ]
}

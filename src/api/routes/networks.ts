/** `/networks`: list, inspect, create, connect, disconnect, delete, prune. */

import type { NetworkController } from '../../engine/types.ts'
import type { Network, NetworkSpec } from '../../model/network.ts'
import { created, emptyOk, noContent, ok } from '../context.ts'
import { bool, cidrText, ipText, list, mapOf, object, str, strMap } from '../decode.ts'
import { badRequest } from '../errors.ts'
import { Filters, networkTypeMatches } from '../filters.ts'
import { lookupNetwork } from '../network-lookup.ts'
import { boolParam } from '../query.ts'
import { ENDPOINT_SETTINGS, gateEndpoint } from '../shapes/endpoint-settings.ts'
import { networkJson, networkSummary } from '../shapes/network-shape.ts'
import type { ApiOptions, Route } from '../types.ts'
import { orNull, type PruneAsk, type Pruned, pruneRoute, removeEach } from './prune.ts'

const CREATE = object({
  Name: str,
  CheckDuplicate: bool,
  Driver: str,
  Scope: str,
  EnableIPv4: bool,
  EnableIPv6: bool,
  IPAM: object({
    Driver: str,
    Options: strMap,
    Config: list(object({ Subnet: cidrText, IPRange: cidrText, Gateway: ipText, AuxiliaryAddresses: mapOf(ipText) })),
  }),
  Internal: bool,
  Attachable: bool,
  Ingress: bool,
  ConfigOnly: bool,
  ConfigFrom: object({ Network: str }),
  Options: strMap,
  Labels: strMap,
})
type CreateBody = ReturnType<typeof CREATE>

const CONNECT = object({ Container: str, EndpointConfig: ENDPOINT_SETTINGS })
const DISCONNECT = object({ Container: str, Force: bool })

const LIST_FILTERS = ['dangling', 'driver', 'id', 'label', 'name', 'scope', 'type']
const PRUNE_FILTERS = ['until', 'label', 'label!']

/** List, inspect, create, connect, disconnect, remove and prune networks. */
export function networkRoutes(options: ApiOptions): Route[] {
  const { controller, containers } = options
  const isInUse = (network: Network): boolean => controller.endpointsOf(network.id).length > 0

  return [
    {
      method: 'GET',
      path: '/networks',
      handler(ctx) {
        const filters = Filters.parse(ctx.query.get('filters'), LIST_FILTERS)
        const dangling = filters.bool('dangling')
        const found = controller
          .listNetworks()
          .filter(
            (network) =>
              networkTypeMatches(filters, network.predefined) &&
              filters.exact('driver', network.driver) &&
              filters.exact('scope', network.scope) &&
              filters.matches('id', network.id) &&
              filters.matches('name', network.name) &&
              filters.labels(network.labels) &&
              (dangling === undefined || dangling === (!network.predefined && !isInUse(network))),
          )
        // Before 1.28 the list was the long form.
        const shape = ctx.version < 28 ? networkJson : networkSummary
        return ok(found.map((network) => shape(network, options, ctx.version)))
      },
    },
    {
      method: 'GET',
      path: '/networks/:id',
      async handler(ctx) {
        const verbose = ctx.q('verbose')
        if (!['', '1', 't', 'T', 'true', 'TRUE', 'True', '0', 'f', 'F', 'false', 'FALSE', 'False'].includes(verbose)) {
          throw badRequest(`invalid value for verbose: "${verbose.slice(0, 100)}" is not a boolean`)
        }
        const network = lookupNetwork(controller, ctx.param('id'), 'inspect', ctx.q('scope'))
        await controller.readMembers?.(network.id)
        return ok(networkJson(network, options, ctx.version))
      },
    },
    {
      method: 'POST',
      path: '/networks/create',
      async handler(ctx) {
        const body = (await ctx.json(CREATE)) ?? {}
        if ((body.Name ?? '') === '') throw badRequest('invalid name: name is empty')
        const { network, warning } = await controller.createNetwork(toSpec(body, ctx.version))
        return created({ Id: network.id, Warning: warning })
      },
    },
    {
      method: 'POST',
      path: '/networks/:id/connect',
      async handler(ctx) {
        const body = await ctx.requiredJson(CONNECT)
        if ((body.Container ?? '') === '') throw badRequest('invalid container: name is empty')
        await containers.connectNetwork(
          body.Container as string,
          ctx.param('id'),
          gateEndpoint(body.EndpointConfig ?? {}, ctx.version, 'connect'),
        )
        return emptyOk
      },
    },
    {
      method: 'POST',
      path: '/networks/:id/disconnect',
      async handler(ctx) {
        const body = await ctx.requiredJson(DISCONNECT)
        if ((body.Container ?? '') === '') throw badRequest('invalid container: name is empty')
        await containers.disconnectNetwork(body.Container as string, ctx.param('id'), body.Force ?? false)
        return emptyOk
      },
    },
    {
      method: 'DELETE',
      path: '/networks/:id',
      async handler(ctx) {
        // `force` is ours: without it a network whose authority cannot be told stays
        await controller.removeNetwork(lookupNetwork(controller, ctx.param('id'), 'remove').id, boolParam(ctx.query, 'force'))
        return noContent
      },
    },
    pruneRoute(options, 'network', PRUNE_FILTERS, (ask) => prune(ask, controller)),
  ]
}

async function prune({ filters, until }: PruneAsk, controller: NetworkController): Promise<Pruned> {
  const unused = controller
    .listNetworks()
    .filter(
      (network) =>
        !(network.predefined || network.configOnly || network.ingress || controller.endpointsOf(network.id).length > 0) &&
        filters.labels(network.labels) &&
        (until === undefined || Date.parse(network.created) / 1000 <= until),
    )
  const remove = async ({ id }: Network) => {
    await controller.removeNetwork(id)
    return 0
  }
  const { removed } = await removeEach(unused, remove, ['denied', 'not-found'])
  return { reclaimed: 0, body: { NetworksDeleted: orNull(removed.map(({ name }) => name)) } }
}

/** The controller's form of a create request. Before 1.48 `EnableIPv4` did not exist. */
function toSpec(body: CreateBody, version: number): NetworkSpec {
  const { IPAM: ipam, ConfigFrom: from } = body
  return {
    name: body.Name ?? '',
    driver: body.Driver ?? '',
    ...(body.Scope === undefined ? {} : { scope: body.Scope }),
    ...(body.EnableIPv4 === undefined || version < 48 ? {} : { enableIpv4: body.EnableIPv4 }),
    ...(body.EnableIPv6 === undefined ? {} : { enableIpv6: body.EnableIPv6 }),
    internal: body.Internal ?? false,
    attachable: body.Attachable ?? false,
    ingress: body.Ingress ?? false,
    configOnly: body.ConfigOnly ?? false,
    ...(from?.Network === undefined || from.Network === '' ? {} : { configFrom: from.Network }),
    ...(ipam === undefined
      ? {}
      : {
          ipam: {
            ...(ipam.Driver === undefined ? {} : { driver: ipam.Driver }),
            ...(ipam.Options === undefined ? {} : { options: ipam.Options }),
            ...(ipam.Config === undefined
              ? {}
              : {
                  config: ipam.Config.map((pool) => ({
                    ...(pool.Subnet === undefined ? {} : { subnet: pool.Subnet }),
                    ...(pool.IPRange === undefined ? {} : { ipRange: pool.IPRange }),
                    ...(pool.Gateway === undefined ? {} : { gateway: pool.Gateway }),
                    ...(pool.AuxiliaryAddresses === undefined ? {} : { aux: pool.AuxiliaryAddresses }),
                  })),
                }),
          },
        }),
    options: body.Options ?? {},
    labels: body.Labels ?? {},
  }
}

/** `inspect` of anything, and of one kind. */
import { statusOf } from '../../client/transport.ts'
import { type Command, defineCommand } from '../command.ts'
import type { Context } from '../context.ts'
import { describe, fail } from '../fail.ts'
import { asGoMap, GoNil, goJson } from '../format/go-print.ts'
import { indentJson } from '../format/json-indent.ts'
import { compileTemplate } from '../format/template.ts'
import { flag, text } from '../options.ts'

type Fetch = (name: string) => Promise<string>

const FORMAT = text('f', "Print with a Go template, or 'json'")

/** JSON texts of all that exist, then an error for each that does not. Returns the exit code. */
async function inspectAll(context: Context, names: readonly string[], format: string | undefined, fetchOne: Fetch): Promise<number> {
  const template =
    format === undefined || format === 'json' ? undefined : compileTemplate(format.replaceAll('\\t', '\t').replaceAll('\\n', '\n'))
  const found: string[] = []
  const failures: string[] = []
  for (const name of names) {
    try {
      found.push((await fetchOne(name)).trim())
    } catch (error) {
      failures.push(describe(error))
    }
  }
  let code = failures.length > 0 ? 1 : 0
  if (format === undefined)
    context.print(found.length === 0 ? '[]' : `[\n    ${found.map((t) => indentJson(t, '    ', '    ')).join(',\n    ')}\n]`)
  else if (template === undefined) context.print(`[${found.map((t) => goJson(JSON.parse(t))).join(',')}]`)
  else {
    for (const one of found) {
      try {
        context.print(template(withTypedNils(JSON.parse(one))))
      } catch (error) {
        context.print('')
        failures.push(describe(error))
        code = 1
        break
      }
    }
    if (found.length === 0) context.print('')
  }
  for (const failure of failures) context.warn(failure)
  return code
}

const MAPS = new Set([
  'Labels',
  'Options',
  'Containers',
  'Ports',
  'PortBindings',
  'ExposedPorts',
  'Volumes',
  'DriverOpts',
  'Sysctls',
  'Tmpfs',
  'Networks',
  'AuxiliaryAddresses',
  'StorageOpt',
  'Annotations',
  'Data',
  'Status',
])
const POINTERS = new Set([
  'IPAMConfig',
  'Health',
  'Healthcheck',
  'Init',
  'OomKillDisable',
  'PidsLimit',
  'MemorySwappiness',
  'StopTimeout',
  'ConfigFrom',
  'ImageManifestDescriptor',
])

/** Fields that the engine leaves out when they are empty, by the object that would hold them (known by a field it always has). */
const LEFT_OUT: readonly { readonly mark: string; readonly zero: Readonly<Record<string, unknown>> }[] = [
  { mark: 'OOMKilled', zero: { Health: null } },
  {
    mark: 'NetworkMode',
    zero: { Init: null, Sysctls: null, Tmpfs: null, Mounts: null, Annotations: null, StorageOpt: null, Runtime: '' },
  },
  { mark: 'OpenStdin', zero: { ExposedPorts: null, Healthcheck: null, MacAddress: '', StopSignal: '', StopTimeout: null, Shell: null } },
  { mark: 'IPPrefixLen', zero: { GwPriority: 0, DNSNames: null, DriverOpts: null, IPAMConfig: null } },
  { mark: 'ConfigOnly', zero: { Containers: null, Peers: null, Services: null, EnableIPv4: false } },
]

/** Go prints a nil map, slice and pointer differently; JSON has one null, so the name of the field decides. */
function withTypedNils(value: unknown, key = ''): unknown {
  if (value === null) return new GoNil(MAPS.has(key) ? 'map' : POINTERS.has(key) ? 'pointer' : 'slice')
  if (Array.isArray(value)) return value.map((item) => withTypedNils(item))
  if (typeof value !== 'object') return value
  const typed = Object.fromEntries(Object.entries(value).map(([k, v]) => [k, withTypedNils(v, k)]))
  if (MAPS.has(key)) return asGoMap(typed)
  for (const { mark, zero } of LEFT_OUT) {
    if (!(mark in typed)) continue
    // Not enumerable: `{{json .}}` shows what was sent.
    for (const [k, v] of Object.entries(zero)) if (!(k in typed)) Object.defineProperty(typed, k, { value: withTypedNils(v, k) })
  }
  return typed
}

function kind(
  path: string,
  summary: string,
  what: string,
  fetchOne: (context: Context, name: string, options: { size: boolean; verbose: boolean }) => Promise<string>,
): Command {
  return defineCommand({
    path,
    summary,
    usage: `[OPTIONS] ${what} [${what}...]`,
    args: [1, Number.POSITIVE_INFINITY],
    options: {
      format: FORMAT,
      size: flag('s', 'Show sizes', { hidden: what !== 'CONTAINER' }),
      verbose: flag('v', 'Show more for diagnosis', { hidden: what !== 'NETWORK' }),
    },
    examples: [{ line: `causeway ${path} ${EXAMPLES[what] ?? ''}` }],
    run: (context, names, options) => inspectAll(context, names, options.format, (name) => fetchOne(context, name, options)),
  })
}

const EXAMPLES: Readonly<Record<string, string>> = {
  CONTAINER: "-f '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' web",
  NETWORK: '-f \'{{range .Containers}}{{.Name}} {{.IPv4Address}}{{"\\n"}}{{end}}\' front',
  IMAGE: "-f '{{json .Config.Cmd}}' busybox",
  VOLUME: "-f '{{.Mountpoint}}' data",
}

export const inspectContainer = kind('container inspect', 'Show one or more containers in full', 'CONTAINER', (context, name, { size }) =>
  context.client.containers.inspectText(name, { size }),
)
export const inspectNetwork = kind('network inspect', 'Show one or more networks in full', 'NETWORK', (context, name, { verbose }) =>
  context.client.networks.inspectText(name, { verbose }),
)
export const inspectImage = kind('image inspect', 'Show one or more images in full', 'IMAGE', (context, name) =>
  context.client.images.inspectText(name),
)
export const inspectVolume = kind('volume inspect', 'Show one or more volumes in full', 'VOLUME', (context, name) =>
  context.client.volumes.inspectText(name),
)

const KINDS = ['container', 'image', 'network', 'volume'] as const
type Kind = (typeof KINDS)[number]

export const inspect = defineCommand({
  path: 'inspect',
  summary: 'Show containers, networks, images and volumes in full',
  usage: '[OPTIONS] NAME|ID [NAME|ID...]',
  args: [1, Number.POSITIVE_INFINITY],
  options: {
    format: FORMAT,
    size: flag('s', 'Show sizes of containers'),
    type: text('', 'Only objects of this type: container, image, network or volume'),
  },
  examples: [{ line: 'causeway inspect web' }, { line: "causeway inspect -f '{{.NetworkSettings.Networks.front.IPAddress}}' web" }],
  run: (context, names, options) => {
    const { type } = options
    if (type === '') throw fail('type is empty: must be one of "container", "image", "network", "volume"')
    if (type !== undefined && !KINDS.includes(type as Kind))
      throw fail(`unknown type: "${type}": must be one of "container", "image", "network", "volume"`)
    const kinds = type === undefined ? KINDS : [type as Kind]
    return inspectAll(context, names, options.format, async (name) => {
      for (const which of kinds) {
        try {
          return await fetchKind(context, which, name, options.size)
        } catch (error) {
          if (statusOf(error) !== 404) throw error
        }
      }
      throw fail(`Error: No such ${type ?? 'object'}: ${name}`)
    })
  },
})

function fetchKind(context: Context, which: Kind, name: string, size: boolean): Promise<string> {
  const { client } = context
  switch (which) {
    case 'container':
      return client.containers.inspectText(name, { size })
    case 'image':
      return client.images.inspectText(name)
    case 'network':
      return client.networks.inspectText(name)
    case 'volume':
      return client.volumes.inspectText(name)
  }
}

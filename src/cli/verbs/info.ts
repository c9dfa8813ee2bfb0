/** `info`: everything the engine says about itself and its host, in Docker's layout. */
import { defineCommand } from '../command.ts'
import { goJson } from '../format/go-print.ts'
import { bytesSize } from '../format/human.ts'
import { compileTemplate } from '../format/template.ts'
import { text } from '../options.ts'
import { VERSION } from '../version-number.ts'

type Info = Record<string, unknown>

export const info = defineCommand({
  path: 'info',
  aliases: ['system info'],
  summary: 'Show the state of the engine and its host',
  usage: '[OPTIONS]',
  args: [0, 0],
  options: { format: text('f', "Print with a Go template, or 'json'") },
  examples: [{ line: 'causeway info' }, { line: "causeway info -f '{{.Containers}} {{.KernelVersion}}'" }],
  run: async (context, _args, { format }) => {
    const found = await context.client.system.info()
    const all: Info = { ...found, ClientInfo: { Version: VERSION, Context: context.host } }
    if (format !== undefined) {
      context.print(format === 'json' ? goJson(all) : compileTemplate(format)(all))
      return 0
    }
    for (const line of [`Client:`, ` Version:    ${VERSION}`, ` Engine at:  ${context.host}`, '', 'Server:', ...lines(found)])
      context.print(line)
    const warnings = (found['Warnings'] as string[] | null | undefined) ?? []
    for (const warning of warnings) context.warn(warning)
    return 0
  },
})

function lines(i: Info): string[] {
  const out: string[] = []
  const add = (title: string, value: unknown) => {
    if (value !== undefined && value !== null && value !== '') out.push(` ${title}: ${String(value)}`)
  }
  const list = (value: unknown): string => (Array.isArray(value) ? value.join(' ') : '')
  add('Containers', i['Containers'])
  for (const [title, key] of [
    ['Running', 'ContainersRunning'],
    ['Paused', 'ContainersPaused'],
    ['Stopped', 'ContainersStopped'],
  ] as const)
    if (i[key] !== undefined) out.push(`  ${title}: ${String(i[key])}`)
  add('Images', i['Images'])
  add('Server Version', i['ServerVersion'])
  add('Storage Driver', i['Driver'])
  for (const [k, v] of (i['DriverStatus'] as [string, string][] | null) ?? []) out.push(`  ${k}: ${v}`)
  add('Logging Driver', i['LoggingDriver'])
  add('Cgroup Driver', i['CgroupDriver'])
  add('Cgroup Version', i['CgroupVersion'])
  const plugins = i['Plugins'] as Record<string, string[] | null> | undefined
  if (plugins !== undefined) {
    out.push(' Plugins:')
    for (const name of ['Volume', 'Network', 'Authorization', 'Log'])
      if ((plugins[name] ?? []).length > 0) out.push(`  ${name}: ${list(plugins[name])}`)
  }
  add('Swarm', (i['Swarm'] as { LocalNodeState?: string } | undefined)?.LocalNodeState)
  const runtimes = Object.keys((i['Runtimes'] as object | null) ?? {})
  if (runtimes.length > 0) add('Runtimes', runtimes.join(' '))
  add('Default Runtime', i['DefaultRuntime'])
  add('Init Binary', i['InitBinary'])
  const firewall = i['FirewallBackend'] as { Driver: string; Info?: [string, string][] | null } | undefined | null
  if (firewall != null) {
    add('Firewall Backend', firewall.Driver)
    for (const [k, v] of firewall.Info ?? []) out.push(`  ${k}: ${v}`)
  }
  if (Array.isArray(i['SecurityOptions']) && i['SecurityOptions'].length > 0) {
    out.push(' Security Options:')
    for (const option of i['SecurityOptions'] as string[]) {
      const fields = option.split(',').map((field) => field.split('='))
      out.push(`  ${fields.find(([k]) => k === 'name')?.[1] ?? option}`)
      for (const [k = '', v = ''] of fields) if (k !== 'name' && v !== '') out.push(`   ${k[0]?.toUpperCase()}${k.slice(1)}: ${v}`)
    }
  }
  add('Kernel Version', i['KernelVersion'])
  add('Operating System', i['OperatingSystem'])
  add('OSType', i['OSType'])
  add('Architecture', i['Architecture'])
  add('CPUs', i['NCPU'])
  if (typeof i['MemTotal'] === 'number') add('Total Memory', bytesSize(i['MemTotal']))
  add('Name', i['Name'])
  add('ID', i['ID'])
  add('Docker Root Dir', i['DockerRootDir'])
  add('Debug Mode', i['Debug'])
  add('Experimental', i['ExperimentalBuild'])
  add('Cluster Store', i['ClusterStore'])
  add('Cluster Advertise', i['ClusterAdvertise'])
  const registry = i['RegistryConfig'] as { InsecureRegistryCIDRs?: string[] | null } | null | undefined
  if ((registry?.InsecureRegistryCIDRs ?? []).length > 0) {
    out.push(' Insecure Registries:')
    for (const cidr of registry?.InsecureRegistryCIDRs ?? []) out.push(`  ${cidr}`)
  }
  add('Live Restore Enabled', i['LiveRestoreEnabled'])
  const pools = i['DefaultAddressPools'] as { Base: string; Size: number }[] | null | undefined
  if (pools != null && pools.length > 0) {
    out.push(' Default Address Pools:')
    for (const { Base, Size } of pools) out.push(`   Base: ${Base}, Size: ${Size}`)
  }
  return out
}

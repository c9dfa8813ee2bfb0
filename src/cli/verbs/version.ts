/** `version`. */
import { NetError } from '../../base/errors.ts'
import { CLIENT_API_VERSION } from '../../client/transport.ts'
import type { VersionJson } from '../../client/types.ts'
import { defineCommand } from '../command.ts'
import { describe } from '../fail.ts'
import { goJson } from '../format/go-print.ts'
import { alignTabs } from '../format/tabwriter.ts'
import { compileTemplate } from '../format/template.ts'
import { text } from '../options.ts'
import { VERSION } from '../version-number.ts'

export const version = defineCommand({
  path: 'version',
  summary: 'Show the versions of client and engine',
  usage: '[OPTIONS]',
  args: [0, 0],
  options: { format: text('f', "Print with a Go template, or 'json'") },
  examples: [{ line: 'causeway version' }, { line: "causeway version -f '{{.Server.ApiVersion}}'" }],
  run: async (context, _args, { format }) => {
    const client = {
      Version: VERSION,
      ApiVersion: CLIENT_API_VERSION,
      DefaultAPIVersion: CLIENT_API_VERSION,
      Os: process.platform,
      Arch: process.arch === 'x64' ? 'amd64' : process.arch,
      NodeVersion: process.version,
      Context: context.host,
    }
    let server: VersionJson | undefined
    let failure: unknown
    try {
      server = await context.client.system.version()
      client.ApiVersion = await context.client.transport.apiVersion()
    } catch (error) {
      if (!(error instanceof NetError)) throw error
      failure = error
    }
    if (format !== undefined) {
      const all = { Client: client, Server: server ?? null }
      context.print(format === 'json' ? goJson(all) : compileTemplate(format)(all))
    } else context.stdout.write(layout(client, server))
    if (failure === undefined) return 0
    context.warn(describe(failure))
    return 1
  },
})

function layout(
  client: {
    Version: string
    ApiVersion: string
    DefaultAPIVersion: string
    NodeVersion: string
    Os: string
    Arch: string
    Context: string
  },
  server: VersionJson | undefined,
): string {
  const api =
    client.ApiVersion === client.DefaultAPIVersion
      ? client.ApiVersion
      : `${client.ApiVersion} (downgraded from ${client.DefaultAPIVersion})`
  const rows: string[] = [
    'Client:',
    ` Version:\t${client.Version}`,
    ` API version:\t${api}`,
    ` Node version:\t${client.NodeVersion}`,
    ` OS/Arch:\t${client.Os}/${client.Arch}`,
    ` Engine at:\t${client.Context}`,
  ]
  if (server !== undefined) {
    rows.push('', `Server:${server.Platform?.Name === undefined || server.Platform.Name === '' ? '' : ` ${server.Platform.Name}`}`)
    for (const { Name, Version, Details } of server.Components ?? []) {
      const d = Details ?? {}
      rows.push(` ${Name}:`, `  Version:\t${Version}`)
      if (Name === 'Engine') {
        rows.push(
          `  API version:\t${d['ApiVersion'] ?? server.ApiVersion} (minimum version ${d['MinAPIVersion'] ?? server.MinAPIVersion ?? ''})`,
        )
        rows.push(
          `  OS/Arch:\t${d['Os'] ?? server.Os}/${d['Arch'] ?? server.Arch}`,
          `  Kernel:\t${d['KernelVersion'] ?? server.KernelVersion ?? ''}`,
        )
      }
      if (d['GitCommit'] !== undefined && d['GitCommit'] !== '') rows.push(`  GitCommit:\t${d['GitCommit']}`)
    }
  }
  return `${alignTabs(rows.join('\n'), { minWidth: 20, padding: 1 })}\n`
}

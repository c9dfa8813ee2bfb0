/** daemon.json's `runtimes` and `--add-runtime name=path` (pure). Docker's sentences where it has one. */
import { NetError } from '../base/errors.ts'
import type { ConfiguredRuntime } from '../containers/runtimes.ts'

const invalid = (message: string) => new NetError('invalid', message)

/** The map of the file, or the list of the command line. Throws `invalid`. */
export function parseRuntimes(value: unknown): Record<string, ConfiguredRuntime> {
  const given = Array.isArray(value) ? value.map(fromFlag) : Object.entries((value ?? {}) as Record<string, unknown>)
  return Object.fromEntries(given.map(([name, entry]) => [checkName(name), checkRuntime(name, entry)]))
}

function fromFlag(text: unknown): [string, unknown] {
  const [, name, path] = /^([^=]+)=(.+)$/.exec(String(text)) ?? []
  if (name === undefined) throw invalid(`invalid runtime, expected runtime name and path: ${String(text)}`)
  return [name, { path }]
}

/** The name is a folder's too. */
function checkName(name: string): string {
  if (name === 'runc') throw invalid(`runtime name 'runc' is reserved`)
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name))
    throw invalid(`invalid runtime name: ${JSON.stringify(name)}, expected letters, digits, "_", "." and "-"`)
  return name
}

function checkRuntime(name: string, entry: unknown): ConfiguredRuntime {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry))
    throw invalid(`runtime ${name}: expected an object like {"path": "/usr/bin/crun"}`)
  const { path = '', runtimeArgs = [], runtimeType = '', options = {} } = entry as Record<string, unknown>
  for (const key of Object.keys(entry))
    if (!['path', 'runtimeArgs', 'runtimeType', 'options'].includes(key)) throw invalid(`runtime ${name}: unknown key ${key}`)
  if (path === '' && runtimeType === '') throw invalid(`runtime ${name}: either a runtimeType or a path must be configured`)
  if (path !== '' && runtimeType !== '') throw invalid(`runtime ${name}: cannot configure both path and runtimeType for the same runtime`)
  if (path === '') throw invalid(`runtime ${name}: runtimeType names a shim of containerd, expected the path of an OCI runtime`)
  if (Object.keys(options as object).length > 0) throw invalid(`runtime ${name}: options cannot be used with a path runtime`)
  if (typeof path !== 'string') throw invalid(`runtime ${name}: path: expected a text, found ${JSON.stringify(path)}`)
  if (!Array.isArray(runtimeArgs) || !runtimeArgs.every((arg) => typeof arg === 'string'))
    throw invalid(`runtime ${name}: runtimeArgs: expected a list of texts, found ${JSON.stringify(runtimeArgs)}`)
  return { path, args: runtimeArgs as string[] }
}

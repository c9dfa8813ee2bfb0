/**
 * Where a plugin listens: a socket named after it, or a file that says so (`NAME.spec`: one address, `NAME.json`: address and TLS).
 * Looked up by name at first use and again whenever the connection fails, so a plugin may move between two starts.
 */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { messageOf, NetError } from '../base/errors.ts'

/** Folders, in the order of the search. */
export interface PluginDirs {
  readonly sockets: readonly string[]
  readonly specs: readonly string[]
}

export const DEFAULT_PLUGIN_DIRS: PluginDirs = {
  sockets: ['/run/docker/plugins'],
  specs: ['/etc/docker/plugins', '/usr/lib/docker/plugins'],
}

export interface PluginTls {
  readonly insecureSkipVerify: boolean
  readonly caFile?: string
  readonly certFile?: string
  readonly keyFile?: string
}

/** A place to send calls to: a unix socket, or a host and port with or without TLS. */
export type PluginAddress =
  | { readonly kind: 'unix'; readonly path: string; readonly text: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number; readonly tls?: PluginTls; readonly text: string }

/** True when this host has a folder of plugins at all: only then can one be on its way up. */
export function hasPluginDir(dirs: PluginDirs): boolean {
  return [...dirs.sockets, ...dirs.specs].some((dir) => existsSync(dir))
}

/**
 * Finds a plugin's address. Undefined when no file names it.
 * @throws NetError `invalid` when its file cannot be used; the text names the file.
 */
export function findPlugin(name: string, dirs: PluginDirs): PluginAddress | undefined {
  // a name becomes part of a path: nothing that could leave the folder
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(name)) return undefined
  for (const dir of dirs.sockets)
    for (const path of [`${dir}/${name}.sock`, `${dir}/${name}/${name}.sock`])
      if (isSocket(path)) return { kind: 'unix', path, text: `unix://${path}` }
  for (const dir of dirs.specs)
    for (const base of [`${dir}/${name}`, `${dir}/${name}/${name}`]) {
      if (existsSync(`${base}.spec`)) return readSpec(`${base}.spec`)
      if (existsSync(`${base}.json`)) return readJson(`${base}.json`)
    }
  return undefined
}

function isSocket(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isSocket() ?? false
}

/** One line names nobody to trust: any certificate will do, as in Docker. */
function readSpec(file: string): PluginAddress {
  return parseAddress(readFileSync(file, 'utf8').trim(), file, { insecureSkipVerify: true })
}

/** `{"Name","Addr","TLSConfig":{"InsecureSkipVerify","CAFile","CertFile","KeyFile"}}` */
function readJson(file: string): PluginAddress {
  let spec: { Addr?: unknown; TLSConfig?: { InsecureSkipVerify?: boolean; CAFile?: string; CertFile?: string; KeyFile?: string } | null }
  try {
    spec = JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    throw new NetError('invalid', `Cannot read plugin file "${file}": ${messageOf(error)}`)
  }
  const given = spec.TLSConfig
  const tls = given && {
    // without a CA there is nothing to verify against (as Docker has it)
    insecureSkipVerify: given.InsecureSkipVerify === true || !given.CAFile,
    ...(given.CAFile ? { caFile: given.CAFile } : {}),
    ...(given.CertFile ? { certFile: given.CertFile } : {}),
    ...(given.KeyFile ? { keyFile: given.KeyFile } : {}),
  }
  return parseAddress(typeof spec.Addr === 'string' ? spec.Addr : '', file, tls ?? undefined)
}

/** The protocol decides whether there is TLS, as in Docker: `tls` says how, and is of no account for `http://` and `tcp://`. */
function parseAddress(text: string, file: string, tls?: PluginTls): PluginAddress {
  const wrong = (why: string) =>
    new NetError('invalid', `Cannot use plugin file "${file}": ${why}; expected unix:///path, tcp://host:port, http:// or https://`)
  const unix = /^unix:\/\/(\/.+)$/.exec(text)
  if (unix) return { kind: 'unix', path: unix[1] as string, text }
  if (!/^(tcp|http|https):\/\//.test(text)) throw wrong(`unknown protocol in address "${text}"`)
  let url: URL
  try {
    url = new URL(text.replace(/^tcp:/, 'http:'))
  } catch {
    throw wrong(`address "${text}" is no URL`)
  }
  const secure = url.protocol === 'https:'
  const port = url.port === '' ? (secure ? 443 : 80) : Number(url.port)
  const host = url.hostname.replace(/^\[|\]$/g, '')
  return { kind: 'tcp', host, port, text, ...(secure ? { tls: tls ?? { insecureSkipVerify: false } } : {}) }
}

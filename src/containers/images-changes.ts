/**
 * The Dockerfile instructions that `docker import --change` takes, applied to an image configuration.
 * Source: docs.docker.com/reference/cli/docker/image/import; the forms are those of the Dockerfile reference.
 */
import { NetError } from '../base/errors.ts'
import type { ContainerConfig } from './types.ts'

function refuse(instruction: string, why: string): NetError {
  return new NetError('invalid', `dockerfile parse error: ${instruction} ${why}`)
}

/** Applies one instruction each, in order, to a copy of `base`. Throws `invalid`. */
export function applyChanges(base: ContainerConfig, changes: readonly string[]): ContainerConfig {
  const config: ContainerConfig = structuredClone(base)
  for (const change of changes) {
    const match = /^\s*([A-Za-z]+)\s+([\s\S]*\S)\s*$/.exec(change)
    if (match === null) {
      if (change.trim() === '') continue
      throw refuse(change.trim().split(/\s/)[0]?.toUpperCase() ?? '', 'requires at least one argument')
    }
    applyChange(config, (match[1] as string).toUpperCase(), match[2] as string)
  }
  return config
}

function applyChange(config: ContainerConfig, instruction: string, rest: string): void {
  switch (instruction) {
    case 'CMD':
      config.Cmd = commandOf(rest)
      return
    case 'ENTRYPOINT':
      config.Entrypoint = commandOf(rest)
      return
    case 'ENV': {
      const env = new Map((config.Env ?? []).map((pair) => [pair.split('=')[0] as string, pair]))
      for (const [key, value] of pairsOf(instruction, rest)) env.set(key, `${key}=${value}`)
      config.Env = [...env.values()]
      return
    }
    case 'LABEL':
      config.Labels = { ...config.Labels, ...Object.fromEntries(pairsOf(instruction, rest)) }
      return
    case 'EXPOSE': {
      const ports = { ...config.ExposedPorts }
      for (const word of rest.split(/\s+/)) {
        const port = /^(\d{1,5})(?:-(\d{1,5}))?(?:\/(tcp|udp|sctp))?$/i.exec(word)
        const first = Number(port?.[1])
        const last = Number(port?.[2] ?? first)
        if (port === null || last > 65535 || last < first) throw refuse(instruction, `has an invalid port "${word}"`)
        for (let n = first; n <= last; n++) ports[`${n}/${(port[3] ?? 'tcp').toLowerCase()}`] = {}
      }
      config.ExposedPorts = ports
      return
    }
    case 'VOLUME': {
      const paths = jsonList(rest) ?? rest.split(/\s+/)
      config.Volumes = { ...config.Volumes, ...Object.fromEntries(paths.map((path) => [path, {}])) }
      return
    }
    case 'USER':
      config.User = rest
      return
    case 'WORKDIR':
      config.WorkingDir = rest.startsWith('/') ? rest : `${config.WorkingDir ?? ''}/${rest}`.replace(/\/+/g, '/')
      return
    case 'STOPSIGNAL':
      config.StopSignal = rest
      return
    case 'ONBUILD':
      config['OnBuild'] = [...((config['OnBuild'] as string[] | undefined) ?? []), rest]
      return
    default:
      throw new NetError('invalid', `${instruction} is not a valid change command`)
  }
}

/** Exec form is a JSON list of strings; anything else is for the shell. */
function commandOf(text: string): string[] {
  return jsonList(text) ?? ['/bin/sh', '-c', text]
}

function jsonList(text: string): string[] | undefined {
  if (!text.startsWith('[')) return undefined
  try {
    const list: unknown = JSON.parse(text)
    return Array.isArray(list) && list.every((item) => typeof item === 'string') ? list : undefined
  } catch {
    return undefined
  }
}

/** `key=value key2="a b"`, or the old form `key the rest`. */
function pairsOf(instruction: string, text: string): [string, string][] {
  if (!/^[^\s=]+=/.test(text)) {
    const [, key, value] = /^(\S+)\s+([\s\S]+)$/.exec(text) ?? []
    if (key === undefined || value === undefined) throw refuse(instruction, 'must have two arguments')
    return [[key, value]]
  }
  const out: [string, string][] = []
  for (const word of text.match(/(?:"(?:\\.|[^"])*"|'[^']*'|\\.|[^\s"'\\])+/g) ?? []) {
    const plain = word.replace(/"((?:\\.|[^"])*)"|'([^']*)'|\\(.)/g, (_, double?: string, single?: string, escaped?: string) =>
      double !== undefined ? double.replace(/\\(["\\$])/g, '$1') : (single ?? escaped ?? ''),
    )
    const equals = plain.indexOf('=')
    if (equals <= 0) throw refuse(instruction, `has a word without "=": ${word}`)
    out.push([plain.slice(0, equals), plain.slice(equals + 1)])
  }
  return out
}

/** Credentials of registries: read from the file that `login` and Docker's client write (`~/.docker/config.json`). */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

type Env = Readonly<Record<string, string | undefined>>

interface AuthFile {
  auths?: Record<string, { auth?: string; identitytoken?: string }>
  [key: string]: unknown
}

const HUB = 'https://index.docker.io/v1/'

function authFilePath(env: Env): string {
  return `${env['DOCKER_CONFIG'] ?? `${env['HOME'] ?? '/root'}/.docker`}/config.json`
}

function readAuthFile(env: Env): AuthFile {
  try {
    return JSON.parse(readFileSync(authFilePath(env), 'utf8')) as AuthFile
  } catch {
    return {} // none yet, or not ours to judge
  }
}

/** The key of a repository's registry in that file. */
export function registryOf(repository: string): string {
  const first = repository.split('/')[0] as string
  const isHost = repository.includes('/') && (/[.:]/.test(first) || first === 'localhost')
  return isHost && !['docker.io', 'index.docker.io'].includes(first) ? first : HUB
}

/** Value of `X-Registry-Auth`, or undefined when nothing is known about the registry. */
export function registryAuth(repository: string, env: Env): string | undefined {
  const server = registryOf(repository)
  const entry = readAuthFile(env).auths?.[server]
  if (entry?.auth === undefined) return undefined
  const plain = Buffer.from(entry.auth, 'base64').toString('utf8')
  const colon = plain.indexOf(':')
  const body = { username: plain.slice(0, colon), password: plain.slice(colon + 1), serveraddress: server }
  return Buffer.from(JSON.stringify(body)).toString('base64url')
}

/** Stores or, with undefined, forgets credentials. The file is readable by its owner only. */
export function storeAuth(server: string, credentials: { username: string; password: string } | undefined, env: Env): boolean {
  const file = readAuthFile(env)
  const auths = { ...file.auths }
  const had = server in auths
  if (credentials === undefined) delete auths[server]
  else auths[server] = { auth: Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64') }
  const path = authFilePath(env)
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  writeFileSync(`${path}.new`, `${JSON.stringify({ ...file, auths }, undefined, '\t')}\n`, { mode: 0o600 })
  renameSync(`${path}.new`, path)
  return had
}

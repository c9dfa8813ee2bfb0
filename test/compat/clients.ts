/**
 * Where the clients are that these tests drive (tools/compat-clients brings them), and how to call them. A client that is not there
 * makes its tests skip with a reason; with CAUSEWAY_COMPAT_REQUIRED=1 it makes them fail.
 */
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { EngineLab, Ran } from '../../testkit/engine-lab.ts'

const CACHE = process.env['CAUSEWAY_COMPAT'] ?? '/var/tmp/causeway-compat'

export const CLIENTS = {
  'docker-compose 1.29': '/usr/bin/docker-compose',
  'python3-docker': '/usr/lib/python3/dist-packages/docker/__init__.py',
  'Compose 2': `${CACHE}/sid/usr/libexec/docker/cli-plugins/docker-compose`,
  dockerode: `${CACHE}/npm/node_modules/dockerode/package.json`,
  testcontainers: `${CACHE}/npm/node_modules/testcontainers/package.json`,
} as const
export type Client = keyof typeof CLIENTS

/** The `skip` option of a test that needs this client: false, or why not. */
export function without(client: Client): false | string {
  if (existsSync(CLIENTS[client])) return false
  const reason = `${client} is not here: tools/compat-clients brings it`
  if (process.env['CAUSEWAY_COMPAT_REQUIRED'] === '1') throw new Error(reason)
  return reason
}

/** An npm package of the cache. Its types are not installed: the caller says what it uses of it. */
export function fromNpm<T>(name: 'dockerode' | 'testcontainers'): T {
  return createRequire(`${CACHE}/npm/package.json`)(name) as T
}

/** Runs a program with DOCKER_HOST pointing at the engine. */
export function withEngine(
  lab: EngineLab,
  file: string,
  args: readonly string[],
  options: { input?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<Ran> {
  return new Promise((resolve) => {
    const env = { ...process.env, DOCKER_HOST: `unix://${lab.socket}`, DOCKER_CONFIG: `${lab.dir}/docker`, ...options.env }
    const child = execFile(file, args, { env, timeout: 120_000, maxBuffer: 32 << 20 }, (error, out, err) => {
      resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : 255, out, err })
    })
    child.stdin?.end(options.input ?? '')
  })
}

/** Makes `docker compose` Compose 2, for the configuration folder of this lab only. */
export function plugCompose(lab: EngineLab): void {
  mkdirSync(`${lab.dir}/docker/cli-plugins`, { recursive: true })
  symlinkSync(CLIENTS['Compose 2'], `${lab.dir}/docker/cli-plugins/docker-compose`)
}

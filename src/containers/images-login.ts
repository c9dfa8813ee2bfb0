/** `docker login`: whether a registry takes these credentials. Nothing is kept here; clients send them with every pull and push. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { NetError } from '../base/errors.ts'
import { run } from '../sys/process.ts'
import { isInsecureHost, lastWords, type RegistryOptions } from './images-registry.ts'
import type { LoginAnswer, LoginRequest } from './types.ts'

const LOGIN_TIMEOUT_MS = 60_000
const HOST = /^([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(:\d{1,5})?$/i

/**
 * Asks the registry, through skopeo. `makeScratch` makes a directory of ours, removed again. Throws `invalid` for what cannot be a registry and `internal`, with
 * the reason, when it cannot be asked.
 */
export async function checkLogin(
  makeScratch: () => string,
  request: LoginRequest,
  options: RegistryOptions,
  signal: AbortSignal,
): Promise<LoginAnswer> {
  const host = hostOf(request.registry)
  if (!HOST.test(host))
    throw new NetError('invalid', `invalid registry address "${request.registry.slice(0, 100)}": expected host or host:port`)
  const refused = { granted: false, status: `Get "https://${host}/v2/": unauthorized: incorrect username or password` }
  if (request.username === '' || request.password === '') return refused
  const scratch = makeScratch()
  const file = join(scratch, 'auth.json')
  try {
    const insecure = isInsecureHost(options, host) ? ['--tls-verify=false'] : []
    const argv = ['skopeo', 'login', '--authfile', file, `--username=${request.username}`, '--password-stdin', ...insecure, host]
    const { code, stderr } = await run(argv, { input: request.password, timeoutMs: LOGIN_TIMEOUT_MS, signal })
    signal.throwIfAborted()
    if (code === 0) return { granted: true, status: 'Login Succeeded' }
    const why = lastWords(stderr)
    if (/invalid username\/password|unauthorized|authentication required|denied/i.test(why)) return refused
    throw new NetError('internal', why, { op: 'login', subject: host })
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

/** Docker Hub's key in client configurations is a URL; others may be one too. */
function hostOf(address: string): string {
  const host = address.replace(/^https?:\/\//, '').replace(/\/.*$/, '')
  return host === '' || host === 'index.docker.io' ? 'docker.io' : host
}

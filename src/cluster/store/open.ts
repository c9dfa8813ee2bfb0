/** Opens the store that a configuration names: reads certificates and secrets, then never fails because the store is away. */
import { readFileSync } from 'node:fs'
import { createSecureContext } from 'node:tls'
import { messageOf, NetError } from '../../base/errors.ts'
import { ConsulStore } from './consul/client.ts'
import { EtcdStore } from './etcd/client.ts'
import { StoreHttp, type TlsMaterial } from './http.ts'
import type { Ports } from './members.ts'
import type { ClusterStore } from './types.ts'
import type { StoreConfig } from './url.ts'

/** Throws `invalid` when a file cannot be read. The store itself is asked later: `status()` says how that goes. The caller closes it. */
export function openClusterStore(config: StoreConfig, ports: Ports): ClusterStore {
  const http = new StoreHttp(ports.clock, config.tls === undefined ? undefined : readTls(config.tls))
  const { user, token } = config
  if (config.kind === 'consul') {
    const secret = token?.file === undefined ? token?.value : readSecret('kv.tokenfile', token.file)
    return new ConsulStore(config, secret ?? '', http, ports)
  }
  const password = user?.passwordFile === undefined ? user?.password : readSecret('kv.passwordfile', user.passwordFile)
  return new EtcdStore(config, user === undefined ? undefined : { name: user.name, password: password ?? '' }, http, ports)
}

function readTls(files: NonNullable<StoreConfig['tls']>): TlsMaterial {
  const material = {
    ...(files.caFile === undefined ? {} : { ca: readText('kv.cacertfile', files.caFile) }),
    ...(files.certFile === undefined ? {} : { cert: readText('kv.certfile', files.certFile) }),
    ...(files.keyFile === undefined ? {} : { key: readText('kv.keyfile', files.keyFile) }),
  }
  try {
    createSecureContext(material)
  } catch (cause) {
    const named = Object.values(files).join('", "')
    throw new NetError(
      'invalid',
      `Cannot use --cluster-store-opt kv.cacertfile, kv.certfile, kv.keyfile "${named}": ${messageOf(cause)}`,
      {},
      cause,
    )
  }
  return material
}

/** Without the newline that editors put at its end. */
function readSecret(option: string, path: string): string {
  return readText(option, path).replace(/\r?\n$/, '')
}

function readText(option: string, path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw new NetError('invalid', `Cannot read --cluster-store-opt ${option} "${path}": ${messageOf(cause)}`, { subject: path }, cause)
  }
}

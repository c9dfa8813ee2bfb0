/** The daemon's flags about the cluster, checked together. */
import { NetError } from '../base/errors.ts'
import { parseStoreOptions, parseStoreUrl } from '../cluster/store/url.ts'

/** `--cluster-store`, `--cluster-advertise` and `--cluster-store-opt` as given. */
export interface ClusterFlags {
  readonly store: string
  readonly advertise: string
  readonly options: readonly string[]
}

/** Checks the flags without touching anything. Throws `invalid`. */
export function checkClusterFlags({ store, advertise, options }: ClusterFlags): void {
  if (store === '') {
    if (advertise !== '' || options.length > 0)
      throw new NetError(
        'invalid',
        advertise !== ''
          ? 'invalid cluster configuration. --cluster-advertise must be accompanied by --cluster-store configuration'
          : 'invalid cluster configuration. --cluster-store-opt needs --cluster-store',
      )
    return
  }
  parseStoreUrl(store, parseStoreOptions(options))
  if (advertise === '')
    throw new NetError(
      'invalid',
      'invalid cluster configuration. --cluster-store needs --cluster-advertise: give the address that other hosts reach this one by, for example --cluster-advertise eth0:2377',
    )
}

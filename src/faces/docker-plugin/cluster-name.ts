/** Option (`-o`, `--ipam-opt`) with an overlay network's name in the cluster. */
export const CLUSTER_NAME = 'causeway.network'

/** Where a Linux host keeps its resolver configuration. */
export const HOST_RESOLV_CONF = '/etc/resolv.conf'
/** systemd-resolved writes the real servers here when the file above names only its stub: systemd-resolved.service(8). */
export const SYSTEMD_RESOLV_CONF = '/run/systemd/resolve/resolv.conf'

/** Linux capabilities of a container: Docker's default set, changed by CapAdd and CapDrop. */
import { NetError } from '../base/errors.ts'

/** All capabilities in the order of include/uapi/linux/capability.h. */
const ALL =
  'CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE'
    .split(' ')
    .map((name) => `CAP_${name}`)

const DEFAULT = 'CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE'
  .split(' ')
  .map((name) => `CAP_${name}`)

function normalize(names: readonly string[], field: string): string[] {
  return names.map((name) => {
    const upper = name.toUpperCase()
    if (upper === 'ALL') return 'ALL'
    const full = upper.startsWith('CAP_') ? upper : `CAP_${upper}`
    if (!ALL.includes(full)) throw new NetError('invalid', `invalid ${field}: unknown capability: "${full}"`)
    return full
  })
}

/**
 * Effective capability names. `ALL` in add means all but the dropped; in drop, none but the added. What the engine itself does not have
 * (`available`, a bit mask) nobody can be given: the kernel would refuse the whole start. Throws `invalid`.
 */
export function capabilitiesOf(add: readonly string[], drop: readonly string[], privileged: boolean, available = ~0n): string[] {
  return chosen(add, drop, privileged).filter((name) => (available >> BigInt(ALL.indexOf(name))) & 1n)
}

function chosen(add: readonly string[], drop: readonly string[], privileged: boolean): string[] {
  const plus = normalize(add, 'CapAdd')
  const minus = normalize(drop, 'CapDrop')
  if (privileged) return [...ALL]
  if (plus.includes('ALL')) return minus.includes('ALL') ? [] : ALL.filter((c) => !minus.includes(c))
  const base = minus.includes('ALL') ? [] : DEFAULT.filter((c) => !minus.includes(c))
  return ALL.filter((c) => base.includes(c) || plus.includes(c))
}

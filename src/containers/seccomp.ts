/**
 * The default system call filter: everything is allowed except what reaches around the container (modules, kexec, mounts,
 * namespaces, the clock, kernel keyrings, other processes' memory on foreign NUMA policy, …). A refused call gives EPERM, as with
 * Docker's default profile, of which this is the inverse; what a capability unlocks there it unlocks here.
 */
export interface SeccompProfile {
  readonly defaultAction: string
  readonly defaultErrnoRet?: number
  readonly architectures?: readonly string[]
  readonly flags?: readonly string[]
  readonly syscalls: readonly {
    readonly names: readonly string[]
    readonly action: string
    readonly errnoRet?: number
    readonly args?: readonly { index: number; value: number; valueTwo?: number; op: string }[]
  }[]
}

const EPERM = 1
const ENOSYS = 38
/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET: include/uapi/linux/sched.h */
const CLONE_NAMESPACES = [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000]

/** Calls that need a capability to make sense; refused without it. */
const BY_CAPABILITY: Readonly<Record<string, readonly string[]>> = {
  CAP_SYS_ADMIN:
    'bpf fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount open_tree perf_event_open pivot_root quotactl quotactl_fd setdomainname sethostname setns swapon swapoff sysfs umount umount2 unshare'.split(
      ' ',
    ),
  CAP_SYS_MODULE: 'create_module delete_module finit_module get_kernel_syms init_module query_module'.split(' '),
  CAP_SYS_BOOT: 'kexec_file_load kexec_load reboot'.split(' '),
  CAP_SYS_PACCT: ['acct'],
  CAP_SYS_TIME: 'clock_adjtime clock_adjtime64 clock_settime clock_settime64 settimeofday stime'.split(' '),
  CAP_SYS_RAWIO: 'ioperm iopl'.split(' '),
  CAP_SYS_NICE: 'get_mempolicy mbind set_mempolicy set_mempolicy_home_node move_pages migrate_pages'.split(' '),
  CAP_DAC_READ_SEARCH: ['open_by_handle_at'],
  CAP_SYS_TTY_CONFIG: ['vhangup'],
  CAP_SYSLOG: ['syslog'],
}

/** Calls that no capability brings back. */
const NEVER =
  '_sysctl add_key io_uring_enter io_uring_register io_uring_setup keyctl nfsservctl request_key userfaultfd uselib ustat vm86 vm86old'.split(
    ' ',
  )

/** What CAP_BPF, CAP_PERFMON, CAP_SYS_CHROOT… unlock beside CAP_SYS_ADMIN. */
const ALSO: Readonly<Record<string, readonly string[]>> = { CAP_BPF: ['bpf'], CAP_PERFMON: ['perf_event_open'] }

/** Docker's default profile for a process with these capabilities (`CAP_…`). */
export function defaultSeccomp(capabilities: readonly string[]): SeccompProfile {
  const has = (name: string) => capabilities.includes(name)
  const unlocked = new Set(Object.entries(ALSO).flatMap(([cap, calls]) => (has(cap) ? calls : [])))
  const denied = Object.entries(BY_CAPABILITY).flatMap(([cap, calls]) => (has(cap) ? [] : calls.filter((c) => !unlocked.has(c))))
  return {
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [
      { names: [...denied, ...NEVER], action: 'SCMP_ACT_ERRNO', errnoRet: EPERM },
      ...(has('CAP_SYS_ADMIN')
        ? []
        : [
            // clone3 hides its flags in memory, where a filter cannot look: ENOSYS makes C libraries fall back to clone
            { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
            ...CLONE_NAMESPACES.map((flag) => ({
              names: ['clone'],
              action: 'SCMP_ACT_ERRNO',
              errnoRet: EPERM,
              args: [{ index: 0, value: flag, valueTwo: flag, op: 'SCMP_CMP_MASKED_EQ' }],
            })),
          ]),
    ],
  }
}

/**
 * The FFI table: the only file that loads koffi and the only way to call libc.
 *
 * Every function here is synchronous and, on a descriptor that can block, must be used with a non-blocking
 * descriptor or a bounded time-out: a call that blocks stops the whole engine (see docs/decisions).
 * `errno` is read directly after the call, before any other JavaScript can run.
 */
import { close as fsClose } from 'node:fs'
import { getSystemErrorName } from 'node:util'
import koffi from 'koffi'
import { type ErrorCode, NetError } from '../base/errors.ts'

const libc = koffi.load('libc.so.6')
/** struct ifreq whose value is a pointer. */
koffi.struct('EthtoolRequest', { name: koffi.array('uint8_t', 16), data: 'const uint8_t *', rest: koffi.array('uint8_t', 16) })

/** Raw calls, for hot loops that look at -1 and {@link errno} themselves. Prefer the checked functions below. */
export const raw = {
  socket: libc.func('int socket(int domain, int type, int protocol)'),
  socketpair: libc.func('int socketpair(int domain, int type, int protocol, _Out_ int *sv)'),
  bind: libc.func('int bind(int fd, const uint8_t *addr, uint32_t len)'),
  connect: libc.func('int connect(int fd, const uint8_t *addr, uint32_t len)'),
  listen: libc.func('int listen(int fd, int backlog)'),
  accept4: libc.func('int accept4(int fd, uint8_t *addr, uint32_t *len, int flags)'),
  getsockname: libc.func('int getsockname(int fd, _Out_ uint8_t *addr, _Inout_ uint32_t *len)'),
  setsockopt: libc.func('int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t len)'),
  getsockopt: libc.func('int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *len)'),
  send: libc.func('intptr_t send(int fd, const uint8_t *buf, size_t len, int flags)'),
  sendto: libc.func('intptr_t sendto(int fd, const uint8_t *buf, size_t len, int flags, const uint8_t *addr, uint32_t alen)'),
  recv: libc.func('intptr_t recv(int fd, uint8_t *buf, size_t len, int flags)'),
  recvfrom: libc.func('intptr_t recvfrom(int fd, uint8_t *buf, size_t len, int flags, uint8_t *addr, uint32_t *alen)'),
  recvmmsg: libc.func('int recvmmsg(int fd, uint8_t *msgs, uint32_t n, int flags, void *timeout)'),
  sendmmsg: libc.func('int sendmmsg(int fd, uint8_t *msgs, uint32_t n, int flags)'),
  read: libc.func('intptr_t read(int fd, uint8_t *buf, size_t len)'),
  write: libc.func('intptr_t write(int fd, const uint8_t *buf, size_t len)'),
  close: libc.func('int close(int fd)'),
  dup: libc.func('int dup(int fd)'),
  open: libc.func('int open(const char *path, int flags, int mode)'),
  fcntl: libc.func('int fcntl(int fd, int cmd, intptr_t arg)'),
  flock: libc.func('int flock(int fd, int operation)'),
  ioctl: libc.func('int ioctl(int fd, unsigned long request, uint8_t *arg)'),
  ethtool: libc.func('int ioctl(int fd, unsigned long request, EthtoolRequest *arg)'),
  shutdown: libc.func('int shutdown(int fd, int how)'),
  setns: libc.func('int setns(int fd, int nstype)'),
  unshare: libc.func('int unshare(int flags)'),
  mount: libc.func('int mount(const char *src, const char *dst, const char *type, unsigned long flags, const char *data)'),
  umount2: libc.func('int umount2(const char *path, int flags)'),
  epollCreate: libc.func('int epoll_create1(int flags)'),
  epollCtl: libc.func('int epoll_ctl(int epfd, int op, int fd, const uint8_t *event)'),
  epollWait: libc.func('int epoll_wait(int epfd, uint8_t *events, int max, int timeoutMs)'),
  eventfd: libc.func('int eventfd(unsigned int initial, int flags)'),
  syscall2: libc.func('long syscall(long number, long a, long b)'),
  kill: libc.func('int kill(int pid, int sig)'),
  mallocTrim: libc.func('int malloc_trim(size_t pad)'),
  openat2: libc.func('long syscall(long number, int dirfd, const char *path, const uint8_t *how, size_t size)'),
  mknod: libc.func('int mknod(const char *path, unsigned int mode, uint64_t dev)'),
  lsetxattr: libc.func('int lsetxattr(const char *path, const char *name, const uint8_t *value, size_t size, int flags)'),
  lgetxattr: libc.func('intptr_t lgetxattr(const char *path, const char *name, uint8_t *value, size_t size)'),
  llistxattr: libc.func('intptr_t llistxattr(const char *path, uint8_t *list, size_t size)'),
} as const

/** errno of the last raw call. Read it before anything else. */
export function errno(): number {
  return koffi.errno()
}

export const errnoName = (n: number): string => {
  try {
    return getSystemErrorName(-n)
  } catch {
    return `errno ${n}`
  }
}

/** Address of a buffer's first byte, for structures that hold pointers (msghdr, iovec). The buffer must stay referenced. */
export function addressOf(buffer: Uint8Array): bigint {
  return BigInt(koffi.address(buffer))
}

const CODE_OF_ERRNO: Readonly<Record<string, ErrorCode>> = {
  ENOENT: 'not-found',
  ENODEV: 'not-found',
  ESRCH: 'not-found',
  EADDRNOTAVAIL: 'not-found',
  EEXIST: 'conflict',
  EADDRINUSE: 'conflict',
  EBUSY: 'busy',
  EAGAIN: 'busy',
  EINVAL: 'invalid',
  EPERM: 'denied',
  EACCES: 'denied',
  EOPNOTSUPP: 'unavailable',
  ENOTSUP: 'unavailable', // what Node calls 95, the same number
}

/** `Cannot add link "br0": EEXIST, kernel says "..."`. */
export function kernelError(op: string, subject: string, errnoValue: number, kernel = ''): NetError {
  const name = errnoName(errnoValue)
  const why = kernel === '' ? name : `${name}, kernel says "${kernel}"`
  return new NetError(CODE_OF_ERRNO[name] ?? 'internal', `Cannot ${op} "${subject}": ${why}`, {
    op,
    subject,
    errno: name,
    kernel,
  })
}

/** Returns `result`, or throws what errno says when it is -1. */
export function check(result: number, op: string, subject: string): number {
  if (result < 0) throw kernelError(op, subject, koffi.errno())
  return result
}

export const AF_UNIX = 1
export const AF_INET = 2
export const AF_BRIDGE = 7
export const AF_INET6 = 10
export const AF_NETLINK = 16
export const AF_PACKET = 17
export const SOCK_STREAM = 1
export const SOCK_DGRAM = 2
export const SOCK_RAW = 3
export const SOCK_SEQPACKET = 5
export const SOCK_NONBLOCK = 0o4000
export const SOCK_CLOEXEC = 0o2000000
export const MSG_DONTWAIT = 0x40
export const MSG_TRUNC = 0x20
export const SOL_SOCKET = 1
export const SO_REUSEADDR = 2
export const SO_SNDBUF = 7
export const SO_RCVBUF = 8
export const SO_RCVTIMEO = 20
export const SO_RCVBUFFORCE = 33
export const CLONE_NEWNET = 0x40000000
export const CLONE_NEWNS = 0x00020000
export const MS_RDONLY = 1
export const MS_REMOUNT = 32
export const MS_BIND = 4096
export const MS_REC = 16384
export const MS_PRIVATE = 1 << 18
const MNT_DETACH = 2
export const EPOLLIN = 1
export const EPOLLOUT = 4
export const EPOLLRDHUP = 0x2000
export const EPOLL_CTL_ADD = 1
export const EPOLL_CTL_DEL = 2
export const EPOLL_CTL_MOD = 3
export const EFD_NONBLOCK = 0o4000
export const EFD_CLOEXEC = 0o2000000
export const F_GETFL = 3
export const F_SETFL = 4
export const F_DUPFD_CLOEXEC = 1030
export const O_RDONLY = 0
export const O_NONBLOCK = 0o4000
export const O_CLOEXEC = 0o2000000
export const EINTR = 4
export const EAGAIN = 11
export const EBUSY = 16
export const ENOBUFS = 105

/** Closes a descriptor, ignoring one that is closed already. */
export function close(fd: number): void {
  raw.close(fd)
}

/**
 * Closes a descriptor on a thread of libuv's pool. For sockets whose end makes the kernel wait: a netfilter socket flushes
 * the destruction of old rules first (net/netfilter/nf_tables_api.c nft_rcv_nl_event), which takes an RCU grace period.
 */
export function closeSoon(fd: number): void {
  fsClose(fd, () => {}) // nothing can be done about a descriptor that does not close
}

/** pidfd_open(2): readable when the process has ended. Throws `not-found` when there is no such process. */
export function pidfdOpen(pid: number): number {
  return check(Number(raw.syscall2(434, pid, 0)), 'open pidfd of', String(pid))
}

/** mount(2). `data` is the option string of the file system. */
export function mount(source: string, target: string, type: string, flags: number, data = ''): void {
  check(raw.mount(source, target, type, flags, data), 'mount', target)
}

/** Lazily detaches a mount; a target that is not mounted or missing is fine. Returns whether something was mounted. */
export function unmount(target: string, flags = MNT_DETACH): boolean {
  if (raw.umount2(target, flags) === 0) return true
  const error = koffi.errno()
  if (errnoName(error) === 'EINVAL' || errnoName(error) === 'ENOENT') return false
  throw kernelError('unmount', target, error)
}

/** Like {@link unmount}, on a thread of the pool: ending an overlay writes back the file system below it, which can take seconds. */
export function unmountAsync(target: string, flags = MNT_DETACH): Promise<boolean> {
  return new Promise((resolve, reject) => {
    raw.umount2.async(target, flags, (failure: unknown, result: number) => {
      // koffi restores the thread's errno before it calls back
      if (failure !== null && failure !== undefined) reject(failure)
      else if (result === 0) resolve(true)
      else {
        const error = koffi.errno()
        if (errnoName(error) === 'EINVAL' || errnoName(error) === 'ENOENT') resolve(false)
        else reject(kernelError('unmount', target, error))
      }
    })
  })
}

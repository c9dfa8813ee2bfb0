/**
 * Runs commands and test files in a stock Debian kernel under QEMU, for what the kernel at hand lacks (802.1q, ipvlan, dummy, WireGuard,
 * ESP, netem). The guest sees this machine's whole file system, read-only with a writable layer that is gone afterwards: the same node,
 * checkout and packages, another kernel. A boot takes about five seconds of a core, and everything runs ten to thirty times slower
 * than outside (an engine needs ten seconds to start): put many tests into one boot. Kernel and QEMU come with `tools/setup --for-tests`.
 *
 *   const { code, output } = await runInVm({ modules: ['8021q'], command: 'ip link add …', timeoutSeconds: 60 })
 */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join, resolve } from 'node:path'
import { gzipSync } from 'node:zlib'
import { bundleForVm } from './vm-bundle.ts'
import { type ArchiveEntry, cpioArchive, moduleFiles } from './vm-initramfs.ts'

const ROOT = resolve(import.meta.dirname, '..')
const CACHE = process.env['CAUSEWAY_VM'] ?? '/var/tmp/causeway-vm'
const QEMU = 'qemu-system-x86_64'
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** What the guest needs to see this machine's files, and what every engine uses (libcrc32c, which nf_tables needs, asks for crc32c by name). */
const BASE_MODULES = [
  'virtio_pci',
  '9pnet_virtio',
  '9p',
  'overlay',
  'veth',
  'bridge',
  'crc32c_generic',
  'nf_tables',
  'nf_conntrack',
  'nft_chain_nat',
]

/** Every piece of machine code that the compiler writes is translated once more by QEMU: interpreting costs less. */
const NODE_FLAGS = ['--no-opt', '--no-sparkplug']

export interface VmRun {
  /** Kernel modules to load before the command; others come when the kernel asks for them, which is slower. */
  readonly modules?: readonly string[]
  /** Shell script; runs in the checkout. */
  readonly command?: string
  /** Test files by their paths from the checkout's root, run one after the other after the command. */
  readonly testFiles?: readonly string[]
  /** The machine is ended after this time, with code 124. */
  readonly timeoutSeconds: number
  /** 1024 unless said. */
  readonly memoryMb?: number
  /** Environment of the command and the tests, besides CAUSEWAY_IN_VM=1, CI and PATH. */
  readonly env?: Readonly<Record<string, string>>
}

export interface VmResult {
  /** Exit code of the first part that failed, else 0; 124 when the time was up, 125 when the guest did not get as far. */
  readonly code: number
  /** Everything that was printed. */
  readonly output: string
  /** What each of the test files printed (TAP), in the order given; '' for those that were not reached. */
  readonly files: readonly { readonly file: string; readonly code: number; readonly output: string }[]
}

/** True inside of such a machine. */
export const inVm = process.env['CAUSEWAY_IN_VM'] === '1'

/** Why no machine can be started here, or undefined when it can. */
export function vmMissing(): string | undefined {
  const found = [...PATH.split(':'), ...(process.env['PATH'] ?? '').split(delimiter)].some((dir) => existsSync(join(dir, QEMU)))
  if (!found) return `there is no ${QEMU} (Debian: qemu-system-x86)`
  if (!existsSync(`${CACHE}/kernel/ready`)) return `there is no Debian kernel in ${CACHE} (tools/vm-kernel brings it)`
  return undefined
}

/** Boots, runs the command and the test files, and powers off. Throws when {@link vmMissing} has something to say. */
export async function runInVm(run: VmRun): Promise<VmResult> {
  const missing = vmMissing()
  if (missing !== undefined) throw new Error(missing)
  const testFiles = run.testFiles ?? []
  const bundle = testFiles.length > 0 ? await bundleForVm(testFiles) : undefined
  const dir = mkdtempSync(join(tmpdir(), 'causeway-vm-'))
  try {
    const mark = randomBytes(8).toString('hex')
    const parts = [...(run.command === undefined ? [] : [`(${run.command}\n)`])]
    for (const file of bundle?.tests ?? []) parts.push(`node ${NODE_FLAGS.join(' ')} --test-reporter=tap ${file}`)
    const script = guestScript(mark, parts, { ...run.env, CAUSEWAY_IN_VM: '1', CI: process.env['CI'] ?? '' }, bundle?.dist)
    const initrd = join(dir, 'initrd')
    writeFileSync(initrd, gzipSync(cpioArchive(initramfs(run.modules ?? [], script)), { level: 1 }))
    const { output, timedOut } = await boot(initrd, run)
    return resultOf(mark, output, timedOut, run.command === undefined ? 0 : 1, testFiles)
  } finally {
    rmSync(dir, { recursive: true, force: true })
    bundle?.remove()
  }
}

function kernelFolder(): string {
  const version = readdirSync(`${CACHE}/kernel/lib/modules`)[0] as string
  return `${CACHE}/kernel/lib/modules/${version}`
}

function initramfs(modules: readonly string[], script: string): ArchiveEntry[] {
  const folder = kernelFolder()
  const busybox = ['/usr/bin/busybox', '/bin/busybox'].find((path) => existsSync(path))
  if (busybox === undefined) throw new Error('there is no busybox (Debian: busybox-static)')
  const files = moduleFiles(folder, [...BASE_MODULES, ...modules])
  const folders = ['bin', 'proc', 'sys', 'dev', 'host', 'layer', 'new', 'checkout', 'modules'].map((path) => ({ path }))
  const named = files.map((file, i) => ({ path: `modules/${String(i).padStart(3, '0')}`, content: readFileSync(join(folder, file)) }))
  return [
    ...folders,
    { path: 'bin/busybox', content: readFileSync(busybox) },
    ...named,
    { path: 'init', content: INIT },
    { path: 'script', content: script },
  ]
}

/** Runs as process 1 before anything of this machine is visible. */
const INIT = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for module in /modules/*; do $b insmod $module || echo "vm: a module does not load"; done
$b mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,ro,msize=512000 host /host || echo "vm: no files of the host"
$b mount -t tmpfs tmpfs /layer
$b mkdir /layer/upper /layer/work
$b mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work root /new
$b mount -t proc proc /new/proc
$b mount -t sysfs sys /new/sys
$b mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
$b mount -t devtmpfs dev /new/dev
$b mkdir -p /new/dev/pts /new/dev/shm
$b mount -t devpts -o ptmxmode=666 devpts /new/dev/pts
$b mount -t tmpfs tmpfs /new/dev/shm
# a checkout below /tmp must not disappear under the guest's own
$b mount --bind /new${ROOT} /checkout
$b mount -t tmpfs tmpfs /new/tmp
$b mount -t tmpfs tmpfs /new/run
[ -d /new${ROOT} ] || { $b mkdir -p /new${ROOT}; $b mount --bind /checkout /new${ROOT}; }
$b mkdir -p /new/run/vm /new/run/lock /new/lib/modules
$b cp /script /new/run/vm/script
# the kernel's own requests for modules
$b mount --bind /host${CACHE}/kernel/lib/modules /new/lib/modules
printf '#!/bin/sh\\nexec busybox modprobe "$@"\\n' >/new/run/vm/modprobe
$b chmod +x /new/run/vm/modprobe
echo /run/vm/modprobe >/proc/sys/kernel/modprobe
exec $b switch_root /new /bin/sh /run/vm/script
`

/** Runs as process 1 of the guest with this machine's files: each part between two lines that no program prints by chance. */
function guestScript(mark: string, parts: readonly string[], env: Readonly<Record<string, string>>, dist: string | undefined): string {
  const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`
  const lines = Object.entries({ ...env, PATH, HOME: '/root', LANG: 'C.UTF-8' }).map(([name, value]) => `export ${name}=${quoted(value)}`)
  lines.push('exec </dev/null', 'hostname causeway-vm', 'ip link set lo up', `cd ${quoted(ROOT)}`)
  // sources may change while the machine runs
  if (dist !== undefined) lines.push(`mount --bind ${quoted(dist)} ${quoted(`${ROOT}/dist`)}`, 'export CAUSEWAY_FROM_SOURCE=0')
  for (const [i, part] of parts.entries()) lines.push(`echo "${mark} begin ${i}"`, part, `echo "${mark} end ${i} $?"`)
  lines.push(`echo "${mark} done"`, 'busybox poweroff -f', 'while :; do busybox sleep 1; done', '')
  return lines.join('\n')
}

function boot(initrd: string, run: VmRun): Promise<{ output: string; timedOut: boolean }> {
  const kernel = `${CACHE}/kernel/boot/vmlinuz-${kernelFolder().split('/').at(-1)}`
  const append = 'console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off nokaslr net.ifnames=0'
  // one processor: with two, every page that one of them gives back waits for the other, and nearly half of the time is lost
  const argv = ['-accel', 'tcg', '-machine', 'q35', '-cpu', 'max', '-smp', '1', '-m', String(run.memoryMb ?? 1024)]
  argv.push('-nodefaults', '-no-reboot', '-display', 'none', '-serial', 'stdio', '-kernel', kernel, '-initrd', initrd, '-append', append)
  argv.push('-virtfs', 'local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap')
  return new Promise((resolve, reject) => {
    const env = { ...process.env, PATH: `${PATH}:${process.env['PATH'] ?? ''}` }
    // timeout(1): the machine ends even when this process is killed
    const limit = ['-k', '5', String(run.timeoutSeconds + 10), QEMU]
    const child = spawn('timeout', [...limit, ...argv], { env, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    let timedOut = false
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text))
    const timer = setTimeout(() => {
      timedOut = true
      child.kill('SIGTERM')
    }, run.timeoutSeconds * 1000)
    child.once('error', reject)
    child.once('close', () => {
      clearTimeout(timer)
      resolve({ output: output.replaceAll('\r', ''), timedOut })
    })
  })
}

function resultOf(mark: string, raw: string, timedOut: boolean, firstFile: number, testFiles: readonly string[]): VmResult {
  const unreached = timedOut ? 124 : 125
  const partAt = (i: number): { code: number; output: string } => {
    const [, from] = raw.split(`${mark} begin ${i}\n`)
    if (from === undefined) return { code: unreached, output: '' }
    const [text, end] = from.split(`${mark} end ${i} `)
    return { code: end === undefined ? unreached : Number.parseInt(end, 10), output: text ?? '' }
  }
  const files = testFiles.map((file, i) => ({ file, ...partAt(i + firstFile) }))
  const codes = [...(firstFile === 1 ? [partAt(0).code] : []), ...files.map((file) => file.code)]
  const first = codes.find((code) => code !== 0) ?? 0
  const code = first === 0 && !raw.includes(`${mark} done`) ? unreached : first
  const output = raw
    .split('\n')
    .filter((line) => !line.startsWith(mark))
    .join('\n')
  return { code, output, files }
}

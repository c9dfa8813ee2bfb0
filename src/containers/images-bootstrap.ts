/**
 * `busybox:latest` made from the static busybox of the host: an image without a registry. The same busybox gives the same bytes, so
 * the same digest, everywhere: nothing in it depends on the clock or on what else is on the host. Its date is that of the program's file,
 * which comes from the package.
 */
import { promises as fs } from 'node:fs'
import { NetError } from '../base/errors.ts'
import { run } from '../sys/process.ts'
import { encodeHeader, paddingOf, TAR_END, type TarHeader } from './archive-tar.ts'
import type { ContainerConfig } from './types.ts'

const CANDIDATES = ['/bin/busybox', '/usr/bin/busybox', '/bin/busybox.static']

const FILES: readonly [string, string][] = [
  [
    'etc/group',
    'root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\nmail:x:8:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n',
  ],
  ['etc/nsswitch.conf', 'passwd: files\ngroup: files\nhosts: files dns\n'],
  [
    'etc/passwd',
    'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nbin:x:2:2:bin:/bin:/bin/false\n' +
      'www-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n',
  ],
  ['etc/shadow', 'root:*::0:::::\ndaemon:*::0:::::\nbin:*::0:::::\nwww-data:*::0:::::\nnobody:*::0:::::\n'],
]

const DIRECTORIES: readonly [string, number][] = [
  ['bin', 0o755],
  ['dev', 0o755],
  ['etc', 0o755],
  ['home', 0o755],
  ['lib', 0o755],
  ['proc', 0o755],
  ['root', 0o700],
  ['sbin', 0o755],
  ['sys', 0o755],
  ['tmp', 0o1777],
  ['usr', 0o755],
  ['usr/bin', 0o755],
  ['usr/sbin', 0o755],
  ['var', 0o755],
  ['var/spool', 0o755],
  ['var/spool/mail', 0o755],
  ['var/www', 0o755],
]

/** The layer's tar and the image configuration without its layers. Throws `unavailable` when the host has no static busybox. */
export async function busyboxImage(): Promise<{
  tar: Buffer
  config: { architecture: string; os: string; created: string; config: ContainerConfig; history: object[] }
}> {
  const { binary, applets, date } = await findBusybox()
  const parts: Buffer[] = []
  const add = (header: TarHeader, body: Buffer = Buffer.alloc(0)): void => {
    parts.push(encodeHeader({ ...header, size: body.length }), body, paddingOf(body.length))
  }
  for (const [name, mode] of DIRECTORIES) add({ name: `${name}/`, type: 'directory', mode })
  for (const [name, text] of FILES) add({ name, type: 'file', mode: name === 'etc/shadow' ? 0o640 : 0o644 }, Buffer.from(text))
  add({ name: 'bin/busybox', type: 'file', mode: 0o755 }, binary)
  const links = new Set(applets.map((applet) => (applet.includes('/') ? applet : `bin/${applet}`)))
  // where scripts look for them, whatever directories this build's list says
  for (const wanted of ['bin/sh', 'usr/bin/env']) links.add(wanted)
  for (const unwanted of ['bin/busybox', 'bin/linuxrc']) links.delete(unwanted)
  for (const link of [...links].sort()) add({ name: link, type: 'link', linkName: 'bin/busybox', mode: 0o755 })
  parts.push(TAR_END)
  const version = /BusyBox v[\w.]+/.exec(binary.toString('latin1', 0, binary.length))?.[0] ?? 'BusyBox'
  return {
    tar: Buffer.concat(parts),
    config: {
      architecture: goArch(),
      os: 'linux',
      created: date,
      config: { Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], Cmd: ['sh'] },
      history: [{ created: date, created_by: `causeway image bootstrap # ${version}` }],
    },
  }
}

async function findBusybox(): Promise<{ binary: Buffer; applets: string[]; date: string }> {
  for (const path of CANDIDATES) {
    const binary = await fs.readFile(path).catch(() => undefined)
    if (binary === undefined) continue
    if (isDynamic(binary)) continue
    const listed = await run([path, '--list-full'], { timeoutMs: 5000 })
    const applets = listed.stdout.split('\n').filter((line) => /^[\w/.[-]+$/.test(line) && !line.includes('..'))
    if (listed.code !== 0 || applets.length === 0) continue
    const { mtime } = await fs.stat(path)
    return { binary, applets, date: mtime.toISOString().replace(/\.\d+Z$/, 'Z') }
  }
  throw new NetError('unavailable', 'Cannot make the image "busybox:latest": the host has no static busybox (install "busybox-static")')
}

/** True for an ELF file that asks for a dynamic loader: a program header of type PT_INTERP. See elf(5). */
function isDynamic(binary: Buffer): boolean {
  if (binary.length < 64 || binary.readUInt32BE(0) !== 0x7f454c46 || binary[4] !== 2) return true // not 64-bit ELF: not for us
  const start = Number(binary.readBigUInt64LE(32))
  const size = binary.readUInt16LE(54)
  const count = binary.readUInt16LE(56)
  for (let i = 0; i < count; i++) if (binary.readUInt32LE(start + i * size) === 3) return true
  return false
}

/** This machine's architecture as images name it. */
export function goArch(): string {
  const names: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' }
  return names[process.arch] ?? process.arch
}

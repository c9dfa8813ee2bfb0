/** The image of the measurements: a static busybox with links for its applets, and iperf3 with its libraries. */
import { copyFileSync, linkSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { run } from './engines.ts'
import type { Api } from './http.ts'

export const IMAGE = 'causeway-bench:latest'

/** A tar archive of the root file system. */
export function buildRootfs(): Buffer {
  const dir = mkdtempSync('/var/tmp/causeway-bench-image-')
  try {
    for (const name of ['bin', 'etc', 'tmp', 'proc', 'sys', 'dev', 'usr/bin']) mkdirSync(join(dir, name), { recursive: true })
    const which = (name: string) => realpathSync(run('sh', ['-c', `command -v ${name}`]).trim())
    copyFileSync(which('busybox'), join(dir, 'bin/busybox'))
    for (const applet of run('busybox', ['--list']).trim().split('\n'))
      if (applet !== 'busybox') linkSync(join(dir, 'bin/busybox'), join(dir, 'bin', applet))
    const iperf3 = which('iperf3')
    copyFileSync(iperf3, join(dir, 'usr/bin/iperf3'))
    for (const [, library] of run('ldd', [iperf3]).matchAll(/(\/\S+) \(0x/g)) {
      const target = join(dir, library as string)
      mkdirSync(dirname(target), { recursive: true })
      copyFileSync(realpathSync(library as string), target)
    }
    const archive = `${dir}.tar`
    run('tar', ['-C', dir, '-cf', archive, '.'])
    const tar = readFileSync(archive)
    rmSync(archive)
    return tar
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** `docker import`. */
export async function importImage(api: Api, tar: Buffer): Promise<void> {
  const [repo, tag] = IMAGE.split(':')
  await api.call('POST', `/images/create?fromSrc=-&repo=${repo}&tag=${tag}`, tar)
}

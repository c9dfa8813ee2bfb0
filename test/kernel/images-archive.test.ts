import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { copyDirectory, exportRoot, getArchive, putArchive, statPath } from '../../src/containers/archive.ts'
import type { TarHeader } from '../../src/containers/archive-tar.ts'
import { collect, openFiles, readText, scratch, sh, stream, tarOf, xattrsBelow } from './images-lab.ts'

const base = scratch()
after(() => rmSync(base, { recursive: true, force: true }))

let count = 0
/** A tree like a container's, beside an `outside` directory that nothing may touch. */
function tree(): { root: string; outside: string } {
  const at = join(base, String(count++))
  const root = join(at, 'root')
  const outside = join(at, 'outside')
  mkdirSync(join(root, 'etc'), { recursive: true })
  mkdirSync(join(root, 'data'))
  mkdirSync(outside)
  writeFileSync(join(root, 'etc/passwd'), 'inside\n')
  writeFileSync(join(outside, 'passwd'), 'outside\n')
  symlinkSync(outside, join(root, 'data/abs'))
  symlinkSync('../../outside', join(root, 'data/rel'))
  symlinkSync('/etc', join(root, 'data/etc'))
  symlinkSync('loop', join(root, 'data/loop'))
  symlinkSync('/nowhere', join(root, 'data/dangling'))
  return { root, outside }
}

const put = (
  root: string,
  path: string,
  entries: readonly [TarHeader, string?][],
  options = { noOverwriteDirNonDir: false },
): Promise<void> => putArchive(root, path, stream(tarOf(entries)), options, 'c1')

/** [what, entries of the archive, undefined = accepted or the error] */
const HOSTILE: readonly [string, [TarHeader, string?][], RegExp | undefined][] = [
  ['a name that climbs out', [[{ name: '../outside/new', type: 'file' }, 'x']], /"..\/outside\/new" is outside of the root/],
  ['a name that climbs out deep inside', [[{ name: 'a/../../../outside/new', type: 'file' }, 'x']], /outside of the root/],
  ['an absolute name', [[{ name: '/outside/new', type: 'file' }, 'x']], undefined],
  [
    'a link out, then a file through it',
    [[{ name: 'l', type: 'symlink', linkName: '../../outside' }], [{ name: 'l/new', type: 'file' }, 'x']],
    /Cannot extract "l\/new": EEXIST/,
  ],
  [
    'an absolute link, then a file through it',
    [[{ name: 'l', type: 'symlink', linkName: '/' }], [{ name: 'l/new', type: 'file' }, 'x']],
    undefined,
  ],
  [
    'a link chain',
    [
      [{ name: 'a', type: 'symlink', linkName: '..' }],
      [{ name: 'b', type: 'symlink', linkName: 'a/..' }],
      [{ name: 'b/c', type: 'symlink', linkName: '../../../..' }],
      [{ name: 'b/c/outside/new', type: 'file' }, 'x'],
    ],
    undefined,
  ],
  ['a hard link out', [[{ name: 'h', type: 'link', linkName: '../outside/passwd' }]], /outside of the root/],
  [
    'a hard link through a link out',
    [[{ name: 'l', type: 'symlink', linkName: '../../outside' }], [{ name: 'h', type: 'link', linkName: 'l/passwd' }]],
    /Cannot extract "h": ENOENT/,
  ],
  [
    'a hard link to a link out, then a write through it',
    [
      [{ name: 'l', type: 'symlink', linkName: '../../outside/passwd' }],
      [{ name: 'h', type: 'link', linkName: 'l' }],
      [{ name: 'h', type: 'file' }, 'overwritten'],
    ],
    undefined,
  ],
  [
    'a file over a link out',
    [[{ name: 'l', type: 'symlink', linkName: '../../outside/passwd' }], [{ name: 'l', type: 'file' }, 'overwritten']],
    undefined,
  ],
  [
    'a directory over a link out',
    [[{ name: 'l', type: 'symlink', linkName: '../../outside' }], [{ name: 'l/', type: 'directory', mode: 0o777, uid: 7 }]],
    undefined,
  ],
  ['a file through an existing link out', [[{ name: 'abs/new', type: 'file' }, 'x']], /EEXIST/],
  ['a file through another existing link out', [[{ name: 'rel/new', type: 'file' }, 'x']], /EEXIST/],
  ['a file through a loop', [[{ name: 'loop/new', type: 'file' }, 'x']], /ELOOP/],
  ['a component of 300 bytes', [[{ name: 'n'.repeat(300), type: 'file' }, 'x']], /ENAMETOOLONG/],
  ['a path of 6,000 bytes', [[{ name: `${'d'.repeat(200)}/`.repeat(30), type: 'directory' }]], /ENAMETOOLONG/],
  [
    'a file below a file',
    [
      [{ name: 'f', type: 'file' }, 'x'],
      [{ name: 'f/g', type: 'file' }, 'x'],
    ],
    /ENOTDIR/,
  ],
  ['an impossible owner', [[{ name: 'f', type: 'file', uid: 2 ** 40 }, 'x']], /Cannot extract "f": /],
  [
    'an overlay attribute',
    [[{ name: 'd/', type: 'directory', xattrs: new Map([['trusted.overlay.redirect', Buffer.from('/etc')]]) }]],
    undefined,
  ],
]

for (const [what, entries, error] of HOSTILE) {
  test(`putArchive: ${what} touches nothing outside the root`, async () => {
    const { root, outside } = tree()
    const before = openFiles()
    if (error === undefined) await put(root, '/data', entries)
    else await assert.rejects(put(root, '/data', entries), { message: error, code: 'invalid' })
    assert.deepEqual(readdirSync(outside), ['passwd'])
    assert.equal(readText(join(outside, 'passwd')), 'outside\n')
    assert.equal(statSync(outside).uid, 0)
    assert.equal(readText(join(root, 'etc/passwd')), 'inside\n')
    assert.equal(openFiles(), before, 'no descriptor is left')
    assert.deepEqual(xattrsBelow(root), [], 'no attribute of overlayfs came along')
  })
}

test('putArchive follows the links of the path and of the archive inside the root, as a chroot would', async () => {
  const { root } = tree()
  await put(root, '/data/etc', [[{ name: 'hosts', type: 'file' }, 'a']])
  await put(root, '/data', [[{ name: 'etc/group', type: 'file' }, 'b']])
  assert.equal(readText(join(root, 'etc/hosts')), 'a')
  assert.equal(readText(join(root, 'etc/group')), 'b')
})

test('putArchive keeps modes, owners, times, links, devices and capabilities, as stat and getcap see them', async () => {
  const { root } = tree()
  const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex') // cap_net_raw=ep
  await put(root, '/data', [
    [{ name: 'd/', type: 'directory', mode: 0o1777, uid: 11, gid: 12, mtime: 1600000000 }],
    [{ name: 'd/suid', type: 'file', mode: 0o4751, uid: 13, gid: 14, mtime: 1500000000.5 }, 'body'],
    [{ name: 'd/hard', type: 'link', linkName: 'd/suid' }],
    [{ name: 'd/link', type: 'symlink', linkName: 'suid', uid: 15, mtime: 1400000000 }],
    [{ name: 'd/null', type: 'char', mode: 0o666, devMajor: 1, devMinor: 3 }],
    [{ name: 'd/pipe', type: 'fifo', mode: 0o622 }],
    [
      {
        name: 'd/ping',
        type: 'file',
        mode: 0o755,
        xattrs: new Map([
          ['security.capability', capability],
          ['user.note', Buffer.from([0, 255])],
        ]),
      },
      'x',
    ],
  ])
  const stat = (name: string): string =>
    execFileSync('stat', ['-c', '%F %a %u:%g %.1Y %h', join(root, 'data/d', name)], { encoding: 'utf8' }).trim()
  assert.equal(stat('.'), 'directory 1777 11:12 1600000000.0 2')
  assert.equal(stat('suid'), 'regular file 4751 13:14 1500000000.5 2')
  assert.match(stat('link'), /^symbolic link 777 15:0 1400000000\.0/)
  assert.match(stat('null'), /^character special file 666 0:0/)
  assert.match(stat('pipe'), /^fifo 622/)
  assert.equal(execFileSync('stat', ['-c', '%t:%T', join(root, 'data/d/null')], { encoding: 'utf8' }), '1:3\n')
  assert.deepEqual(xattrsBelow(join(root, 'data')), [`d/ping security.capability=${capability.toString('hex')}`, 'd/ping user.note=00ff'])
})

test('putArchive: owner, non-directories and missing paths', async () => {
  const { root } = tree()
  await putArchive(
    root,
    '/data',
    stream(tarOf([[{ name: 'x/y', type: 'file', uid: 5 }, 'z']])),
    { noOverwriteDirNonDir: true, owner: { uid: 33, gid: 34 } },
    'c1',
  )
  assert.equal(execFileSync('stat', ['-c', '%u:%g', join(root, 'data/x'), join(root, 'data/x/y')], { encoding: 'utf8' }), '33:34\n33:34\n')
  await assert.rejects(put(root, '/etc/passwd', []), { code: 'invalid', message: 'extraction point is not a directory' })
  await assert.rejects(put(root, '/missing', []), { code: 'not-found', message: 'Could not find the file /missing in container c1' })
  const strict = { noOverwriteDirNonDir: true }
  await assert.rejects(put(root, '/data', [[{ name: 'x', type: 'file' }, '']], strict), {
    code: 'invalid',
    message: /cannot overwrite directory "\/data\/x"/,
  })
  await assert.rejects(put(root, '/data', [[{ name: 'x/y/', type: 'directory' }]], strict), {
    code: 'invalid',
    message: /cannot overwrite non-directory "\/data\/x\/y"/,
  })
  await put(root, '/data', [[{ name: 'x', type: 'file' }, 'now a file']])
  assert.equal(readText(join(root, 'data/x')), 'now a file')
})

test('putArchive takes what tar, gzip, zstd, xz and bzip2 make', async () => {
  for (const [flag, suffix] of [
    ['', ''],
    ['-z', '.gz'],
    ['--zstd', '.zst'],
    ['-J', '.xz'],
    ['-j', '.bz2'],
  ] as const) {
    const { root } = tree()
    const file = join(base, `made.tar${suffix}`)
    sh(`cd ${root} && tar -c ${flag} --format=${suffix === '' ? 'gnu' : 'pax'} -f ${file} etc data`)
    await putArchive(root, '/', stream(execFileSync('cat', [file])), { noOverwriteDirNonDir: false }, 'c1')
    mkdirSync(join(root, 'copy'))
    await putArchive(root, '/copy', stream(execFileSync('cat', [file])), { noOverwriteDirNonDir: false }, 'c1')
    assert.equal(
      sh(`diff -r --no-dereference ${root}/etc ${root}/copy/etc && diff -r --no-dereference ${root}/data ${root}/copy/data && echo same`),
      'same\n',
    )
  }
})

test('a truncated stream is an error, compressed or not', async () => {
  const { root } = tree()
  const tar = tarOf([[{ name: 'f', type: 'file' }, 'x'.repeat(5000)]])
  const zipped = execFileSync('gzip', ['-c'], { input: tar })
  const zstd = execFileSync('zstd', ['-qc'], { input: tar })
  for (const cut of [
    tar.subarray(0, 300),
    tar.subarray(0, 2000),
    zipped.subarray(0, 60),
    zstd.subarray(0, 30),
    Buffer.alloc(1000, 'garbage'),
  ]) {
    const before = openFiles()
    await assert.rejects(putArchive(root, '/data', stream(cut), { noOverwriteDirNonDir: false }, 'c1'), { code: 'invalid' })
    await new Promise((resolve) => setTimeout(resolve, 50)) // pipes of the decompressor close with it
    assert.ok(openFiles() <= before, 'no descriptor is left')
  }
})

test('statPath gives Docker the facts, and follows a link only with a slash behind it', async () => {
  const { root } = tree()
  chmodSync(join(root, 'data'), 0o1755)
  assert.deepEqual(
    { ...(await statPath(root, 'etc/passwd', 'c1')), mtime: '' },
    { name: 'passwd', size: 7, mode: 0o644, mtime: '', linkTarget: '' },
  )
  assert.equal((await statPath(root, '/data', 'c1')).mode, 2 ** 31 + 2 ** 20 + 0o755)
  assert.deepEqual(await statPath(root, '/', 'c1').then((s) => [s.name, s.mode >= 2 ** 31]), ['/', true])
  const link = await statPath(root, '/data/etc', 'c1')
  assert.deepEqual([link.name, link.mode, link.linkTarget], ['etc', 2 ** 27 + 0o777, '/etc'])
  assert.equal((await statPath(root, '/data/dangling', 'c1')).linkTarget, '/nowhere')
  assert.equal((await statPath(root, '/data/abs', 'c1')).linkTarget.endsWith('/outside'), true)
  assert.equal((await statPath(root, '/data/loop', 'c1')).linkTarget, '/data/loop')
  assert.equal((await statPath(root, '/data/etc/', 'c1')).mode, 2 ** 31 + 0o755)
  for (const path of [
    '/nope',
    '/etc/passwd/x',
    '/etc/passwd/',
    '/data/abs/',
    '/data/rel/passwd',
    '/data/loop/',
    `/${'x'.repeat(300)}`,
    '../../outside',
  ]) {
    await assert.rejects(statPath(root, path, 'c1'), { code: 'not-found', message: `Could not find the file ${path} in container c1` })
  }
})

test('getArchive names entries after the path, as tar lists them', async () => {
  const { root } = tree()
  const listed = async (path: string): Promise<string[]> =>
    execFileSync('tar', ['-tPf', '-'], { input: await collect(await getArchive(root, path, 'c1')), encoding: 'utf8' })
      .trim()
      .split('\n')
  assert.deepEqual(await listed('/etc'), ['etc/', 'etc/passwd'])
  assert.deepEqual(await listed('/etc/'), ['etc/', 'etc/passwd'])
  assert.deepEqual(await listed('/etc/.'), ['./', './passwd'])
  assert.deepEqual(await listed('/etc/passwd'), ['passwd'])
  assert.deepEqual(await listed('/data/etc'), ['etc'])
  assert.deepEqual(await listed('/data/etc/'), ['etc/', 'etc/passwd'])
  assert.ok((await listed('/')).includes('/etc/passwd'))
  await assert.rejects(getArchive(root, '/data/rel/passwd', 'c1'), { code: 'not-found' })
})

test('exportRoot and GNU tar agree on every file, hard links, devices and capabilities included', async () => {
  const { root } = tree()
  sh(
    `cd ${root}/data && ln ../etc/passwd hard && mknod null c 1 3 && mkfifo pipe && chmod 2755 . && touch -d @1234567890 old && python3 -c "import os; os.setxattr('old','user.a',b'b')" && chown 7:8 old && python3 -c "import socket; socket.socket(socket.AF_UNIX).bind('sock')"`,
  )
  const target = join(base, 'exported')
  mkdirSync(target)
  const before = openFiles()
  execFileSync('tar', ['--xattrs', '--xattrs-include=*', '-xpf', '-', '-C', target], { input: await collect(await exportRoot(root)) })
  assert.equal(openFiles(), before)
  const facts = (at: string): string =>
    sh(`cd ${at} && find . -mindepth 1 ! -type s -printf '%p %y %m %U:%G %Ts %l %n\\n' | sort`) + xattrsBelow(at).join()
  assert.equal(facts(target), facts(root))
  assert.equal(existsSync(join(target, 'data/sock')), false)
  assert.equal(lstatSync(join(target, 'data/hard')).ino, lstatSync(join(target, 'etc/passwd')).ino)
})

test('an export that nobody reads to its end leaves no descriptor', async () => {
  const { root } = tree()
  writeFileSync(join(root, 'big'), Buffer.alloc(3 << 20))
  const before = openFiles()
  const readable = await exportRoot(root)
  readable.once('data', () => readable.destroy())
  await new Promise((resolve) => readable.once('close', resolve))
  assert.equal(openFiles(), before)
})

test('a live tree whose directories turn into links out is never left, by reading or by writing', async () => {
  const { root, outside } = tree()
  mkdirSync(join(root, 'data/flip'))
  writeFileSync(join(root, 'data/flip/inner'), 'inner\n')
  writeFileSync(join(outside, 'inner'), 'secret\n')
  // one process exchanges a directory and a link as fast as it can: renameat2(RENAME_EXCHANGE), number 316 on x86-64
  symlinkSync(outside, join(root, 'data/flop'))
  const flipper = spawn('python3', [
    '-c',
    `import ctypes,os,sys
libc=ctypes.CDLL(None)
a,b=[os.fsencode(p) for p in sys.argv[1:3]]
while os.getppid()>1: libc.syscall(316,-100,a,-100,b,2)`,
    join(root, 'data/flip'),
    join(root, 'data/flop'),
  ])
  try {
    let seen = 0
    let refused = 0
    const end = Date.now() + 1500
    while (Date.now() < end) {
      for (const work of [
        async () => {
          const tar = await collect(await getArchive(root, '/data', 'c1'))
          assert.equal(tar.includes('secret'), false, 'the export left the root')
          seen++
        },
        () => put(root, '/data', [[{ name: 'flip/written', type: 'file' }, 'w']]),
        () =>
          put(root, '/data/flip', [
            [{ name: 'sub/x', type: 'file', mode: 0o777, uid: 9 }, 'w'],
            [{ name: 'sub', type: 'file' }, 'w'],
          ]),
      ]) {
        try {
          await work()
        } catch (error) {
          if ((error as Error).name === 'AssertionError') throw error
          refused++
        }
      }
      assert.deepEqual(readdirSync(outside).sort(), ['inner', 'passwd'])
      assert.equal(statSync(join(outside, 'inner')).uid, 0)
    }
    assert.ok(seen > 5 && refused > 5, `the race was not run: ${seen} exports, ${refused} refusals`)
  } finally {
    flipper.kill('SIGKILL')
  }
})

test('copyDirectory copies owner, mode and content, and only directories inside the root', async () => {
  const { root } = tree()
  sh(`chown 5:6 ${root}/etc && chmod 750 ${root}/etc`)
  const target = join(base, 'volume')
  mkdirSync(target)
  assert.equal(await copyDirectory(root, '/data/etc', target), true)
  assert.equal(execFileSync('stat', ['-c', '%a %u:%g', target], { encoding: 'utf8' }), '750 5:6\n')
  assert.equal(readText(join(target, 'passwd')), 'inside\n')
  assert.equal(await copyDirectory(root, '/data/rel', target), false)
  assert.equal(await copyDirectory(root, '/etc/passwd', target), false)
  assert.equal(readlinkSync(join(root, 'data/etc')), '/etc')
})

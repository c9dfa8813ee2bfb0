import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeHeader, paddingOf, TAR_END, type TarEntry, type TarHeader, TarReader } from './archive-tar.ts'

async function* pieces(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

function archiveOf(entries: readonly [TarHeader, string?][]): Buffer {
  const parts = entries.flatMap(([header, body = '']) => {
    const bytes = Buffer.from(body)
    return [encodeHeader({ ...header, size: bytes.length }), bytes, paddingOf(bytes.length)]
  })
  return Buffer.concat([...parts, TAR_END])
}

async function readAll(bytes: Buffer, size = 1 << 16): Promise<{ entries: (TarEntry & { body: string })[]; raw: Buffer }> {
  const raw: Buffer[] = []
  const reader = new TarReader(pieces(bytes, size), (part) => raw.push(Buffer.from(part)))
  const entries: (TarEntry & { body: string })[] = []
  for (;;) {
    const entry = await reader.next()
    if (entry === undefined) break
    let body = ''
    for await (const chunk of reader.body()) body += chunk.toString()
    entries.push({ ...entry, body })
  }
  await reader.finish()
  return { entries, raw: Buffer.concat(raw) }
}

const LONG = `${'d'.repeat(90)}/${'n'.repeat(200)}`
const ALL: [TarHeader, string?][] = [
  [{ name: 'dir/', type: 'directory', mode: 0o1777, uid: 1, gid: 2, mtime: 1700000000 }],
  [{ name: 'dir/file', type: 'file', mode: 0o4755, mtime: 1700000000.25 }, 'hello'],
  [{ name: LONG, type: 'file', mode: 0o600, uid: 5_000_000, gid: 4_000_000_000 }, 'x'.repeat(1025)],
  [{ name: 'grüße', type: 'symlink', linkName: `../${'t'.repeat(150)}` }],
  [{ name: 'hard', type: 'link', linkName: 'dir/file' }],
  [{ name: 'null', type: 'char', mode: 0o666, devMajor: 1, devMinor: 3 }],
  [{ name: 'disk', type: 'block', devMajor: 259, devMinor: 70000 }],
  [{ name: 'pipe', type: 'fifo' }],
  [{ name: 'old', type: 'file', mtime: -5 }, ''],
  [
    {
      name: 'caps',
      type: 'file',
      xattrs: new Map([
        ['security.capability', Buffer.from([1, 0, 0, 2, 0xff, 10, 61, 0])],
        ['user.empty', Buffer.alloc(0)],
      ]),
    },
    'c',
  ],
]

test('every kind of entry survives a round trip, whatever the size of the pieces', async () => {
  const bytes = archiveOf(ALL)
  for (const size of [1, 511, 512, 513, 1 << 16]) {
    const { entries } = await readAll(bytes, size)
    assert.deepEqual(
      entries.map((e) => e.name),
      ALL.map(([h]) => h.name),
    )
    for (const [i, [header, body = '']] of ALL.entries()) {
      const { body: got, ...entry } = entries[i] as TarEntry & { body: string }
      assert.equal(got, body)
      assert.deepEqual(
        { ...entry, size: 0 },
        {
          mode: header.type === 'directory' ? 0o755 : 0o644,
          uid: 0,
          gid: 0,
          mtime: 0,
          linkName: '',
          devMajor: 0,
          devMinor: 0,
          xattrs: new Map(),
          ...header,
          size: 0,
        },
      )
    }
  }
})

test('raw bytes and bodies together are the archive, byte for byte', async () => {
  const bytes = Buffer.concat([archiveOf(ALL), Buffer.from('trailing rubbish')])
  const { entries, raw } = await readAll(bytes, 700)
  assert.equal(raw.length + entries.reduce((sum, e) => sum + e.size, 0), bytes.length)
})

test('a body that is not read is skipped', async () => {
  const reader = new TarReader(pieces(archiveOf(ALL), 600))
  const names: string[] = []
  for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) names.push(entry.name)
  assert.equal(names.length, ALL.length)
})

test('an archive cut at any offset is an error or ends at an entry, and never hangs', async () => {
  const bytes = archiveOf(ALL.slice(0, 4))
  const whole = await readAll(bytes)
  const boundaries: number[] = []
  for (let cut = 0; cut < bytes.length; cut += 37) {
    try {
      const { entries } = await readAll(bytes.subarray(0, cut))
      assert.deepEqual(entries, whole.entries.slice(0, entries.length))
      boundaries.push(cut)
      assert.ok(cut % 512 === 0 || cut > bytes.length - 1024, `accepted a cut at ${cut}`)
    } catch (error) {
      assert.match((error as Error).message, /^invalid tar archive: unexpected end of file/)
    }
  }
  assert.ok(boundaries.length > 0)
})

test('any flipped byte of a header is noticed or harmless, never a crash', async () => {
  const good = archiveOf([[{ name: 'a', type: 'file' }, 'body']])
  let refused = 0
  for (let at = 0; at < 512; at++) {
    const bytes = Buffer.from(good)
    bytes[at] = (bytes[at] as number) ^ 0x41
    try {
      await readAll(bytes)
    } catch (error) {
      assert.match((error as Error).message, /^invalid tar archive/)
      refused++
    }
  }
  assert.ok(refused > 480, `only ${refused} of 512 were refused`)
})

const header = (change: (block: Buffer) => void, fixSum = true): Buffer => {
  const block = encodeHeader({ name: 'a', type: 'file', size: 0 })
  change(block)
  if (fixSum) {
    block.fill(0x20, 148, 156)
    const sum = block.reduce((a, b) => a + b, 0)
    block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  }
  return Buffer.concat([block, TAR_END])
}

for (const [what, bytes, message] of [
  ['rubbish', Buffer.alloc(1024, 0x61), /invalid tar header/],
  ['a negative size', header((b) => b.fill(0xff, 124, 136)), /negative size/],
  ['a size beyond all bounds', header((b) => b.fill(0x7f, 125, 136).writeUInt8(0xbf, 124)), /too large/],
  ['a pax header of a gigabyte', header((b) => b.write('x', 156) && b.write('07777777777', 124)), /a header of/],
  ['a sparse file', header((b) => b.write('S', 156)), /sparse/],
  ['a number that is no octal', header((b) => b.write('9zz', 100)), /invalid tar header/],
] as const) {
  test(`${what} is refused`, async () => {
    await assert.rejects(readAll(bytes), { message, code: 'invalid' })
  })
}

for (const record of [
  '8 path=a\n',
  '99 path=a\n',
  'path=a\n',
  '6 path\n',
  '0 a=b\n',
  '-1 a=b\n',
  '12 mtime=abc\n',
  '11 size=-4\n',
  '13 path=a\0b\n\n',
]) {
  test(`the pax record ${JSON.stringify(record)} is refused`, async () => {
    const body = Buffer.from(record)
    const pax = header((b) => b.write('x', 156) && b.write(`${body.length.toString(8).padStart(11, '0')}`, 124)).subarray(0, 512)
    await assert.rejects(readAll(Buffer.concat([pax, body, paddingOf(body.length), archiveOf([[{ name: 'f', type: 'file' }]])])), {
      code: 'invalid',
    })
  })
}

test('GNU long names and base-256 numbers are read', async () => {
  const name = 'g'.repeat(300)
  const long = header((b) => b.write('L', 156) && b.write((301).toString(8).padStart(11, '0'), 124)).subarray(0, 512)
  const file = header((b) => {
    b.fill(0, 108, 116).writeUInt8(0x80, 108)
    b.writeUInt32BE(3_000_000_000, 112)
  })
  const { entries } = await readAll(Buffer.concat([long, Buffer.from(`${name}\0`), paddingOf(301), file]))
  assert.equal(entries[0]?.name, name)
  assert.equal(entries[0]?.uid, 3_000_000_000)
})

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { storeContract } from '../../testkit/contracts/store.ts'
import { hasCode } from '../base/errors.ts'
import { type LmdbStoreOptions, openLmdbStore } from './lmdb-store.ts'

const root = mkdtempSync(join(tmpdir(), 'causeway-store-'))
after(() => rmSync(root, { recursive: true, force: true }))
let count = 0
const freshDir = () => join(root, String(count++))
const openIn = (dir: string, more: Partial<LmdbStoreOptions> = {}) => openLmdbStore({ dir, ...more })

storeContract('lmdb store', { fresh: () => openIn(freshDir()) })
storeContract('lmdb store, fsync in every commit', { fresh: () => openIn(freshDir(), { durability: 'commit' }) })

test('lmdb store: a second opening finds everything', async () => {
  const dir = freshDir()
  const first = openIn(dir)
  for (let i = 0; i < 2000; i++) first.put(`network/${i}`, { i, pad: 'x'.repeat(200) })
  first.remove('network/7')
  await first.close()
  const second = openIn(dir)
  assert.equal(second.list('network/').length, 1999)
  assert.equal(second.get<{ i: number }>('network/1999')?.i, 1999)
  await second.close()
})

test('lmdb store: kill -9 in the middle of writing loses nothing acknowledged and shows no half transaction', async () => {
  const dir = freshDir()
  const writer = `
    import { writeSync } from 'node:fs'
    import { openLmdbStore } from ${JSON.stringify(join(import.meta.dirname, 'lmdb-store.ts'))}
    const store = openLmdbStore({ dir: ${JSON.stringify(dir)}, syncDelayMs: 5 })
    const start = store.get('n') ?? 0
    // the reader may be slow: a full pipe is no failure of the store
    const say = (text) => { for (;;) try { return writeSync(1, text) } catch (error) { if (error.code !== 'EAGAIN') throw error } }
    const tick = () => {
      for (let burst = 0; burst < 50; burst++) {
        const i = globalThis.i = (globalThis.i ?? start) + 1
        store.transaction(() => { store.put('left/' + i, i); store.put('n', i); store.put('right/' + i, 'r'.repeat(i % 3000)) })
        say(i + '\\n')
      }
      setImmediate(tick)
    }
    tick()`
  for (let round = 0; round < 5; round++) {
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', writer], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (said.length > 500 + 1700 * round) child.kill('SIGKILL')
    })
    const [, signal] = await once(child, 'close')
    assert.equal(signal, 'SIGKILL')
    const acknowledged = Number(said.slice(0, said.lastIndexOf('\n')).split('\n').at(-1))
    const store = openIn(dir, { durability: 'none' })
    const n = store.get<number>('n') ?? 0
    assert.ok(n >= acknowledged, `acknowledged ${acknowledged}, found ${n}`)
    assert.equal(store.list('left/').length, n)
    assert.equal(store.list('right/').length, n)
    await store.close()
  }
})

/** The folder as a crash would leave it, while the store is still open. */
function crashed(dir: string): string {
  const copy = freshDir()
  cpSync(dir, copy, { recursive: true })
  rmSync(join(copy, 'state.mdb-lock'))
  return copy
}

test('lmdb store: after a power cut it goes on from the last checkpoint, after a mere restart from the last write', async () => {
  const dir = freshDir()
  const store = openIn(dir, { bootId: 'boot-1', durability: 'none' })
  store.put('a', 'never synced')
  const early = openIn(crashed(dir), { bootId: 'boot-2' }) // nothing to fall back to
  assert.equal(early.get('a'), 'never synced')
  await early.close()
  await store.close()

  const again = openIn(dir, { bootId: 'boot-1', syncDelayMs: 3_600_000 })
  again.put('a', 'checkpointed')
  await again.flush()
  again.put('a', 'page cache only')
  const restarted = openIn(crashed(dir), { bootId: 'boot-1' })
  assert.equal(restarted.get('a'), 'page cache only')
  await restarted.close()
  const torn = crashed(dir)
  truncateSync(join(torn, 'state.mdb'), 8192) // what a disk may look like after the cut
  const afterCut = openIn(torn, { bootId: 'boot-2' })
  assert.equal(afterCut.get('a'), 'checkpointed')
  afterCut.put('b', 1)
  await afterCut.close()
  const later = openIn(torn, { bootId: 'boot-3' })
  assert.equal(later.get('b'), 1)
  await later.close()
  await again.close()
})

test('lmdb store: with fsync in every commit a power cut loses nothing', async () => {
  const dir = freshDir()
  const store = openIn(dir, { bootId: 'boot-1', durability: 'commit' })
  store.put('a', 'old')
  await store.flush()
  store.put('a', 'new')
  const other = openIn(crashed(dir), { bootId: 'boot-2', durability: 'commit' })
  assert.equal(other.get('a'), 'new')
  await other.close()
  await store.close()
})

test('lmdb store: a checkpoint follows a write by itself', async () => {
  const dir = freshDir()
  const store = openIn(dir, { bootId: 'boot-1', syncDelayMs: 5 })
  store.put('a', 1)
  for (let i = 0; i < 200 && !existsSync(join(dir, 'checkpoint.mdb')); i++) await setTimeout(10)
  const other = openIn(crashed(dir), { bootId: 'boot-2' })
  assert.equal(other.get('a'), 1)
  await other.close()
  await store.close()
})

test('lmdb store: after a clean close a reboot changes nothing', async () => {
  const dir = freshDir()
  const first = openIn(dir, { bootId: 'boot-1', durability: 'none' })
  first.put('a', 1)
  await first.close()
  const second = openIn(dir, { bootId: 'boot-2' })
  assert.equal(second.get('a'), 1)
  await second.close()
})

test('lmdb store: a folder that cannot be made is a clear error', () => {
  const file = join(root, 'file')
  writeFileSync(file, '')
  assert.throws(
    () => openIn(join(file, 'below')),
    (error) => hasCode(error, 'unavailable') && /cannot open the store in .*file\/below: ENOTDIR/.test(String(error)),
  )
})

test('lmdb store: a file that is no database is a clear error, an empty one a new database', async () => {
  const dir = freshDir()
  mkdirSync(dir)
  writeFileSync(join(dir, 'state.mdb'), 'not a database'.repeat(1000))
  assert.throws(
    () => openIn(dir),
    (error) => hasCode(error, 'unavailable') && /state\.mdb is not a database/.test(String(error)),
  )
  writeFileSync(join(dir, 'state.mdb'), '')
  await openIn(dir).close()
})

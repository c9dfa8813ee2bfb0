/**
 * The store on disk, over LMDB.
 *
 * A commit writes its pages with pwrite(2) and then the page that points to them, and does not wait for the disk: it costs
 * microseconds, and since the page cache belongs to the kernel it survives `kill -9` at any instant. What it alone would not
 * survive is the loss of power, when the disk may have kept the pointer but not the pages. Therefore, with `background`
 * durability, a moment after a write the file is synced and a compact copy is put beside it (`checkpoint.mdb`); the first opening
 * after an unclean end of the whole machine goes on from that copy. Containers do not survive a reboot either, so what is lost
 * is at most the last moment's networks.
 */
import {
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { open as openFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { type Key, open, type RootDatabase, type TransactionFlags } from 'lmdb'
import { systemClock } from '../base/clock.ts'
import { messageOf, NetError } from '../base/errors.ts'
import { type Clock, type Logger, silentLogger } from '../base/ports.ts'
import { checkKey, checkSynchronous, closedError, decodeValue, encodeValue } from './codec.ts'
import type { Store } from './types.ts'

export interface LmdbStoreOptions {
  /** Folder of the database, made when missing (mode 0700). One process at a time. */
  readonly dir: string
  /**
   * `background` (default): fsync and checkpoint `syncDelayMs` after a write. `commit`: fsync within every commit (hundreds of
   * microseconds to many milliseconds). `none`: never, except in flush() and close(): for tests.
   */
  readonly durability?: 'background' | 'commit' | 'none'
  /** Default 500. */
  readonly syncDelayMs?: number
  /** The kernel's boot id: tells a restarted engine from a restarted machine. Without it the database is always trusted. */
  readonly bootId?: string
  readonly clock?: Clock
  readonly logger?: Logger
}

/** Address space only: neither memory nor disk is taken until used. */
const MAP_BYTES = 4 * 2 ** 30
/** lmdb's TransactionFlags: abortable, committed on return. */
const ABORTABLE_SYNC = 3 as TransactionFlags
const LAST_CODE_POINT = '\u{10ffff}'

/** Opens or creates the store. Throws `unavailable` when the folder or the file cannot be used. */
export function openLmdbStore(options: LmdbStoreOptions): Store {
  try {
    mkdirSync(options.dir, { recursive: true, mode: 0o700 })
    recoverAfterReboot(options)
    refuseForeignFile(dataFile(options.dir))
    return new LmdbStore(options)
  } catch (cause) {
    throw new NetError('unavailable', `cannot open the store in ${options.dir}: ${messageOf(cause)}`, { subject: options.dir }, cause)
  }
}

const dataFile = (dir: string) => join(dir, 'state.mdb')
const checkpointFile = (dir: string) => join(dir, 'checkpoint.mdb')
/** Holds the boot id while the store is open, `clean` after a proper close. */
const bootFile = (dir: string) => join(dir, 'boot')

function recoverAfterReboot({ dir, bootId, durability, logger = silentLogger }: LmdbStoreOptions): void {
  const last = existsSync(bootFile(dir)) ? readFileSync(bootFile(dir), 'utf8') : 'clean'
  if (bootId !== undefined && last !== 'clean' && last !== bootId && existsSync(checkpointFile(dir))) {
    logger.warn('the machine went down while the store was open: going on from its last checkpoint', { dir })
    rmSync(`${dataFile(dir)}-lock`, { force: true })
    const half = `${dataFile(dir)}.new`
    copyFileSync(checkpointFile(dir), half)
    syncPath(half)
    renameSync(half, dataFile(dir))
  }
  // a store that syncs every commit is never behind its file, so no later opening must prefer the checkpoint
  writeFileSync(bootFile(dir), durability === 'commit' ? 'clean' : (bootId ?? 'clean'))
  syncPath(bootFile(dir))
}

/** lmdb crashes the process on a file that is none of its own, so its magic number is looked at first (`MDB_MAGIC` in mdb.c). */
function refuseForeignFile(path: string): void {
  if (!existsSync(path)) return
  const head = Buffer.alloc(28)
  const fd = openSync(path, 'r')
  const length = readSync(fd, head, 0, head.length, 0)
  closeSync(fd)
  // an empty file is a database that was being made when the engine died
  if (length > 0 && (length < head.length || head.readUInt32LE(24) !== 0xbeefc0de)) throw new Error(`${path} is not a database`)
}

function syncPath(path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

class LmdbStore implements Store {
  readonly #db: RootDatabase<string, Key>
  readonly #options: LmdbStoreOptions
  readonly #clock: Clock
  #depth = 0
  #closing: Promise<void> | undefined
  /** Counts commits; `#synced` is the count that is on disk. */
  #commits = 0
  #synced = 0
  #syncing: Promise<void> = Promise.resolve()
  #cancelTimer: (() => void) | undefined

  constructor(options: LmdbStoreOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    // strings, not objects: get() must hand out fresh copies, and both stores must agree on what a value is
    const common = { path: dataFile(options.dir), noSubdir: true, encoding: 'string', mapSize: MAP_BYTES, maxDbs: 1 } as const
    this.#db = open<string, Key>(options.durability === 'commit' ? { ...common, overlappingSync: false } : { ...common, noSync: true })
  }

  get<T>(key: string): T | undefined {
    this.#checkOpen()
    checkKey(key)
    const text = this.#db.get(key)
    return text === undefined ? undefined : decodeValue<T>(text)
  }

  put(key: string, value: unknown): void {
    this.#checkOpen()
    checkKey(key)
    const text = encodeValue(key, value)
    this.#write(() => void this.#db.put(key, text))
  }

  remove(key: string): void {
    this.#checkOpen()
    checkKey(key)
    this.#write(() => void this.#db.remove(key))
  }

  list<T>(prefix: string): [string, T][] {
    this.#checkOpen()
    if (prefix !== '') checkKey(prefix)
    // read to the end before decoding: a reader that stays open would pin old pages
    const range = prefix === '' ? {} : { start: prefix, end: prefix + LAST_CODE_POINT }
    const rows = [...this.#db.getRange(range)]
    return rows.map(({ key, value }) => [key as string, decodeValue<T>(value)])
  }

  transaction(fn: () => void): void {
    this.#checkOpen()
    this.#commit(() => checkSynchronous(fn()))
  }

  async flush(): Promise<void> {
    this.#checkOpen()
    await this.#sync()
  }

  close(): Promise<void> {
    this.#closing ??= this.#finish()
    return this.#closing
  }

  async #finish(): Promise<void> {
    this.#cancelTimer?.()
    await this.#sync()
    await this.#db.close()
    writeFileSync(bootFile(this.#options.dir), 'clean')
  }

  /** Inside a transaction a write joins it; outside it is one of its own. */
  #write(fn: () => void): void {
    if (this.#depth > 0) fn()
    else this.#commit(fn)
  }

  #commit(fn: () => void): void {
    this.#depth++
    try {
      this.#db.transactionSync(fn, ABORTABLE_SYNC)
    } finally {
      this.#depth--
    }
    if (this.#depth > 0) return
    this.#commits++
    if ((this.#options.durability ?? 'background') === 'background') {
      this.#cancelTimer ??= this.#clock.after(this.#options.syncDelayMs ?? 500, () => {
        this.#cancelTimer = undefined
        this.#sync().catch((error) =>
          (this.#options.logger ?? silentLogger).error('the store could not be synced', { error: messageOf(error) }),
        )
      })
    }
  }

  /** Syncs are chained, so that one that was asked for after a write covers that write. */
  #sync(): Promise<void> {
    const run = this.#syncing.catch(() => {}).then(() => this.#syncOnce())
    this.#syncing = run
    return run
  }

  async #syncOnce(): Promise<void> {
    const upTo = this.#commits
    if (upTo === this.#synced) return
    const { dir, durability } = this.#options
    if (durability !== 'commit') await syncFile(dataFile(dir))
    if (durability !== 'none') {
      const half = `${checkpointFile(dir)}.new`
      rmSync(half, { force: true })
      await this.#db.backup(half, true)
      await syncFile(half)
      await rename(half, checkpointFile(dir))
      await syncFile(dir)
    }
    this.#synced = upTo
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw closedError()
  }
}

async function syncFile(path: string): Promise<void> {
  const file = await openFile(path, 'r')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

/**
 * libnftables in this process: text in, text out, one kernel transaction for each call. It takes half a millisecond where an `nft`
 * process takes ten. For single set elements `kernel/nft.ts` speaks netlink itself, which is ten times faster still.
 */
import koffi, { type LibraryHandle } from 'koffi'
import { type ErrorCode, NetError } from '../base/errors.ts'
import { keepFromChildren } from './descriptors.ts'
import { inNetns, type Netns } from './netns.ts'

type Context = unknown

interface Library {
  readonly contextNew: (flags: number) => Context
  readonly contextFree: (context: Context) => void
  readonly bufferOutput: (context: Context) => number
  readonly bufferError: (context: Context) => number
  readonly output: (context: Context) => string
  readonly error: (context: Context) => string
  readonly setFlags: (context: Context, flags: number) => void
  readonly run: (context: Context, text: string) => number
}

const NFT_CTX_OUTPUT_JSON = 1 << 4

let loaded: Library | undefined

/** Loaded at first use, so that programs which never touch the firewall do not need the library. */
function library(): Library {
  if (loaded !== undefined) return loaded
  let lib: LibraryHandle
  try {
    lib = koffi.load('libnftables.so.1')
  } catch (cause) {
    throw new NetError('unavailable', 'Cannot load "libnftables.so.1": install the package libnftables1 (Debian) or nftables', {}, cause)
  }
  loaded = {
    contextNew: lib.func('void *nft_ctx_new(uint32_t flags)'),
    contextFree: lib.func('void nft_ctx_free(void *ctx)'),
    bufferOutput: lib.func('int nft_ctx_buffer_output(void *ctx)'),
    bufferError: lib.func('int nft_ctx_buffer_error(void *ctx)'),
    output: lib.func('const char *nft_ctx_get_output_buffer(void *ctx)'),
    error: lib.func('const char *nft_ctx_get_error_buffer(void *ctx)'),
    setFlags: lib.func('void nft_ctx_output_set_flags(void *ctx, unsigned int flags)'),
    run: lib.func('int nft_run_cmd_from_buffer(void *ctx, const char *buf)'),
  }
  return loaded
}

const CODES: readonly (readonly [sentence: RegExp, code: ErrorCode, errno: string])[] = [
  [/No such file or directory/, 'not-found', 'ENOENT'],
  [/File exists/, 'conflict', 'EEXIST'],
  [/Device or resource busy/, 'busy', 'EBUSY'],
  [/Operation not permitted/, 'denied', 'EPERM'],
  [/Operation not supported/, 'unavailable', 'EOPNOTSUPP'],
]

/** `file:line:columns: Error: sentence` and the line under it, in one line. */
function sentenceOf(error: string): string {
  return error
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/^[\^~\s]+$/.test(line))
    .join(' | ')
}

/** One context, bound for life to the namespace in which it was opened. */
export class Libnftables {
  readonly #ns: Netns | undefined
  #context: Context | undefined

  private constructor(context: Context, ns: Netns | undefined) {
    this.#context = context
    this.#ns = ns
  }

  /** Opens a context in `ns`, or in this process's own namespace. Throws `unavailable` when the library is missing. */
  static open(ns?: Netns): Libnftables {
    const lib = library()
    const make = (): { context: Context } => ({ context: lib.contextNew(0) })
    const { context } = ns === undefined ? make() : inNetns(ns, make)
    keepFromChildren() // libmnl's mnl_socket_open() does not ask for close-on-exec
    if (context === null || lib.bufferOutput(context) !== 0 || lib.bufferError(context) !== 0)
      throw new NetError('internal', 'Cannot open libnftables: it gave no context')
    return new Libnftables(context, ns)
  }

  /**
   * Runs commands in nft's language as one transaction and returns what they print. Throws NetError with libnftables' own sentence;
   * `detail.errno` is set for missing and existing things. Nothing was changed then.
   */
  run(text: string): string {
    return this.#run(text, 0)
  }

  /** The same with JSON output, parsed; undefined when the commands print nothing. */
  runJson(text: string): unknown {
    const out = this.#run(text, NFT_CTX_OUTPUT_JSON)
    return out.trim() === '' ? undefined : JSON.parse(out)
  }

  #run(text: string, flags: number): string {
    const context = this.#context
    if (context === undefined) throw new NetError('internal', 'Cannot use libnftables: it is closed')
    const lib = library()
    lib.setFlags(context, flags)
    // Interface names are looked up by a socket that the library opens during the call, so the call belongs inside as well.
    const call = () => lib.run(context, text)
    const failed = (this.#ns === undefined ? call() : inNetns(this.#ns, call)) !== 0
    const output = lib.output(context)
    if (!failed) return output
    const kernel = sentenceOf(lib.error(context))
    const [, code, errno] = CODES.find(([pattern]) => pattern.test(kernel)) ?? [undefined, 'invalid' as const, undefined]
    const detail = errno === undefined ? { op: 'apply nftables rules', kernel } : { op: 'apply nftables rules', kernel, errno }
    throw new NetError(code, `Cannot apply nftables rules: ${kernel}`, detail)
  }

  /** Idempotent. */
  close(): void {
    if (this.#context === undefined) return
    library().contextFree(this.#context)
    this.#context = undefined
  }
}

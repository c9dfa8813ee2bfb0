/**
 * What the CNI executable does, as instructions of a {@link Machine}:
 *
 *   1. connect to the engine's socket; when nobody is there, become `causeway cni exec`, which does the work itself: nothing has been
 *      read from standard input yet, so that program finds all of it
 *   2. send the request: a mark, the environment variables that begin with `CNI_`, an empty one, standard input to its end, a zero
 *   3. copy the answer to standard output (or standard error) and exit with the status that it names
 *
 * The engine going away in the middle, or staying silent, is an answer of its own: CNI's error 11, "try again later". Linux sends no
 * EINTR to a program without signal handlers, so no call is repeated.
 */
import { ANSWER_HEADER_BYTES, ANSWER_MARK, REQUEST_MARK } from '../frames.ts'
import type { Label, Machine, Register } from './machine.ts'

export interface StubOptions {
  /** The engine's socket. */
  readonly socket: string
  /** Program and arguments that do the work when the engine is away; the first is an absolute path. */
  readonly fallback: readonly string[]
  /** Seconds to wait for the engine's answer. */
  readonly timeoutSeconds: number
}

/** Room for the longest environment variable that Linux passes (MAX_ARG_STRLEN), on the stack. */
const BUFFER_BYTES = 128 * 1024
const AF_UNIX = 1
const SOCK_STREAM_CLOEXEC = 1 | 0o2000000
const SOL_SOCKET = 1
const SO_RCVTIMEO = 20
const SO_SNDTIMEO = 21
const MSG_NOSIGNAL = 0x4000
/** sun_path of unix(7), its closing zero included. */
const SOCKET_PATH_BYTES = 108

const encoder = new TextEncoder()

/** CNI's error answers that need no engine. */
function errorText(code: number, msg: string, details: string): string {
  return `${JSON.stringify({ code, msg, details })}\n`
}

/** Registers that keep their meaning through the whole program. */
const ENVIRONMENT: Register = 's0' // next pointer of envp
const SOCKET: Register = 's1'
const BUFFER: Register = 's2' // its first byte
const USED: Register = 's3' // bytes in it
const LIMIT: Register = 's4' // its size; later: bytes of the answer still to come
const EXTRA: Register = 's5' // length of the current variable; later: status and descriptor

/** Emits the program and its data; the entry point is the first byte. Throws when the socket's path does not fit. */
export function emitStub(machine: Machine, options: StubOptions): void {
  const path = encoder.encode(options.socket)
  if (path.length >= SOCKET_PATH_BYTES)
    throw new Error(`the socket's path has ${path.length} bytes, a Unix socket's can have ${SOCKET_PATH_BYTES - 1}`)
  const stub = new StubProgram(machine, options, path)
  stub.emitEntry()
  stub.emitConnect()
  stub.emitRequest()
  stub.emitAnswer()
  stub.emitLost()
  stub.emitAway()
  stub.emitData()
}

const label = (name: string): Label => ({ name })

/** The program's parts. Each emits its instructions where the last one ended, so their order is the program. */
class StubProgram {
  readonly #machine: Machine
  readonly #options: StubOptions
  readonly #path: Uint8Array
  readonly #lostText: string
  readonly #awayText: string
  /** Nobody is at the socket. */
  readonly #away = label('away')
  /** The engine closed the connection, or was silent. */
  readonly #lost = label('lost')
  readonly #data = {
    address: label('socket address'),
    mark: label('request mark'),
    seconds: label('time limit'),
    program: label('program'),
    arguments: label('arguments'),
    lostText: label('lost text'),
    awayText: label('away text'),
  }

  constructor(machine: Machine, options: StubOptions, path: Uint8Array) {
    this.#machine = machine
    this.#options = options
    this.#path = path
    this.#lostText = errorText(11, 'the engine did not answer', `The engine at ${options.socket} closed the connection or was silent`)
    this.#awayText = errorText(
      11,
      'the engine is not running',
      `Nothing answers at ${options.socket}, and ${options.fallback[0] ?? 'nothing'} cannot be started in its place`,
    )
  }

  /** The stack holds argc, then argv, a null pointer, envp, a null pointer. */
  emitEntry(): void {
    const machine = this.#machine
    machine.stackPointer(ENVIRONMENT)
    machine.load64('t0', ENVIRONMENT)
    for (let eight = 0; eight < 8; eight++) machine.add(ENVIRONMENT, 't0')
    machine.addNumber(ENVIRONMENT, 16)
    machine.reserveStack(BUFFER_BYTES)
    machine.stackPointer(BUFFER)
    machine.set(LIMIT, BUFFER_BYTES)
  }

  emitConnect(): void {
    const machine = this.#machine
    machine.set('a0', AF_UNIX)
    machine.set('a1', SOCK_STREAM_CLOEXEC)
    machine.set('a2', 0)
    machine.systemCall('socket')
    machine.jumpIfNegative('a0', this.#away)
    machine.move(SOCKET, 'a0')
    // an engine that is stuck must not hold the runtime for ever, whether in connect, in sending or in waiting
    for (const limit of [SO_RCVTIMEO, SO_SNDTIMEO]) {
      machine.move('a0', SOCKET)
      machine.set('a1', SOL_SOCKET)
      machine.set('a2', limit)
      machine.address('a3', this.#data.seconds)
      machine.set('a4', 16)
      machine.systemCall('setsockopt')
    }
    machine.move('a0', SOCKET)
    machine.address('a1', this.#data.address)
    machine.set('a2', 2 + this.#path.length + 1)
    machine.systemCall('connect')
    machine.jumpIfNegative('a0', this.#away)
  }

  /** The mark, the variables, an empty one, standard input to its end, a zero. */
  emitRequest(): void {
    this.#mark()
    this.#variables()
    this.#appendZero('after variables')
    this.#input()
    this.#appendZero('after input')
    this.#flush('rest')
  }

  emitAnswer(): void {
    this.#readHeader()
    this.#copyBody()
    this.#machine.move('a0', EXTRA)
    this.#machine.systemCall('exit_group')
  }

  emitLost(): void {
    this.#machine.code.place(this.#lost)
    this.#printAndExit(this.#data.lostText, encoder.encode(this.#lostText).length)
  }

  /** The other program's environment is the one that this program was given. */
  emitAway(): void {
    const machine = this.#machine
    machine.code.place(this.#away)
    machine.address('a0', this.#data.program)
    machine.address('a1', this.#data.arguments)
    machine.move('a2', ENVIRONMENT)
    machine.systemCall('execve')
    this.#printAndExit(this.#data.awayText, encoder.encode(this.#awayText).length)
  }

  emitData(): void {
    const { code } = this.#machine
    const text = (at: Label, content: string, zero: boolean) => {
      code.place(at)
      code.emit(...encoder.encode(content), ...(zero ? [0] : []))
    }
    code.align(8)
    code.place(this.#data.seconds) // struct timeval
    code.word(this.#options.timeoutSeconds)
    for (let words = 0; words < 3; words++) code.word(0)
    code.place(this.#data.address) // struct sockaddr_un
    code.emit(AF_UNIX, 0, ...this.#path, 0)
    text(this.#data.mark, REQUEST_MARK, false)
    text(this.#data.lostText, this.#lostText, false)
    text(this.#data.awayText, this.#awayText, false)
    const words = this.#options.fallback.map((word, i) => {
      const at = i === 0 ? this.#data.program : label(`argument ${i}`)
      text(at, word, true)
      return at
    })
    if (words.length === 0) text(this.#data.program, '', true)
    code.align(8)
    code.place(this.#data.arguments)
    for (const word of words) code.pointer(word)
    code.pointer(undefined)
  }

  /** Goes into the buffer, so that mark, variables and a short input are one packet. */
  #mark(): void {
    const machine = this.#machine
    machine.address('a1', this.#data.mark)
    machine.set('a2', REQUEST_MARK.length)
    machine.set(USED, 0)
    machine.move(EXTRA, 'a2')
    this.#copyVariable()
  }

  /** Each variable that begins with "CNI_", closing zero included. */
  #variables(): void {
    const machine = this.#machine
    const nextVariable = label('next variable')
    const variablesDone = label('variables done')
    machine.code.place(nextVariable)
    machine.load64('a1', ENVIRONMENT)
    machine.jumpIfZero('a1', variablesDone)
    machine.addNumber(ENVIRONMENT, 8)
    for (const [at, letter] of [...'CNI_'].entries()) {
      machine.load8('t0', 'a1', at)
      machine.set('t1', letter.charCodeAt(0))
      machine.jumpIf('t0', 'notEqual', 't1', nextVariable)
    }
    const measure = label('measure')
    machine.move('a2', 'a1')
    machine.code.place(measure)
    machine.load8('t0', 'a2', 0)
    machine.addNumber('a2', 1)
    machine.jumpIfNotZero('t0', measure)
    machine.subtract('a2', 'a1')
    machine.move(EXTRA, 'a2')
    // room for it? else what is collected goes first; Linux passes none that is longer than the buffer
    const fits = label('fits')
    machine.move('t0', USED)
    machine.add('t0', EXTRA)
    machine.jumpIf('t0', 'atMost', LIMIT, fits)
    this.#flush('variables')
    machine.addNumber(ENVIRONMENT, -8) // and the variable is read again
    machine.jump(nextVariable)
    machine.code.place(fits)
    this.#copyVariable()
    machine.jump(nextVariable)
    machine.code.place(variablesDone)
  }

  /** Standard input to its end; what has been read goes out when the buffer is full. */
  #input(): void {
    const machine = this.#machine
    const readInput = label('read input')
    const inputDone = label('input done')
    const hasRoom = label('has room')
    machine.jumpIfZero(SOCKET, inputDone) // standard input was closed: the socket has its number
    machine.code.place(readInput)
    machine.jumpIf(USED, 'notEqual', LIMIT, hasRoom)
    this.#flush('input')
    machine.code.place(hasRoom)
    machine.set('a0', 0)
    machine.move('a1', BUFFER)
    machine.add('a1', USED)
    machine.move('a2', LIMIT)
    machine.subtract('a2', USED)
    machine.systemCall('read')
    machine.jumpIfZero('a0', inputDone)
    machine.jumpIfNegative('a0', inputDone) // no standard input at all is an empty one
    machine.add(USED, 'a0')
    machine.jump(readInput)
    machine.code.place(inputDone)
  }

  /** Mark, status, descriptor, two bytes unused, length of what follows (32 bits). */
  #readHeader(): void {
    const machine = this.#machine
    const readHeader = label('read header')
    machine.code.place(readHeader)
    machine.move('a0', SOCKET)
    machine.move('a1', BUFFER)
    machine.add('a1', USED)
    machine.set('a2', ANSWER_HEADER_BYTES)
    machine.subtract('a2', USED)
    machine.systemCall('read')
    machine.jumpIfZero('a0', this.#lost)
    machine.jumpIfNegative('a0', this.#lost)
    machine.add(USED, 'a0')
    machine.set('t0', ANSWER_HEADER_BYTES)
    machine.jumpIf(USED, 'notEqual', 't0', readHeader)
    machine.load8('t0', BUFFER, 0)
    machine.set('t1', ANSWER_MARK)
    machine.jumpIf('t0', 'notEqual', 't1', this.#lost)
    machine.load32(LIMIT, BUFFER, 4)
    machine.load8(EXTRA, BUFFER, 1) // status
    machine.load8(ENVIRONMENT, BUFFER, 2) // descriptor
  }

  #copyBody(): void {
    const machine = this.#machine
    const readBody = label('read body')
    const bodyDone = label('body done')
    machine.code.place(readBody)
    machine.jumpIfZero(LIMIT, bodyDone)
    machine.move('a0', SOCKET)
    machine.move('a1', BUFFER)
    machine.set('a2', BUFFER_BYTES)
    machine.systemCall('read')
    machine.jumpIfZero('a0', this.#lost)
    machine.jumpIfNegative('a0', this.#lost)
    machine.subtract(LIMIT, 'a0')
    machine.move(USED, 'a0')
    machine.move('a1', BUFFER)
    const writeBody = label('write body')
    machine.code.place(writeBody)
    machine.jumpIfZero(USED, readBody)
    machine.move('a0', ENVIRONMENT)
    machine.move('a2', USED)
    machine.systemCall('write') // keeps a1
    machine.jumpIfNegative('a0', bodyDone) // nobody reads: the status still counts
    machine.add('a1', 'a0')
    machine.subtract(USED, 'a0')
    machine.jump(writeBody)
    machine.code.place(bodyDone)
  }

  /** One zero byte behind what the buffer holds, which goes out first when it is full. */
  #appendZero(name: string): void {
    const machine = this.#machine
    const fitsZero = label(`${name}: zero fits`)
    machine.jumpIf(USED, 'notEqual', LIMIT, fitsZero)
    this.#flush(name)
    machine.code.place(fitsZero)
    machine.move('t0', BUFFER)
    machine.add('t0', USED)
    machine.set('t1', 0)
    machine.store8('t0', 't1')
    machine.addNumber(USED, 1)
  }

  /** Copies EXTRA bytes from a1 behind what the buffer holds. */
  #copyVariable(): void {
    const machine = this.#machine
    const copy = label('copy')
    machine.move('a2', BUFFER)
    machine.add('a2', USED)
    machine.add(USED, EXTRA)
    machine.code.place(copy)
    machine.load8('t0', 'a1', 0)
    machine.store8('a2', 't0')
    machine.addNumber('a1', 1)
    machine.addNumber('a2', 1)
    machine.addNumber(EXTRA, -1)
    machine.jumpIfNotZero(EXTRA, copy)
  }

  #flush(name: string): void {
    this.#machine.move('a1', BUFFER)
    this.#machine.move('a2', USED)
    this.#sendAll(name)
    this.#machine.set(USED, 0)
  }

  /** Sends a1 (address), a2 (length) to the engine; destroys a0…a5. */
  #sendAll(name: string): void {
    const machine = this.#machine
    const again = label(`${name}: send`)
    const done = label(`${name}: sent`)
    machine.code.place(again)
    machine.jumpIfZero('a2', done)
    machine.move('a0', SOCKET)
    machine.set('a3', MSG_NOSIGNAL)
    machine.set('a4', 0)
    machine.set('a5', 0)
    machine.systemCall('sendto') // keeps a1 and a2 on both machines
    machine.jumpIfNegative('a0', this.#lost)
    machine.add('a1', 'a0')
    machine.subtract('a2', 'a0')
    machine.jump(again)
    machine.code.place(done)
  }

  /** Prints data and exits with 1. */
  #printAndExit(text: Label, length: number): void {
    const machine = this.#machine
    machine.set('a0', 1)
    machine.address('a1', text)
    machine.set('a2', length)
    machine.systemCall('write')
    machine.set('a0', 1)
    machine.systemCall('exit_group')
  }
}

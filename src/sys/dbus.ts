/** A connection to a D-Bus daemon on a unix socket: calls with a time limit, and signals. Never keeps the process alive. */
import { createConnection, type Socket } from 'node:net'
import { NetError } from '../base/errors.ts'
import type { Clock } from '../base/ports.ts'
import { type DbusMessage, type DbusValue, decodeMessage, ERROR, encodeMessage, METHOD_CALL, messageLength, SIGNAL } from '../wire/dbus.ts'

export const SYSTEM_BUS = '/run/dbus/system_bus_socket'

const BUS = { destination: 'org.freedesktop.DBus', path: '/org/freedesktop/DBus', interface: 'org.freedesktop.DBus' }
const ANSWER_MS = 10_000

export interface DbusCall {
  readonly destination: string
  readonly path: string
  readonly interface: string
  readonly member: string
  /** Types of `args`. */
  readonly signature?: string
  readonly args?: readonly DbusValue[]
  readonly timeoutMs?: number
}

interface Waiting {
  readonly resolve: (message: DbusMessage) => void
  readonly reject: (error: NetError) => void
  readonly cancel: () => void
}

export class DbusConnection {
  readonly #socket: Socket
  readonly #clock: Clock
  readonly #waiting = new Map<number, Waiting>()
  #serial = 0
  #received: Uint8Array = new Uint8Array()
  #isClosed = false
  /** Called for every signal that {@link listen} asked for. */
  onSignal: (signal: DbusMessage) => void = () => {}

  private constructor(socket: Socket, clock: Clock) {
    this.#socket = socket
    this.#clock = clock
  }

  /** Connects as this process's user. Throws `unavailable`. */
  static async open(clock: Clock, path: string = SYSTEM_BUS): Promise<DbusConnection> {
    const socket = createConnection({ path })
    socket.unref()
    const connection = new DbusConnection(socket, clock)
    try {
      await connection.#authenticate(path)
      socket.on('data', (chunk) => connection.#receive(chunk))
      await connection.call({ ...BUS, member: 'Hello' })
      return connection
    } catch (error) {
      connection.close()
      throw error
    }
  }

  /** The line protocol before the messages; `EXTERNAL` is the socket's own credentials. */
  #authenticate(path: string): Promise<void> {
    const uid = Buffer.from(String(process.getuid?.() ?? 0)).toString('hex')
    return new Promise((resolve, reject) => {
      let said = ''
      const fail = (why: string) => {
        cancel()
        this.#end(why)
        reject(new NetError('unavailable', `Cannot use the bus at ${path}: ${why}`))
      }
      const cancel = this.#clock.after(ANSWER_MS, () => fail('it does not answer'))
      this.#socket.on('error', (error) => fail(error.message))
      this.#socket.on('close', () => fail('it has closed the connection'))
      const read = (chunk: Buffer) => {
        said += chunk.toString('latin1')
        if (!said.includes('\n')) return
        if (!said.startsWith('OK ')) return fail(`it says ${JSON.stringify(said.trim())}`)
        cancel()
        this.#socket.off('data', read)
        this.#socket.write('BEGIN\r\n')
        resolve()
      }
      this.#socket.on('data', read)
      this.#socket.write(`\0AUTH EXTERNAL ${uid}\r\n`)
    })
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** Calls a method and returns what it answers. Throws `unavailable` when nobody does, else `internal` with the other side's words. */
  async call({ args = [], timeoutMs = ANSWER_MS, ...call }: DbusCall): Promise<readonly DbusValue[]> {
    if (this.#isClosed) throw new NetError('unavailable', `Cannot call ${call.member}: the bus is gone`)
    const serial = ++this.#serial
    const reply = new Promise<DbusMessage>((resolve, reject) => {
      const cancel = this.#clock.after(timeoutMs, () => {
        this.#waiting.delete(serial)
        reject(new NetError('unavailable', `Cannot call ${call.member}: ${call.destination} does not answer`))
      })
      this.#waiting.set(serial, { resolve, reject, cancel })
    })
    this.#socket.write(encodeMessage({ ...call, type: METHOD_CALL, serial, body: args }))
    const { type, errorName, body } = await reply
    if (type !== ERROR) return body
    const isAway = /\.(ServiceUnknown|NameHasNoOwner|NoReply)$/.test(errorName ?? '')
    throw new NetError(isAway ? 'unavailable' : 'internal', `${call.member}: ${String(body[0] ?? errorName)}`, { kernel: errorName ?? '' })
  }

  /** Has the bus deliver signals that match, see "Match Rules" in the specification. */
  async listen(rule: string): Promise<void> {
    await this.call({ ...BUS, member: 'AddMatch', signature: 's', args: [rule] })
  }

  /** Whether somebody has this name on the bus. */
  async isThere(name: string): Promise<boolean> {
    return (await this.call({ ...BUS, member: 'NameHasOwner', signature: 's', args: [name] }))[0] === true
  }

  #receive(chunk: Uint8Array): void {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk])
    try {
      for (;;) {
        const length = messageLength(this.#received)
        if (length === undefined || this.#received.length < length) return
        const message = decodeMessage(this.#received)
        this.#received = this.#received.subarray(length)
        this.#take(message)
      }
    } catch (error) {
      this.#end(String(error)) // what follows cannot be understood either
    }
  }

  #take(message: DbusMessage): void {
    if (message.type === SIGNAL) this.onSignal(message)
    const waiting = this.#waiting.get(message.replySerial ?? 0)
    if (waiting === undefined) return
    this.#waiting.delete(message.replySerial ?? 0)
    waiting.cancel()
    waiting.resolve(message)
  }

  #end(why: string): void {
    this.#isClosed = true
    this.#socket.destroy()
    for (const { reject, cancel } of this.#waiting.values()) {
      cancel()
      reject(new NetError('unavailable', `the bus is gone: ${why}`))
    }
    this.#waiting.clear()
  }

  close(): void {
    this.#end('closed')
  }
}

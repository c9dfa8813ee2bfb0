/**
 * A machine as the stub's program sees it: registers, a handful of instructions, labels. `x86-64.ts` and `aarch64.ts` say which
 * bytes each instruction is; `program.ts` is written once over this interface. There is no call instruction: what would be a
 * subroutine is a function in TypeScript that emits its instructions wherever it is used.
 */

/**
 * Registers by their role. `a0`…`a5` carry the arguments of a system call, and its result comes back in `a0` (negative = -errno).
 * A system call may destroy `t0` and `t1`; it keeps `s0`…`s5`.
 */
export type Register = 'a0' | 'a1' | 'a2' | 'a3' | 'a4' | 'a5' | 's0' | 's1' | 's2' | 's3' | 's4' | 's5' | 't0' | 't1'

/** The system calls that the stub makes. Numbers differ between machines. */
export type SystemCall = 'read' | 'write' | 'socket' | 'setsockopt' | 'connect' | 'sendto' | 'execve' | 'exit_group'

/** Comparisons of two registers as unsigned numbers. */
export type Condition = 'equal' | 'notEqual' | 'above' | 'atMost'

/** A place in the code or in the data behind it; used before or after it is placed. */
export interface Label {
  readonly name: string
}

export interface Machine {
  /** `e_machine` of the ELF header. */
  readonly elfMachine: number
  readonly code: CodeBuffer

  /** register = value (0 to 2^32-1). */
  set(register: Register, value: number): void
  /** to = from. */
  move(to: Register, from: Register): void
  /** to += from. */
  add(to: Register, from: Register): void
  /** to -= from. */
  subtract(to: Register, from: Register): void
  /** register += value (-4095 to 4095). */
  addNumber(register: Register, value: number): void
  /** to = 64 bits at [base]. */
  load64(to: Register, base: Register): void
  /** to = 32 bits at [base + offset], the rest zero. */
  load32(to: Register, base: Register, offset: number): void
  /** to = one byte at [base + offset], the rest zero. */
  load8(to: Register, base: Register, offset: number): void
  /** One byte at [base] = lowest byte of from. */
  store8(base: Register, from: Register): void
  /** to = address of the label. */
  address(to: Register, label: Label): void
  /** to = the stack pointer. */
  stackPointer(to: Register): void
  /** Moves the stack pointer down by `bytes`, a multiple of 4096. */
  reserveStack(bytes: number): void
  jump(label: Label): void
  jumpIfZero(register: Register, label: Label): void
  jumpIfNotZero(register: Register, label: Label): void
  jumpIfNegative(register: Register, label: Label): void
  jumpIf(left: Register, condition: Condition, right: Register, label: Label): void
  /** Arguments are in a0…a5; the result comes in a0. */
  systemCall(call: SystemCall): void
}

/** Writes the distance from the instruction at `at` to its label into the code. */
type Patch = (view: DataView, at: number, distance: number) => void

/** Bytes that grow, labels in them, and the distances that are filled in when all labels are known. */
export class CodeBuffer {
  #bytes: number[] = []
  readonly #places = new Map<Label, number>()
  readonly #fixups: { at: number; label: Label; patch: Patch }[] = []
  readonly #pointers: { at: number; label: Label }[] = []

  get length(): number {
    return this.#bytes.length
  }

  emit(...bytes: readonly number[]): void {
    this.#bytes.push(...bytes)
  }

  /** One little-endian 32-bit word. */
  word(value: number): void {
    this.emit(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24)
  }

  /** The instruction or field at the end so far refers to `label`. */
  refer(at: number, label: Label, patch: Patch): void {
    this.#fixups.push({ at, label, patch })
  }

  /** The label is here. */
  place(label: Label): void {
    if (this.#places.has(label)) throw new Error(`label ${label.name} is placed twice`)
    this.#places.set(label, this.length)
  }

  align(to: number): void {
    while (this.length % to !== 0) this.emit(0)
  }

  /** A 64-bit absolute address of `label`, or 0. */
  pointer(label: Label | undefined): void {
    if (label !== undefined) this.#pointers.push({ at: this.length, label })
    this.emit(0, 0, 0, 0, 0, 0, 0, 0)
  }

  /** The finished bytes for code that is loaded at `origin`. Throws when a label was never placed. */
  finish(origin: number): Uint8Array {
    const out = Uint8Array.from(this.#bytes)
    const view = new DataView(out.buffer)
    const placeOf = (label: Label): number => {
      const place = this.#places.get(label)
      if (place === undefined) throw new Error(`label ${label.name} is used and not placed`)
      return place
    }
    for (const { at, label, patch } of this.#fixups) patch(view, at, placeOf(label) - at)
    for (const { at, label } of this.#pointers) view.setBigUint64(at, BigInt(origin + placeOf(label)), true)
    return out
  }
}

/**
 * x86-64: the bytes of the stub's instructions. Source: Intel SDM volume 2; system calls: arch/x86/entry/syscalls/syscall_64.tbl.
 * Registers are numbered as in the encoding (rax 0, rcx 1, rdx 2, rbx 3, rsp 4, rbp 5, rsi 6, rdi 7, r8 … r15).
 */
import { CodeBuffer, type Condition, type Label, type Machine, type Register, type SystemCall } from './machine.ts'

const NUMBER: Readonly<Record<Register, number>> = {
  a0: 7, // rdi
  a1: 6, // rsi
  a2: 2, // rdx
  a3: 10, // r10
  a4: 8, // r8
  a5: 9, // r9
  s0: 3, // rbx
  s1: 5, // rbp
  s2: 12,
  s3: 13,
  s4: 14,
  s5: 15,
  t0: 0, // rax
  t1: 1, // rcx
}
const RSP = 4
const SYSTEM_CALL: Readonly<Record<SystemCall, number>> = {
  read: 0,
  write: 1,
  socket: 41,
  connect: 42,
  sendto: 44,
  setsockopt: 54,
  execve: 59,
  exit_group: 231,
}
/** Second byte of the near conditional jump. */
const JUMP_IF: Readonly<Record<Condition, number>> = { equal: 0x84, notEqual: 0x85, atMost: 0x86, above: 0x87 }
const JUMP_IF_NEGATIVE = 0x88

export class X86 implements Machine {
  readonly elfMachine = 62 // EM_X86_64
  readonly code = new CodeBuffer()

  /** REX prefix: `wide` = 64-bit operands; the high bits of the register field and of the base or target register. */
  #rex(wide: boolean, register: number, base: number): number {
    return 0x40 | (wide ? 8 : 0) | (register >= 8 ? 4 : 0) | (base >= 8 ? 1 : 0)
  }

  /** opcode with two registers: `target` is read or written, `register` is the other one. */
  #two(opcode: number, target: number, register: number): void {
    this.code.emit(this.#rex(true, register, target), opcode, 0xc0 | ((register & 7) << 3) | (target & 7))
  }

  /** opcode with a register and memory at [base + offset]. */
  #memory(wide: boolean, opcode: readonly number[], register: number, base: number, offset: number): void {
    this.code.emit(this.#rex(wide, register, base), ...opcode, 0x80 | ((register & 7) << 3) | (base & 7))
    if ((base & 7) === RSP) this.code.emit(0x24) // rsp and r12 need a SIB byte that names them as base, without index
    this.code.word(offset)
  }

  /** A 32-bit distance from the end of the instruction, which is the end of the distance itself. */
  #distance(label: Label): void {
    const at = this.code.length
    this.code.word(0)
    this.code.refer(at, label, (view, place, distance) => view.setInt32(place, distance - 4, true))
  }

  set(register: Register, value: number): void {
    const r = NUMBER[register]
    this.code.emit(this.#rex(false, 0, r), 0xb8 | (r & 7)) // mov r32, imm32: clears the upper half
    this.code.word(value)
  }

  move(to: Register, from: Register): void {
    this.#two(0x89, NUMBER[to], NUMBER[from]) // mov to, from
  }

  add(to: Register, from: Register): void {
    this.#two(0x01, NUMBER[to], NUMBER[from]) // add to, from
  }

  subtract(to: Register, from: Register): void {
    this.#two(0x29, NUMBER[to], NUMBER[from]) // sub to, from
  }

  addNumber(register: Register, value: number): void {
    const r = NUMBER[register]
    this.code.emit(this.#rex(true, 0, r), 0x81, 0xc0 | (r & 7)) // add r64, imm32
    this.code.word(value)
  }

  load64(to: Register, base: Register): void {
    this.#memory(true, [0x8b], NUMBER[to], NUMBER[base], 0) // mov to, [base]
  }

  load32(to: Register, base: Register, offset: number): void {
    this.#memory(false, [0x8b], NUMBER[to], NUMBER[base], offset) // mov to32, [base+offset]
  }

  load8(to: Register, base: Register, offset: number): void {
    this.#memory(false, [0x0f, 0xb6], NUMBER[to], NUMBER[base], offset) // movzx to32, byte [base+offset]
  }

  store8(base: Register, from: Register): void {
    this.#memory(false, [0x88], NUMBER[from], NUMBER[base], 0) // mov byte [base], from8
  }

  address(to: Register, label: Label): void {
    const r = NUMBER[to]
    this.code.emit(this.#rex(true, r, 0), 0x8d, 0x05 | ((r & 7) << 3)) // lea to, [rip + distance]
    this.#distance(label)
  }

  stackPointer(to: Register): void {
    this.#two(0x89, NUMBER[to], RSP) // mov to, rsp
  }

  reserveStack(bytes: number): void {
    this.code.emit(0x48, 0x81, 0xec) // sub rsp, imm32
    this.code.word(bytes)
  }

  jump(label: Label): void {
    this.code.emit(0xe9) // jmp
    this.#distance(label)
  }

  #jumpAfterTest(register: Register, opcode: number, label: Label): void {
    this.#two(0x85, NUMBER[register], NUMBER[register]) // test register, register
    this.code.emit(0x0f, opcode)
    this.#distance(label)
  }

  jumpIfZero(register: Register, label: Label): void {
    this.#jumpAfterTest(register, JUMP_IF.equal, label) // jz
  }

  jumpIfNotZero(register: Register, label: Label): void {
    this.#jumpAfterTest(register, JUMP_IF.notEqual, label) // jnz
  }

  jumpIfNegative(register: Register, label: Label): void {
    this.#jumpAfterTest(register, JUMP_IF_NEGATIVE, label) // js
  }

  jumpIf(left: Register, condition: Condition, right: Register, label: Label): void {
    this.#two(0x39, NUMBER[left], NUMBER[right]) // cmp left, right
    this.code.emit(0x0f, JUMP_IF[condition])
    this.#distance(label)
  }

  systemCall(call: SystemCall): void {
    this.set('t0', SYSTEM_CALL[call])
    this.code.emit(0x0f, 0x05) // syscall: destroys rcx and r11
    this.move('a0', 't0')
  }
}

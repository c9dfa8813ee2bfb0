/**
 * AArch64: the words of the stub's instructions. Source: Arm ARM (DDI 0487) C6.2; system calls: include/uapi/asm-generic/unistd.h.
 * Every instruction is one 32-bit word; register 31 is the stack pointer or zero, depending on the instruction.
 */
import { CodeBuffer, type Condition, type Label, type Machine, type Register, type SystemCall } from './machine.ts'

const NUMBER: Readonly<Record<Register, number>> = {
  a0: 0,
  a1: 1,
  a2: 2,
  a3: 3,
  a4: 4,
  a5: 5,
  s0: 19,
  s1: 20,
  s2: 21,
  s3: 22,
  s4: 23,
  s5: 24,
  t0: 9,
  t1: 10,
}
const X8 = 8
const SP = 31
const SYSTEM_CALL: Readonly<Record<SystemCall, number>> = {
  read: 63,
  write: 64,
  exit_group: 94,
  socket: 198,
  connect: 203,
  sendto: 206,
  setsockopt: 208,
  execve: 221,
}
const CONDITION: Readonly<Record<Condition, number>> = { equal: 0, notEqual: 1, above: 8, atMost: 9 }

export class Aarch64 implements Machine {
  readonly elfMachine = 183 // EM_AARCH64
  readonly code = new CodeBuffer()

  /** An instruction whose distance to a label, in words, takes `bits` bits from bit 5 up (from bit 0 for `b`). */
  #jumpWord(word: number, label: Label, bits: number, shift: number): void {
    const at = this.code.length
    this.code.word(word)
    this.code.refer(at, label, (view, place, distance) => {
      const mask = 2 ** bits - 1
      view.setUint32(place, (word | (((distance >> 2) & mask) << shift)) >>> 0, true)
    })
  }

  #setNumber(register: number, value: number): void {
    this.code.word(0xd2800000 | ((value & 0xffff) << 5) | register) // movz xd, #low
    if (value > 0xffff) this.code.word(0xf2a00000 | ((value >>> 16) << 5) | register) // movk xd, #high, lsl 16
  }

  set(register: Register, value: number): void {
    this.#setNumber(NUMBER[register], value)
  }

  move(to: Register, from: Register): void {
    this.code.word(0xaa0003e0 | (NUMBER[from] << 16) | NUMBER[to]) // orr xd, xzr, xm
  }

  add(to: Register, from: Register): void {
    this.code.word(0x8b000000 | (NUMBER[from] << 16) | (NUMBER[to] << 5) | NUMBER[to]) // add xd, xd, xm
  }

  subtract(to: Register, from: Register): void {
    this.code.word(0xcb000000 | (NUMBER[from] << 16) | (NUMBER[to] << 5) | NUMBER[to]) // sub xd, xd, xm
  }

  addNumber(register: Register, value: number): void {
    const r = NUMBER[register]
    const opcode = value < 0 ? 0xd1000000 : 0x91000000 // sub or add xd, xd, #imm12
    this.code.word(opcode | (Math.abs(value) << 10) | (r << 5) | r)
  }

  load64(to: Register, base: Register): void {
    this.code.word(0xf9400000 | (NUMBER[base] << 5) | NUMBER[to]) // ldr xt, [xn]
  }

  load32(to: Register, base: Register, offset: number): void {
    this.code.word(0xb9400000 | ((offset / 4) << 10) | (NUMBER[base] << 5) | NUMBER[to]) // ldr wt, [xn, #offset]
  }

  load8(to: Register, base: Register, offset: number): void {
    this.code.word(0x39400000 | (offset << 10) | (NUMBER[base] << 5) | NUMBER[to]) // ldrb wt, [xn, #offset]
  }

  store8(base: Register, from: Register): void {
    this.code.word(0x39000000 | (NUMBER[base] << 5) | NUMBER[from]) // strb wt, [xn]
  }

  address(to: Register, label: Label): void {
    const at = this.code.length
    const word = 0x10000000 | NUMBER[to] // adr xd, label: 21 bits of bytes, the lowest two apart
    this.code.word(word)
    this.code.refer(at, label, (view, place, distance) => {
      view.setUint32(place, (word | ((distance & 3) << 29) | (((distance >> 2) & 0x7ffff) << 5)) >>> 0, true)
    })
  }

  stackPointer(to: Register): void {
    this.code.word(0x91000000 | (SP << 5) | NUMBER[to]) // add xd, sp, #0
  }

  reserveStack(bytes: number): void {
    this.code.word(0xd1400000 | ((bytes / 4096) << 10) | (SP << 5) | SP) // sub sp, sp, #pages, lsl 12
  }

  jump(label: Label): void {
    this.#jumpWord(0x14000000, label, 26, 0) // b
  }

  jumpIfZero(register: Register, label: Label): void {
    this.#jumpWord(0xb4000000 | NUMBER[register], label, 19, 5) // cbz
  }

  jumpIfNotZero(register: Register, label: Label): void {
    this.#jumpWord(0xb5000000 | NUMBER[register], label, 19, 5) // cbnz
  }

  jumpIfNegative(register: Register, label: Label): void {
    this.#jumpWord(0xb7f80000 | NUMBER[register], label, 14, 5) // tbnz xt, #63
  }

  jumpIf(left: Register, condition: Condition, right: Register, label: Label): void {
    this.code.word(0xeb00001f | (NUMBER[right] << 16) | (NUMBER[left] << 5)) // cmp xn, xm
    this.#jumpWord(0x54000000 | CONDITION[condition], label, 19, 5) // b.cond
  }

  systemCall(call: SystemCall): void {
    this.#setNumber(X8, SYSTEM_CALL[call])
    this.code.word(0xd4000001) // svc #0
  }
}

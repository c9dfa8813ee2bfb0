/** The CNI executable for a machine: machine code where its instructions are known here, else a Perl script. */
import { Aarch64 } from './aarch64.ts'
import { CODE_ORIGIN, elfFile } from './elf.ts'
import type { Machine } from './machine.ts'
import { perlStub } from './perl.ts'
import { emitStub, type StubOptions } from './program.ts'
import { X86 } from './x86-64.ts'

export type { StubOptions } from './program.ts'

/** `arch` as Node's `process.arch` says it. The bytes of the file to be made executable. */
export function stubFile(arch: string, options: StubOptions): Uint8Array {
  const machine: Machine | undefined = arch === 'x64' ? new X86() : arch === 'arm64' ? new Aarch64() : undefined
  if (machine === undefined) return new TextEncoder().encode(perlStub(options))
  emitStub(machine, options)
  return elfFile(machine.elfMachine, machine.code.finish(CODE_ORIGIN))
}

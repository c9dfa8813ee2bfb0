/** The smallest Linux executable around a piece of code: one read-only, executable segment and a stack. Source: elf(5). */

const ELF_HEADER = 64
const PROGRAM_HEADER = 56
/** The largest page that Linux is built with on either machine. */
const PAGE = 0x10000
const BASE = 0x400000
const CODE_OFFSET = ELF_HEADER + 2 * PROGRAM_HEADER

/** Address at which the code of {@link elfFile} is loaded. */
export const CODE_ORIGIN = BASE + CODE_OFFSET

/** `code` starts with its entry point and was finished for {@link CODE_ORIGIN}. */
export function elfFile(machine: number, code: Uint8Array): Uint8Array {
  const size = CODE_OFFSET + code.length
  const file = new Uint8Array(size)
  const view = new DataView(file.buffer)
  const u16 = (at: number, value: number) => view.setUint16(at, value, true)
  const u32 = (at: number, value: number) => view.setUint32(at, value, true)
  const u64 = (at: number, value: number) => view.setBigUint64(at, BigInt(value), true)

  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0]) // "\x7fELF", 64 bits, little-endian, version 1, System V
  u16(16, 2) // ET_EXEC: loaded where it says
  u16(18, machine)
  u32(20, 1)
  u64(24, CODE_ORIGIN) // entry
  u64(32, ELF_HEADER) // program headers follow
  u16(52, ELF_HEADER)
  u16(54, PROGRAM_HEADER)
  u16(56, 2)
  u16(58, 64) // size of a section header, of which there are none

  const load = ELF_HEADER
  u32(load, 1) // PT_LOAD: the whole file
  u32(load + 4, 5) // readable, executable
  u64(load + 16, BASE)
  u64(load + 24, BASE)
  u64(load + 32, size)
  u64(load + 40, size)
  u64(load + 48, PAGE)

  const stack = ELF_HEADER + PROGRAM_HEADER
  u32(stack, 0x6474e551) // PT_GNU_STACK
  u32(stack + 4, 6) // readable, writable, not executable
  u64(stack + 48, 16)

  file.set(code, CODE_OFFSET)
  return file
}

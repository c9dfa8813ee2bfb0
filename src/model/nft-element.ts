/**
 * One element of an nftables set or map of ours, as plain bytes. Planners make them, `kernel/nft.ts` puts them into the kernel.
 * Key and data are register images: every field of a concatenation starts at a multiple of four bytes and is zero-padded.
 */
import { hex } from '../base/ids.ts'

export type NftVerdict = 'accept' | 'drop' | 'return' | { readonly jump: string } | { readonly goto: string }

export interface NftElement {
  readonly set: string
  readonly key: Uint8Array
  /** Inclusive upper bound in interval sets; every field has its own range. */
  readonly keyEnd?: Uint8Array
  readonly data?: Uint8Array
  readonly verdict?: NftVerdict
  /** Shown by `nft list`: who the element belongs to. Not part of its identity. */
  readonly comment?: string
  /** Which of our two tables; `inet` unless given. */
  readonly family?: 'inet' | 'bridge'
}

/** What makes two elements the same place in the same set: a set holds at most one of them. */
export function elementKey(e: NftElement): string {
  return `${e.family ?? 'inet'} ${e.set} ${hex(e.key)}${e.keyEnd === undefined ? '' : `-${hex(e.keyEnd)}`}`
}

/** Key and value: two elements with equal text are interchangeable. */
export function elementText(e: NftElement): string {
  const verdict = e.verdict
  const action =
    verdict === undefined ? '' : typeof verdict === 'string' ? verdict : 'jump' in verdict ? `jump ${verdict.jump}` : `goto ${verdict.goto}`
  return `${elementKey(e)}${e.data === undefined ? '' : ` : ${hex(e.data)}`}${action === '' ? '' : ` : ${action}`}`
}

/**
 * What turns `have` into `want`: elements with another value are in both lists, so apply `remove` before `add`
 * (as `Nft.change` does, in one transaction).
 */
export function diffElements(have: readonly NftElement[], want: readonly NftElement[]): { add: NftElement[]; remove: NftElement[] } {
  const present = new Map(have.map((e) => [elementText(e), e]))
  const add: NftElement[] = []
  for (const [text, e] of new Map(want.map((w) => [elementText(w), w]))) if (!present.delete(text)) add.push(e)
  return { add, remove: [...present.values()] }
}

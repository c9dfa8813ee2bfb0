/**
 * Legacy links on the default bridge: while both containers run, the linker's hosts file names the target and the target's
 * exposed ports are open to it even with icc=false. One-way.
 */
import type { NftElement } from '../model/nft-element.ts'
import type { SandboxRecord } from './records.ts'
import type { Parts } from './sandbox-parts.ts'

export class LegacyLinks {
  readonly #parts: Parts
  /** What each linker has opened now; which targets run decides. */
  readonly #opened = new Map<string, NftElement[]>()

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** A container came or went: its own links and those to it follow. */
  refresh(changed: SandboxRecord): void {
    const linkers = this.#parts.registry.all().filter((r) => r.legacyLinks.some((l) => l.containerId === changed.containerId))
    if (changed.legacyLinks.length > 0) linkers.push(changed)
    for (const linker of new Set(linkers)) this.#settle(linker)
  }

  #settle(linker: SandboxRecord): void {
    const { registry, attachments, firewall, files } = this.#parts
    const id = linker.containerId
    const runs = registry.has(id)
    const targets = linker.legacyLinks.flatMap((link) => registry.get(link.containerId) ?? [])
    const elements = runs ? targets.flatMap((target) => attachments.linkElements(linker, target)) : []
    firewall.change(elements, this.#opened.get(id) ?? [])
    if (elements.length > 0) this.#opened.set(id, elements)
    else this.#opened.delete(id)
    if (runs) files.updateLinks(linker, (containerId) => attachments.defaultBridgeAddress(registry.get(containerId)))
  }
}

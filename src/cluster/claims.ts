/**
 * What this host has asked the cluster for, kept in the engine's own store: written before the first request and removed after the last,
 * so that whatever happens in between, nothing that was claimed is forgotten.
 */
import type { Store } from '../store/types.ts'
import { CACHE_KEY } from './keys.ts'
import type { ClusterEndpoint } from './model.ts'

export interface Claim {
  readonly endpointId: string
  readonly networkId: string
  readonly name: string
  /**
   * `asked`: a request may be on its way. `held`: ours, and claimed again when the store does not have it. `releasing`: to be freed as
   * soon as the store can be reached.
   */
  readonly state: 'asked' | 'held' | 'releasing'
  /** As granted. */
  readonly endpoint?: ClusterEndpoint
}

export class Claims {
  readonly #store: Store
  readonly #byId = new Map<string, Claim>()
  readonly #perNetwork = new Map<string, number>()

  constructor(store: Store) {
    this.#store = store
    for (const [, claim] of store.list<Claim>(CACHE_KEY.claims)) {
      // whoever asked is gone with the engine that ran then
      const state = claim.state === 'asked' ? 'releasing' : claim.state
      this.#index({ ...claim, state })
    }
  }

  get(endpointId: string): Claim | undefined {
    return this.#byId.get(endpointId)
  }

  list(): readonly Claim[] {
    return [...this.#byId.values()]
  }

  /** An endpoint that lives here: the store has to have it. */
  isHeld(endpointId: string): boolean {
    return this.#byId.get(endpointId)?.state === 'held'
  }

  /** Endpoints of this host live on the network. */
  holdsOn(networkId: string): boolean {
    return (this.#perNetwork.get(networkId) ?? 0) > 0
  }

  put(claim: Claim): void {
    this.#store.put(CACHE_KEY.claim(claim.endpointId), claim)
    this.#unindex(claim.endpointId)
    this.#index(claim)
  }

  remove(endpointId: string): void {
    this.#store.remove(CACHE_KEY.claim(endpointId))
    this.#unindex(endpointId)
  }

  #index(claim: Claim): void {
    this.#byId.set(claim.endpointId, claim)
    if (claim.state === 'held') this.#perNetwork.set(claim.networkId, (this.#perNetwork.get(claim.networkId) ?? 0) + 1)
  }

  #unindex(endpointId: string): void {
    const old = this.#byId.get(endpointId)
    if (old?.state === 'held') this.#perNetwork.set(old.networkId, (this.#perNetwork.get(old.networkId) ?? 1) - 1)
    this.#byId.delete(endpointId)
  }
}

/** Lists of our own routes come bare or below one name. */

/** The first list in the answer. */
export function rowsIn<T>(answer: unknown): readonly T[] {
  if (Array.isArray(answer)) return answer as T[]
  if (typeof answer === 'object' && answer !== null)
    for (const value of Object.values(answer)) if (Array.isArray(value)) return value as T[]
  return []
}

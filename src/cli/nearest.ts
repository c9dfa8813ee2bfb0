/** "Did you mean": the known verb with the fewest typing errors from what was typed. */
import { namesBelow } from './registry.ts'

/** Undefined when nothing is within two edits. */
export function nearest(word: string, path: string): string | undefined {
  let best: string | undefined
  let least = 3
  for (const name of namesBelow(path)) {
    const distance = editDistance(word, name)
    if (distance < least && distance * 2 < word.length) {
      least = distance
      best = name
    }
  }
  return best
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(change, (row[j] as number) + 1, (next[j - 1] as number) + 1))
    }
    row = next
  }
  return row[b.length] as number
}

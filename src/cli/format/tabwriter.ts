/**
 * Aligned columns, with the rules of Go's text/tabwriter: a column is a run of neighbouring lines that have a cell there,
 * a cell is text that a tab ends, and the text behind the last tab of a line is not part of any column.
 */

export interface TabOptions {
  /** Least width of a cell with its padding. */
  readonly minWidth: number
  readonly padding: number
}

/** Docker's settings for its lists. */
const LIST_TABS: TabOptions = { minWidth: 10, padding: 3 }

export function alignTabs(text: string, options: TabOptions = LIST_TABS): string {
  const lines = text.split('\n').map((line) => line.split('\t'))
  const widths = lines.map((): number[] => [])
  measure(lines, widths, 0, lines.length, 0, options)
  return lines
    .map((cells, i) =>
      cells
        .map((cell, j) => (j === cells.length - 1 ? cell : cell + ' '.repeat(Math.max(0, (widths[i]?.[j] ?? 0) - widthOf(cell)))))
        .join(''),
    )
    .join('\n')
}

/** Sets the width of column `column` for every run of lines in [from, to) that has it, then goes one column deeper. */
function measure(lines: readonly string[][], widths: number[][], from: number, to: number, column: number, options: TabOptions): void {
  for (let i = from; i < to; i++) {
    if ((lines[i] as string[]).length - 1 <= column) continue
    let end = i
    let width = options.minWidth
    for (; end < to && (lines[end] as string[]).length - 1 > column; end++)
      width = Math.max(width, widthOf((lines[end] as string[])[column] as string) + options.padding)
    for (let k = i; k < end; k++) (widths[k] as number[])[column] = width
    measure(lines, widths, i, end, column + 1, options)
    i = end - 1
  }
}

function widthOf(text: string): number {
  return [...text].length
}

/** Rows of a table with a header, in Docker's spacing. */
export function formatTable(header: readonly string[], rows: readonly (readonly string[])[], options: TabOptions = LIST_TABS): string {
  return alignTabs([header, ...rows].map((row) => row.join('\t')).join('\n'), options)
}

/** Stops this thread, and with it everything the process does: for a few milliseconds on paths that fail otherwise, nowhere else. */
export function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

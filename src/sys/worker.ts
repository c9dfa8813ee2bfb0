/**
 * Starts a worker thread whose program is a module of this project.
 *
 * In development the modules are TypeScript: a worker does not inherit the loader of the main thread, so a small bootstrap registers it
 * there first. A bundled program starts its own file directly.
 */
import { Worker, type WorkerOptions } from 'node:worker_threads'

/** `module` is the file URL of the worker's program. Errors of the program arrive as the worker's `error` event. */
export function startWorker(module: URL, options: WorkerOptions = {}): Worker {
  if (!module.pathname.endsWith('.ts')) return new Worker(module, options)
  const loader = import.meta.resolve('tsx/esm/api')
  const bootstrap = `import(${JSON.stringify(loader)}).then((m) => { m.register(); return import(${JSON.stringify(module.href)}) })`
  return new Worker(bootstrap, { ...options, eval: true, execArgv: [] })
}

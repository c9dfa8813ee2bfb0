/** Bundles test files and the engine for a virtual machine, in which compiling each source at its first use would take most of the time. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build, type Plugin } from 'esbuild'

const ROOT = resolve(import.meta.dirname, '..')

/** Folder of one bundle; inside the checkout, so that the packages left outside of it are found. */
export interface Bundle {
  readonly dir: string
  /** The engine and the command: what `dist` holds after a build. */
  readonly dist: string
  /** Bundled test files, in the order given. */
  readonly tests: readonly string[]
  remove(): void
}

/** Sources ask for their own place (`import.meta.url`) to find the checkout: a bundle answers as the source would. */
const ownPlace: Plugin = {
  name: 'own-place',
  setup(esbuild) {
    esbuild.onLoad({ filter: /\.ts$/ }, async ({ path }) => {
      const source = await readFile(path, 'utf8')
      const contents = source
        .replaceAll('import.meta.url', JSON.stringify(pathToFileURL(path).href))
        .replaceAll('import.meta.dirname', JSON.stringify(dirname(path)))
        .replaceAll('import.meta.filename', JSON.stringify(path))
      return { contents, loader: 'ts' }
    })
  },
}

/** Bundles `testFiles` (paths from the checkout's root) and the engine as their sources are now. */
export async function bundleForVm(testFiles: readonly string[]): Promise<Bundle> {
  mkdirSync(`${ROOT}/.cache`, { recursive: true })
  const dir = mkdtempSync(`${ROOT}/.cache/vm-`)
  const remove = () => rmSync(dir, { recursive: true, force: true })
  try {
    const dist = join(dir, 'dist')
    const made = spawnSync(process.execPath, [`${ROOT}/tools/bundle.mjs`, dist], { encoding: 'utf8' })
    if (made.status !== 0) throw new Error(`the engine cannot be bundled: ${made.stderr}`)
    const tests = testFiles.map((file, i) => join(dir, `${i}-${basename(file, '.ts')}.mjs`))
    await Promise.all(
      testFiles.map((file, i) =>
        build({
          absWorkingDir: ROOT,
          entryPoints: [file],
          outfile: tests[i] as string,
          bundle: true,
          platform: 'node',
          target: 'node20',
          format: 'esm',
          packages: 'external',
          logLevel: 'silent',
          plugins: [ownPlace],
        }),
      ),
    )
    return { dir, dist, tests, remove }
  } catch (error) {
    remove()
    throw error
  }
}

// Bundles the command into dist/causeway.mjs, split so that a verb loads only its own part, and the engine into dist/daemon.mjs
// with its packages left outside. Beside each goes a list of the sources it was made from, by which bin/causeway
// sees whether it is stale. Run by `npm run build`; takes about a tenth of a second. An argument names another folder than dist.
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const dist = resolve(root, process.argv[2] ?? 'dist')
const common = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  target: 'node20',
  format: 'esm',
  metafile: true,
  legalComments: 'none',
  logLevel: 'warning',
  outExtension: { '.js': '.mjs' },
}
// Packages written for require() call it for Node's own modules.
const banner = { js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);" }

async function bundle(name, entry, options) {
  const { metafile } = await build({ ...common, entryPoints: { [name]: entry }, outdir: dist, ...options })
  const inputs = Object.keys(metafile.inputs).filter((file) => file.startsWith('src/'))
  const bytes = Object.values(metafile.outputs).reduce((sum, output) => sum + output.bytes, 0)
  // Parts of earlier builds go last: a command that runs meanwhile still finds its own.
  const written = new Set(Object.keys(metafile.outputs).map((file) => basename(file)))
  if (options.splitting) for (const file of readdirSync(`${dist}/chunks`)) if (!written.has(file)) rmSync(`${dist}/chunks/${file}`)
  console.log(`dist/${name}: ${inputs.length} sources, ${Math.round(bytes / 1024)} KiB`)
  return inputs
}

function writeInputs(name, inputs) {
  writeFileSync(`${dist}/${name}.inputs.json`, `${JSON.stringify({ inputs: [...new Set(inputs)] })}\n`)
}

mkdirSync(dist, { recursive: true })
const split = { splitting: true, minify: true, chunkNames: 'chunks/[name]-[hash]', banner }
writeInputs('causeway', await bundle('causeway', 'src/cli/main.ts', split))
if (existsSync(`${root}/src/daemon/main.ts`)) {
  // the engine's threads are programs of their own, beside the bundle that starts them
  const thread = { packages: 'external', sourcemap: true, banner, outExtension: { '.js': '.js' } }
  const threads = [
    ...(await bundle('reactor-worker', 'src/sys/reactor-worker.ts', thread)),
    ...(await bundle('dns-worker', 'src/dns/worker.ts', thread)),
  ]
  const engine = await bundle('daemon', 'src/daemon/main.ts', { packages: 'external', sourcemap: true, banner })
  writeInputs('daemon', [...engine, ...threads])
  writeInputs('cni', [...(await bundle('cni', 'src/daemon/cni.ts', { packages: 'external', banner })), ...threads])
}

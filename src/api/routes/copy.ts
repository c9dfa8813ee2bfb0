/** Files of a container: archive (docker cp) and export. */

import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Context } from '../context.ts'
import { emptyOk } from '../context.ts'
import { badRequest } from '../errors.ts'
import { boolParam } from '../query.ts'
import type { ApiOptions, Route, Streamed } from '../types.ts'
import { STREAMED } from '../types.ts'

const STAT_HEADER = 'X-Docker-Container-Path-Stat'

/** `docker cp`: archives of a container's files, there and back. */
export function copyRoutes({ containers }: ApiOptions): Route[] {
  const statHeader = async (ctx: Context): Promise<Record<string, string>> => {
    const stat = await containers.archiveStat(ctx.param('name'), requiredPath(ctx))
    return { [STAT_HEADER]: Buffer.from(JSON.stringify(stat)).toString('base64') }
  }
  return [
    {
      method: 'HEAD',
      path: '/containers/:name/archive',
      handler: async (ctx) => ({ status: 200, headers: await statHeader(ctx) }),
    },
    {
      method: 'GET',
      path: '/containers/:name/archive',
      async handler(ctx) {
        const headers = await statHeader(ctx)
        return sendTar(ctx, await containers.archiveGet(ctx.param('name'), requiredPath(ctx)), headers)
      },
    },
    {
      method: 'PUT',
      path: '/containers/:name/archive',
      async handler(ctx) {
        await containers.archivePut(ctx.param('name'), requiredPath(ctx), ctx.bodyStream, {
          noOverwriteDirNonDir: boolParam(ctx.query, 'noOverwriteDirNonDir'),
          copyUidGid: boolParam(ctx.query, 'copyUIDGID'),
        })
        return emptyOk
      },
    },
    {
      method: 'GET',
      path: '/containers/:name/export',
      handler: async (ctx) => sendTar(ctx, await containers.export(ctx.param('name')), {}, 'application/octet-stream'),
    },
  ]
}

function requiredPath(ctx: Context): string {
  const path = ctx.q('path')
  if (path === '') throw badRequest('Bad parameters: "path" is empty')
  if (path.includes('\0')) throw badRequest('Bad parameters: "path" holds a NUL character')
  return path
}

/** Sends a tar as fast as the client takes it; stops the source when the client goes away. */
export async function sendTar(
  ctx: Context,
  tar: Readable,
  headers: Readonly<Record<string, string>>,
  contentType = 'application/x-tar',
): Promise<Streamed> {
  ctx.begin(200, { 'Content-Type': contentType, ...headers })
  try {
    await pipeline(tar, ctx.res)
  } catch (error) {
    // The head is out, so cutting the connection is the only way to say that the archive is not complete.
    ctx.res.destroy()
    if (!ctx.signal.aborted && (error as NodeJS.ErrnoException).code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error
  }
  return STREAMED
}

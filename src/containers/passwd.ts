/** `Config.User` and HostConfig.GroupAdd as numbers, from the passwd and group files of the container. Pure. */
import { NetError } from '../base/errors.ts'

export interface ProcessUser {
  readonly uid: number
  readonly gid: number
  readonly additionalGids: readonly number[]
  readonly home: string
}

interface Entry {
  readonly name: string
  readonly fields: readonly string[]
}

function entries(text: string): Entry[] {
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const fields = line.split(':')
      return { name: fields[0] ?? '', fields }
    })
}

const numberOf = (text: string | undefined): number | undefined => (text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined)

/**
 * `user`, `uid`, `user:group`, `uid:gid`. Numbers need no entry; names do. A user without an explicit group gets its login group
 * and the groups that list it. Throws `invalid` with the texts of the OCI world's user lookup.
 */
export function resolveUser(user: string, groupAdd: readonly string[], passwd: string, group: string): ProcessUser {
  const users = entries(passwd)
  const groups = entries(group)
  const [userPart = '', groupPart] = user.split(/:(.*)/s)
  const wanted = userPart === '' ? '0' : userPart
  const entry = users.find((u) => u.name === wanted) ?? users.find((u) => u.fields[2] === wanted)
  const uid = numberOf(entry?.fields[2]) ?? numberOf(wanted)
  if (uid === undefined || uid > 2 ** 31 - 1)
    throw new NetError('invalid', `unable to find user ${userPart}: no matching entries in passwd file`)
  const gidOf = (name: string): number => {
    const gid = numberOf((groups.find((g) => g.name === name) ?? groups.find((g) => g.fields[2] === name))?.fields[2]) ?? numberOf(name)
    if (gid === undefined) throw new NetError('invalid', `unable to find group ${name}: no matching entries in group file`)
    return gid
  }
  const explicit = groupPart !== undefined && groupPart !== ''
  const gid = explicit ? gidOf(groupPart) : (numberOf(entry?.fields[3]) ?? 0)
  const listed =
    explicit || entry === undefined
      ? []
      : groups.filter((g) => (g.fields[3] ?? '').split(',').includes(entry.name)).flatMap((g) => numberOf(g.fields[2]) ?? [])
  const additionalGids = [...new Set([gid, ...listed, ...groupAdd.map(gidOf)])]
  return { uid, gid, additionalGids, home: entry?.fields[5] || '/' }
}

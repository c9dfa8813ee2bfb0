/** Images that are a name and an id. */
import { Readable } from 'node:stream'
import { NetError } from '../../src/base/errors.ts'
import type { ImageService, ImageSummary, LoginAnswer, LoginRequest } from '../../src/containers/types.ts'
import { idOf } from './ids.ts'

/** One image to begin with, busybox:latest; archives are taken and counted, not read. */
export class MemoryImages implements ImageService {
  readonly all: ImageSummary[] = [
    {
      id: `sha256:${idOf('image busybox')}`,
      parentId: '',
      repoTags: ['busybox:latest'],
      repoDigests: [],
      created: '2026-01-01T00:00:00Z',
      size: 1_000_000,
      architecture: 'amd64',
      os: 'linux',
      author: '',
      config: { Cmd: ['sh'], Env: ['PATH=/bin'] },
      layers: [`sha256:${idOf('layer')}`],
      comment: '',
      history: [{ created: '2026-01-01T00:00:00Z', created_by: 'import' }],
    },
  ]
  readonly received: Buffer[] = []
  readonly credentials: unknown[] = []
  list(): readonly ImageSummary[] {
    return this.all
  }
  find(ref: string): ImageSummary | undefined {
    const tagged = /:[^/]*$/.test(ref) ? ref : `${ref}:latest`
    return (
      this.all.find((i) => i.id === ref || i.repoTags.includes(tagged)) ??
      this.all.find((i) => ref.length > 3 && i.id.startsWith(`sha256:${ref}`))
    )
  }
  get(ref: string): ImageSummary {
    const found = this.find(ref)
    if (found === undefined) throw new NetError('not-found', `No such image: ${ref}`)
    return found
  }
  async pull(ref: string, tag: string, auth: unknown, progress: (line: Record<string, unknown>) => void): Promise<void> {
    this.credentials.push(auth)
    if (ref === 'nowhere') throw new NetError('not-found', 'pull access denied for nowhere, repository does not exist')
    progress({ status: `Pulling from ${ref}`, id: tag })
    if (ref === 'broken') throw new NetError('internal', 'connection cut')
    progress({ status: 'Downloading', progressDetail: { current: 1, total: 2 }, id: 'abc' })
  }
  async push(ref: string, _tag: string, auth: unknown, progress: (line: Record<string, unknown>) => void): Promise<void> {
    this.get(ref)
    this.credentials.push(auth)
    progress({ status: 'Pushed' })
  }
  async login({ username, password }: LoginRequest): Promise<LoginAnswer> {
    return password === 'right' ? { granted: true, status: `Login Succeeded for ${username}` } : { granted: false, status: 'unauthorized' }
  }
  async load(tar: Readable, progress: (line: Record<string, unknown>) => void): Promise<void> {
    for await (const chunk of tar) this.received.push(chunk as Buffer)
    progress({ stream: 'Loaded image: busybox:latest\n' })
  }
  async save(): Promise<Readable> {
    return Readable.from([Buffer.alloc(2048, 's')])
  }
  async import(tar: Readable, options: { repo?: string; tag?: string }): Promise<string> {
    for await (const chunk of tar) this.received.push(chunk as Buffer)
    const id = `sha256:${idOf(`import ${this.all.length}`)}`
    const template = this.all[0] as ImageSummary
    this.all.push({ ...template, id, repoTags: options.repo === undefined ? [] : [`${options.repo}:${options.tag ?? 'latest'}`] })
    return id
  }
  async importUrl(): Promise<string> {
    throw new NetError('not-implemented', 'nothing is fetched here')
  }
  async commit(): Promise<{ id: string; ref: string }> {
    throw new NetError('not-implemented', 'containers are not committed here')
  }
  async bootstrap(): Promise<string> {
    return (this.all[0] as ImageSummary).id
  }
  async tag(ref: string, repo: string, tag: string): Promise<void> {
    const image = this.get(ref)
    this.all[this.all.indexOf(image)] = { ...image, repoTags: [...image.repoTags, `${repo}:${tag}`] }
  }
  async remove(ref: string): Promise<({ Untagged: string } | { Deleted: string })[]> {
    const image = this.get(ref)
    this.all.splice(this.all.indexOf(image), 1)
    return [{ Untagged: ref }, { Deleted: image.id }]
  }
  async prune(): Promise<{ deleted: { Deleted: string }[]; reclaimed: number }> {
    return { deleted: [], reclaimed: 0 }
  }
}

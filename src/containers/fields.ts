/** Typed reading of the fields of a client's JSON that the contracts leave open. */
import type { HostConfig } from './types.ts'

type Open = Readonly<Record<string, unknown>>

export function num(from: Open | HostConfig, key: string): number {
  const value = from[key]
  return typeof value === 'number' ? value : 0
}

export function text(from: Open | HostConfig, key: string): string {
  const value = from[key]
  return typeof value === 'string' ? value : ''
}

export function flag(from: Open | HostConfig, key: string): boolean {
  return from[key] === true
}

export function strings(from: Open | HostConfig, key: string): readonly string[] {
  const value = from[key]
  return Array.isArray(value) ? value.filter((v): v is string => typeof v === 'string') : []
}

export function object(from: Open | HostConfig, key: string): Open {
  const value = from[key]
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Open) : {}
}

export function objects(from: Open | HostConfig, key: string): readonly Open[] {
  const value = from[key]
  return Array.isArray(value) ? value.filter((v): v is Open => typeof v === 'object' && v !== null) : []
}

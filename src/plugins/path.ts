import type { IncomingMessage } from 'node:http'

const isDecodable = (path: string): boolean => {
  try {
    decodeURIComponent(path)
    return true
  } catch {
    return false
  }
}

/**
 * For Fastify's `rewriteUrl`. A path whose escapes cannot be decoded names nothing, which is a 404 as for any other
 * name of nothing: its escapes are taken literally, so that it goes the usual way.
 */
export function decodableUrl({ url = '/' }: Pick<IncomingMessage, 'url'>): string {
  if (!url.includes('%')) return url
  const end = url.search(/[?#]/)
  const path = end === -1 ? url : url.slice(0, end)
  return isDecodable(path) ? url : path.replaceAll('%', '%25') + url.slice(path.length)
}

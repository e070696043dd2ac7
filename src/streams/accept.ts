/** How much a media type is wanted, from 0 to 1. */
function quality(accept: string, type: string): number {
  for (const range of accept.toLowerCase().split(',')) {
    const [name, ...parameters] = range.split(';').map((part) => part.trim())
    if (name === type) return Number(parameters.find((part) => part.startsWith('q='))?.slice(2) ?? 1)
  }
  return 0
}

/**
 * By this Accept header a stream is wanted more than JSON: a generated client names every media type of the document,
 * and waits for an answer that ends.
 */
export const isStreamWanted = (accept = '') =>
  quality(accept, 'text/event-stream') > quality(accept, 'application/json')

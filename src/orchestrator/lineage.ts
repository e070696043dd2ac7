import { Timeline } from './timeline.ts'

/** One worker was launched as a child of another. */
interface Link {
  readonly child: string
  readonly parent: string
  readonly ordinal: number
  /** A record of that child under that parent is known. */
  held: boolean
}

/**
 * Who descends from whom, by worker id, also through parents that have ended and were forgotten: a link is kept while
 * its child has a record or has children of its own. An id that was launched under several parents has a link to each.
 */
export class Lineage {
  readonly #limit: number
  readonly #onDropped: (child: string, parent: string) => void
  readonly #links = new Timeline<Link>()
  readonly #children = new Map<string, Set<Link>>()
  readonly #parents = new Map<string, Link | Link[]>()

  /** Keeps `limit` links; the oldest is dropped for a new one, and `onDropped` hears of it. */
  constructor(limit: number, onDropped: (child: string, parent: string) => void) {
    this.#limit = limit
    this.#onDropped = onDropped
  }

  get size(): number {
    return this.#links.size
  }

  /** A record of `child` is known from now on. */
  hold(child: string, parent: string): void {
    const known = this.#parentLinks(child).find((link) => link.parent === parent)
    if (known !== undefined) {
      known.held = true
      return
    }
    this.#add(child, parent)
    if (this.#links.size > this.#limit) this.#dropOldest()
  }

  /** The record of `child` under `parent` is no longer known. */
  release(child: string, parent: string): void {
    const link = this.#parentLinks(child).find((candidate) => candidate.parent === parent)
    if (link === undefined) return
    link.held = false
    this.#letGo(link)
  }

  /** The worker itself and every id below it. A cycle ends the walk. */
  descent(root: string): Set<string> {
    const reached = new Set([root])
    for (const id of reached) for (const link of this.#children.get(id) ?? []) reached.add(link.child)
    return reached
  }

  #parentLinks(child: string): readonly Link[] {
    const links = this.#parents.get(child)
    if (links === undefined) return []
    return Array.isArray(links) ? links : [links]
  }

  #add(child: string, parent: string): void {
    const draft = { child, parent, ordinal: 0, held: true }
    const link: Link = Object.assign(draft, { ordinal: this.#links.append(draft) })
    const siblings = this.#children.get(parent)
    if (siblings === undefined) this.#children.set(parent, new Set([link]))
    else siblings.add(link)
    const others = this.#parentLinks(child)
    this.#parents.set(child, others.length === 0 ? link : [...others, link])
  }

  /** Takes out a link that leads to nothing any more, then those above it that were kept for its sake. */
  #letGo(first: Link): void {
    const idle = [first]
    for (let link = idle.pop(); link !== undefined; link = idle.pop()) {
      if (link.held || this.#children.has(link.child)) continue
      this.#remove(link)
      idle.push(...this.#parentLinks(link.parent))
    }
  }

  #remove(link: Link): void {
    this.#links.delete(link.ordinal)
    const siblings = this.#children.get(link.parent)
    siblings?.delete(link)
    if (siblings?.size === 0) this.#children.delete(link.parent)
    const others = this.#parentLinks(link.child).filter((other) => other !== link)
    const [only] = others
    if (only === undefined) this.#parents.delete(link.child)
    else this.#parents.set(link.child, others.length === 1 ? only : others)
  }

  #dropOldest(): void {
    const oldest = this.#links.oldest()
    if (oldest === undefined) return
    this.#remove(oldest)
    this.#onDropped(oldest.child, oldest.parent)
    for (const link of this.#parentLinks(oldest.parent)) this.#letGo(link)
  }
}
